"""Raw frames of a rig: one video, or one folder of images, per camera, told apart by camera name."""

import filecmp
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from dkp.captures.arrays import one_of
from dkp.captures.images import IMAGE_SUFFIXES, OnBad, image_kind, mask_levels, read_image, read_mask
from dkp.errors import InputError
from dkp.importers.media.names import match_names
from dkp.importers.media.patterns import files_by_pattern

logger = logging.getLogger(__name__)

_MOST_UNEVEN = 1.0  # frames by which one may be off the time that its number says
_LOOKED_AT = 8  # images of a folder whose depth is looked at
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg")


class FrameSource:
    """The frames of one camera, from a video file or a folder of images, told apart by their numbers.

    A video's frames are numbered from 0. An image has the number in its name that differs from image to image; where no
    name has one, images are numbered from 0 in natural order of their names.

    Attributes:
        path: file or folder.
        numbers: of its frames, increasing.
        own: those numbers as they are in the file or the files' names, whatever `renumber` made of them.
        size: (width, height) [px].
        rate: frames per second of a video, as its header says; None where unknown.
        steady_rate: the same where the time of the last frame agrees with it, and else None.
        bad: frame number -> what is wrong with it, of the frames that were left out so far.
        uneven: what is said of a video whose frames, so far, are not where its rate puts them in time; else "".
    """

    def __init__(
        self,
        path: str | Path,
        on_bad: OnBad = "raise",
        masks: bool = False,
        images: Mapping[int, Path] | None = None,
    ):
        """Open a video or a folder.

        Args:
            path: file or folder; where images are given, what to call them.
            on_bad: what `frames` does with a frame that cannot be decoded: "raise" ends, "skip" leaves it out.
            masks: whether the frames are masks: `frames` then yields (H, W) bool.
            images: by number, where they are no folder.

        Raises:
            InputError: nothing can be decoded, or images cannot be told apart by number.
        """
        self.path = Path(path)
        self.bad: dict[int, str] = {}
        self._skip = one_of(on_bad, ("skip", "raise"), "--on-bad") == "skip"
        self._masks = masks
        self._images: dict[int, Path] | None = None
        self._own: dict[int, int] | None = None
        self._moments: dict[int, int] | None = None
        self.rate: float | None = None
        self.uneven = ""
        self.steady_rate: float | None = None
        if images is None and not self.path.is_dir():
            self.numbers: Sequence[int] = range(0)
            self._read_video_head()
            self.own: Collection[int] = self.numbers
            return
        self._images = dict(images or numbered(image_files(self.path)))
        if not self._images:
            raise InputError(f"{self.path} has no images, expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        self.numbers, self.own = list(self._images), self._images
        self.size, self._depth = self._image_kind(list(self._images.values()))

    def __contains__(self, number: int) -> bool:
        """Whether the source has a frame of this number."""
        return number in (self.own if self._own is None else self._own)

    def renumber(self, moments: Mapping[int, int]) -> None:
        """Give frames the numbers of their moments; those without one are left out.

        Args:
            moments: a frame's own number -> its moment, both increasing.

        Raises:
            InputError: no frame is left.
        """
        self._moments = {own: moment for own, moment in moments.items() if own in self.own}
        self._own = dict(sorted((moment, own) for own, moment in self._moments.items()))
        self.numbers = list(self._own)
        if not self._own:
            raise InputError(f"{self.path} has {len(self.own)} frames, of which sync leaves none, expected some")

    def moment(self, own: int) -> int | None:
        """Return the number of the frame with an own number, None where `renumber` left it out."""
        return own if self._moments is None else self._moments.get(own)

    def follow(self, frames: "FrameSource", offset: int) -> None:
        """Give masks the numbers of the moments of their frames, plus the offset of their own numbers."""
        moments = {own: frames.moment(own - offset) for own in self.own}
        self.renumber({own: moment + offset for own, moment in moments.items() if moment is not None})

    @property
    def span(self) -> str:
        """The numbers of its frames in words, such as "0 to 11"."""
        return f"{self.numbers[0]} to {self.numbers[-1]}"

    def first_file(self) -> Path:
        """Return the video, or the first image."""
        return self.path if self._images is None else self._images[self.numbers[0]]

    def near(self, numbers: Sequence[int], offset: int) -> list[int]:
        """Return the numbers plus the offset, without those before the first frame and beyond the last one."""
        return [n + offset for n in numbers if self.numbers[0] <= n + offset <= self.numbers[-1]]

    def brightest(self) -> int:
        """Return the largest grey level of the first mask."""
        if self._images is None:
            return max(int(frame.max()) for _, frame in FrameSource(self.path).frames([0]))
        return int(mask_levels(next(iter(self._images.values()))).max())

    def _image_kind(self, images: Sequence[Path]) -> tuple[tuple[int, int], int]:
        """Size of the first image (where bad ones are skipped, of the first good one), and how many bits are used."""
        size, depth = None, 8
        spread = images[:: max(1, len(images) // _LOOKED_AT)]
        for index, image in enumerate([*spread, *images]):
            if index >= len(spread) and size is not None:
                break
            try:
                width, height, bits = image_kind(image)
            except InputError:
                if not self._skip and image == images[0]:
                    raise
                continue
            size, depth = size or (width, height), max(depth, bits)
        if size is None:
            raise InputError(f"{self.path} has {len(images)} images of which none can be decoded, expected frames")
        if 8 < depth < 16 and not self._masks:
            logger.warning("%s: values go up to %d bits in images of 16: taken as the whole range", self.path, depth)
        return size, depth

    def _read_video_head(self) -> None:
        """Find the number of frames, their size and rate; of the header only what holds is believed."""
        video = self._opened()
        try:
            claimed, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
            self.rate = rate if 0 < rate < 1e4 else None
            believable = 0 < claimed < 1e8
            for _ in range(int(claimed) if believable and self._skip else 1):
                done, frame = video.read()
                if done and frame is not None:
                    break
            else:
                raise InputError(f"{self.path} has no frame that can be decoded, expected a video")
            self.size = (frame.shape[1], frame.shape[0])
        finally:
            video.release()
        count, seconds = self._counted(int(claimed) if believable else None)
        self.numbers = range(count)
        if self.rate is not None and abs(seconds * self.rate - (count - 1)) <= _MOST_UNEVEN:
            self.steady_rate = self.rate

    def _counted(self, claimed: int | None) -> tuple[int, float]:
        """Count the frames, and read the time of the last [s]: as the header has it where no other one follows."""
        video = self._opened()
        try:
            if claimed is not None and video.set(cv2.CAP_PROP_POS_FRAMES, claimed - 1):
                there, seconds = video.grab(), video.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if there and not video.grab():
                    return claimed, seconds
                video.release()
                video = self._opened()
            count, seconds = 0, 0.0
            while video.grab():
                count, seconds = count + 1, video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            return max(count, claimed or 0), seconds  # fewer: what is missing is damaged, and named when it is read
        finally:
            video.release()

    def _opened(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise InputError(f"{self.path} is not there, expected a video or a folder of images")
        video = cv2.VideoCapture(str(self.path))
        if not video.isOpened():
            raise InputError(f"{self.path} cannot be opened, expected a video ({', '.join(VIDEO_SUFFIXES)})")
        return video

    def times(self) -> dict[int, float]:
        """Return the time [s] of every frame of a video, as the file has it.

        Raises:
            InputError: the frames are images, or have no times that increase.
        """
        if self._images is not None:
            raise InputError(f"{self.path} has images, which have no times, expected a video")
        video, times = self._opened(), []
        try:
            while video.grab():
                times.append(video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        finally:
            video.release()
        if len(times) < 2 or np.any(np.diff(times) <= 0):
            raise InputError(f"{self.path} has no times of its frames that increase, expected --sync FILE of times")
        return dict(enumerate(times))

    def frames(self, numbers: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, frame (H, W, 3) uint8 RGB, or mask (H, W) bool) for increasing numbers.

        Numbers that are missing between others are passed over.

        Raises:
            InputError: a frame is beyond the last or before the first one, cannot be decoded or has another size,
                unless such frames are skipped.
        """
        wanted = list(numbers)
        for number in wanted:
            if not self.numbers[0] <= number <= self.numbers[-1]:
                raise InputError(
                    f"{self.path} has {len(self.numbers)} frames, {self.span}, expected one for frame {number}"
                )
        moments = {(number if self._own is None else self._own[number]): number for number in wanted if number in self}
        own = list(moments)
        for index, frame in self._video_frames(own) if self._images is None else self._image_frames(own):
            number = moments[index]
            if not isinstance(frame, str):
                yield number, frame
            elif self._skip:
                self.bad[number] = frame
            else:
                raise InputError(f"{frame}; --on-bad skip leaves such frames out")

    def _image_frames(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray | str]]:
        """Yield (number, frame, or what is wrong with it)."""
        images = self._images or {}
        for number in numbers:
            try:
                if self._masks:
                    frame: np.ndarray | str = read_mask(images[number], self.size)
                else:
                    frame = read_image(images[number], self.size, self._depth)
            except InputError as error:
                frame = str(error)
            yield number, frame

    def _video_frames(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray | str]]:
        """Yield (index, frame, or what is wrong with it).

        Frames are counted by decoding: seeking is not exact in many files. After one that was not decoded, the count
        holds only as far as the times of the following ones say so.
        """
        video, position, whole = self._opened(), 0, True
        try:
            for index in indices:
                while position < index:
                    whole = video.grab() and whole
                    position += 1
                done, frame = video.read()
                position += 1
                whole = done and whole
                if not done or frame is None:
                    yield (
                        index,
                        f"{self.path}: frame {index} of {len(self.numbers)} cannot be decoded, expected an image",
                    )
                elif not whole and not _in_time(video, index):
                    yield index, f"{self.path}: after a damaged part, frame {index} cannot be told from its neighbours"
                else:
                    if whole and not self.uneven and self._moments is None:
                        self.uneven = self._out_of_time(video, index)
                    yield index, frame.max(axis=2) > 127 if self._masks else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            video.release()

    def _out_of_time(self, video: cv2.VideoCapture, index: int) -> str:
        """Say that the frame that was just decoded is not where the rate puts it, by more than a frame."""
        seconds = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self.rate is None or abs(seconds * self.rate - index) <= _MOST_UNEVEN:
            return ""
        return (
            f"{self.path}: frames are not evenly spaced in time (frame {index} is at {seconds:.3f} s, by its rate at "
            f"{index / self.rate:.3f} s), so frames of one number may show different moments: --sync times pairs them"
        )


def _in_time(video: cv2.VideoCapture, index: int) -> bool:
    """Whether the frame that was just decoded has the time of this number, in a video that starts at zero."""
    seconds, rate = video.get(cv2.CAP_PROP_POS_MSEC) / 1000, video.get(cv2.CAP_PROP_FPS)
    return rate > 0 and abs(seconds * rate - index) < 0.5


def report_bad(name: str, sources: Sequence[FrameSource]) -> None:
    """Log one warning that counts the frames that were left out, and say what is wrong with the first.

    Args:
        name: of what is imported.
        sources: that were read.
    """
    for source in sources:
        if source.uneven:
            logger.warning("%s", source.uneven)
    bad = [problem for source in sources for _, problem in sorted(source.bad.items())]
    if bad:
        logger.warning("%s: skipped %d of its frames, which cannot be used; the first: %s", name, len(bad), bad[0])


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort "img_2" before "img_10"."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order of their names."""
    found = [
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(found, key=lambda path: natural_key(path.name))


def numbered(images: Sequence[Path]) -> dict[int, Path]:
    """Return frame number -> image, in increasing order.

    The number is the one in the name that differs from image to image, the last one where several do. Images without
    any number in their names are numbered from 0 in the order given.

    Raises:
        InputError: two images have one number, or some have none.
    """
    runs = [[int(run) for run in re.findall(r"\d+", path.stem)] for path in images]
    if not any(runs):
        return dict(enumerate(images))
    alike = len({re.sub(r"\d+", "0", path.stem) for path in images}) == 1
    which = -1
    if alike:
        telling = [i for i in range(len(runs[0])) if len({run[i] for run in runs}) == len(images)]
        which = telling[-1] if telling else -1
    found: dict[int, Path] = {}
    for path, run in zip(images, runs, strict=True):
        if not run:
            raise InputError(f"{path} has no number in its name as the other files have, expected that of its frame")
        if run[which] in found:
            raise InputError(
                f"{path} and {found[run[which]].name} both have the number {run[which]}, expected one file per frame"
            )
        found[run[which]] = path
    return dict(sorted(found.items()))


def open_media(
    media: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    cameras: Sequence[str],
    on_bad: OnBad = "raise",
    masks: bool = False,
) -> dict[str, FrameSource]:
    """Open the frames of every camera.

    Args:
        media: a folder with one video or one image folder per camera, matched by name; or the paths in the order of the
            cameras; or camera name -> path; or a pattern, see `files_by_pattern`.
        cameras: camera names.
        on_bad: see `FrameSource`.
        masks: see `FrameSource`.

    Returns:
        Camera name -> frames, in the order of ``cameras``.

    Raises:
        InputError: a camera has no media or more than one.
    """
    files: Mapping[str, tuple[Path, Mapping[int, Path] | None]]
    if isinstance(media, str | Path) and "{camera}" in str(media):
        files = files_by_pattern(media, cameras)
    else:
        paths = match_names(media, cameras, "a video or a folder of images", _is_media)
        files = {name: (path, None) for name, path in paths.items()}
    with ThreadPoolExecutor() as pool:  # counting a video's frames may mean to decode them
        opened = pool.map(lambda file: FrameSource(file[0], on_bad, masks, file[1]), files.values())
        sources = dict(zip(files, opened, strict=True))
    for first, second in () if masks else combinations(sources.values(), 2):
        if filecmp.cmp(first.first_file(), second.first_file(), shallow=False):
            logger.warning("%s and %s begin with the same bytes: one looks like a copy", first.path, second.path)
    return sources


def _is_media(path: Path) -> bool:
    if path.is_dir():
        return any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir())
    return path.suffix.lower() in VIDEO_SUFFIXES
