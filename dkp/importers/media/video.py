"""Raw frames of a rig: one video, or one folder of images, per camera, told apart by camera name."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from dkp.captures.arrays import one_of
from dkp.captures.images import IMAGE_SUFFIXES, OnBad, read_image
from dkp.errors import InputError

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg")


class FrameSource:
    """The frames of one camera, from a video file or a folder of images in natural order of their names.

    Attributes:
        path: file or folder.
        count: number of frames (of a video: as its header says).
        size: (width, height) [px].
        bad: frame number -> what is wrong with it, of the frames that were left out so far.
    """

    def __init__(self, path: str | Path, on_bad: OnBad = "raise"):
        """Opens a video or a folder.

        Args:
            path: file or folder.
            on_bad: what `frames` does with a frame that cannot be decoded: "raise" ends, "skip" leaves it out.

        Raises:
            InputError: nothing can be decoded.
        """
        self.path = Path(path)
        self.bad: dict[int, str] = {}
        self._skip = one_of(on_bad, ("skip", "raise"), "on_bad") == "skip"
        self._images = image_files(self.path) if self.path.is_dir() else None
        if self._images is None:
            self.count, self.size = self._video_head()
            return
        if not self._images:
            raise InputError(f"{self.path} has no images, expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        self.count, self.size = len(self._images), self._image_size(self._images)

    def _image_size(self, images: Sequence[Path]) -> tuple[int, int]:
        """Size of the first image; where bad ones are skipped, of the first one that can be decoded."""
        for image in images:
            try:
                height, width = read_image(image).shape[:2]
            except InputError:
                if not self._skip:
                    raise
            else:
                return width, height
        raise InputError(f"{self.path} has {len(images)} images of which none can be decoded, expected frames")

    def _video_head(self) -> tuple[int, tuple[int, int]]:
        """Number of frames as the header has it, and the size of the first one that can be decoded."""
        video = self._opened()
        try:
            count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            for _ in range(max(1, count) if self._skip else 1):
                done, frame = video.read()
                if done and frame is not None:
                    return count, (frame.shape[1], frame.shape[0])
        finally:
            video.release()
        raise InputError(f"{self.path} has no frame that can be decoded, expected a video")

    def _opened(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise InputError(f"{self.path} is not there, expected a video or a folder of images")
        video = cv2.VideoCapture(str(self.path))
        if not video.isOpened():
            raise InputError(f"{self.path} cannot be opened, expected a video ({', '.join(VIDEO_SUFFIXES)})")
        return video

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, frame (H, W, 3) uint8 RGB) for increasing indices.

        Raises:
            InputError: a frame is missing, cannot be decoded or has another size, unless such frames are skipped.
        """
        for index in indices:
            if not 0 <= index < self.count:
                raise InputError(f"{self.path} has {self.count} frames, expected one for frame {index}")
        for index, frame in self._video_frames(indices) if self._images is None else self._image_frames(indices):
            if not isinstance(frame, str):
                yield index, frame
            elif self._skip:
                self.bad[index] = frame
            else:
                raise InputError(f"{frame}; on_bad skip leaves such frames out")

    def _image_frames(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray | str]]:
        """Yields (index, frame, or what is wrong with it)."""
        images = self._images or []
        for index in indices:
            try:
                frame: np.ndarray | str = read_image(images[index], self.size)
            except InputError as error:
                frame = str(error)
            yield index, frame

    def _video_frames(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray | str]]:
        """Yields (index, frame, or what is wrong with it).

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
                    yield index, f"{self.path}: frame {index} of {self.count} cannot be decoded, expected an image"
                elif not whole and not _in_time(video, index):
                    yield index, f"{self.path}: after a damaged part, frame {index} cannot be told from its neighbours"
                else:
                    yield index, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            video.release()


def _in_time(video: cv2.VideoCapture, index: int) -> bool:
    """Whether the frame that was just decoded has the time of this number, in a video that starts at zero."""
    seconds, rate = video.get(cv2.CAP_PROP_POS_MSEC) / 1000, video.get(cv2.CAP_PROP_FPS)
    return rate > 0 and abs(seconds * rate - index) < 0.5


def report_bad(name: str, sources: Iterable[FrameSource]) -> None:
    """Logs one warning that counts the frames that were left out, and says what is wrong with the first.

    Args:
        name: of what is imported.
        sources: that were read.
    """
    bad = [problem for source in sources for _, problem in sorted(source.bad.items())]
    if bad:
        logger.warning("%s: skipped %d of its frames, which cannot be used; the first: %s", name, len(bad), bad[0])


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts "img_2" before "img_10"."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)


def image_files(folder: Path) -> list[Path]:
    """Returns the images of a folder in natural order of their names."""
    found = [
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(found, key=lambda path: natural_key(path.name))


def open_media(
    media: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    cameras: Sequence[str],
    on_bad: OnBad = "raise",
) -> dict[str, FrameSource]:
    """Opens the frames of every camera.

    Args:
        media: a folder with one video or one image folder per camera, matched by name; or the paths in the order of the
            cameras; or camera name -> path.
        cameras: camera names.
        on_bad: see `FrameSource`.

    Returns:
        Camera name -> frames, in the order of ``cameras``.

    Raises:
        InputError: a camera has no media or more than one.
    """
    paths = match_names(media, cameras, "a video or a folder of images", _is_media)
    return {name: FrameSource(path, on_bad) for name, path in paths.items()}


def _is_media(path: Path) -> bool:
    if path.is_dir():
        return any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir())
    return path.suffix.lower() in VIDEO_SUFFIXES


def match_names(
    given: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    cameras: Sequence[str],
    kind: str,
    accept: Callable[[Path], bool] = Path.exists,
) -> dict[str, Path]:
    """Finds each camera's path.

    A file or folder belongs to a camera when their names are equal once case, separators and leading zeros of numbers
    are dropped ("Cam-01.mp4", "cam_1"); failing that, when it is the only one whose name contains the camera's
    ("cam01_json", "session_cam1.mp4").

    Args:
        given: a folder, a list in the order of the cameras, or camera name -> path.
        cameras: camera names.
        kind: what is looked for, for messages.
        accept: which entries of the folder count.
    """
    if isinstance(given, Mapping):
        for name in cameras:
            if name not in given:
                raise InputError(f"camera {name!r} has no path, expected {kind} for every camera")
        for name in given:
            if name not in cameras:
                raise InputError(f"{name!r} is given {kind} but is no camera, expected one of {', '.join(cameras)}")
        return {name: Path(given[name]) for name in cameras}
    if not isinstance(given, str | Path):
        paths = [Path(path) for path in given]
        if len(paths) != len(cameras):
            raise InputError(f"{len(paths)} paths are given for {len(cameras)} cameras, expected {kind} for each")
        return dict(zip(cameras, paths, strict=True))
    folder = Path(given)
    if not folder.is_dir():
        raise InputError(
            f"{folder} is {'a file' if folder.exists() else 'not there'}, expected a folder with {kind} per camera"
        )
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and accept(path))
    words = {path: _words(path.name if path.is_dir() else path.stem) for path in entries}
    found: dict[str, Path] = {}
    for name in cameras:
        wanted = _words(name)
        candidates = [path for path in entries if words[path] == wanted]
        if not candidates:
            candidates = [path for path in entries if _contains(words[path], wanted)]
        if len(candidates) != 1:
            names = ", ".join(path.name for path in (candidates or entries)[:8]) or "nothing"
            raise InputError(f"{folder} has {names} for camera {name!r}, expected {kind} with its name")
        if candidates[0] in found.values():
            raise InputError(f"{candidates[0]} fits camera {name!r} and another one, expected {kind} for each")
        found[name] = candidates[0]
    return found


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lstrip("0") or "0" for word in re.findall(r"\d+|[a-z]+", name.lower()))


def _contains(words: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))
