"""Raw frames of a rig: one video, or one folder of images, per camera, told apart by camera name."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from dkp.captures.images import IMAGE_SUFFIXES, read_image
from dkp.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg")


class FrameSource:
    """The frames of one camera, from a video file or a folder of images in natural order of their names.

    Attributes:
        path: file or folder.
        count: number of frames (of a video: as its header says).
        size: (width, height) [px].
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._images: list[Path] | None = None
        if self.path.is_dir():
            self._images = image_files(self.path)
            if not self._images:
                raise InputError(f"{self.path} has no images, expected files ending in {', '.join(IMAGE_SUFFIXES)}")
            height, width = read_image(self._images[0]).shape[:2]
            self.count, self.size = len(self._images), (width, height)
            return
        video = self._opened()
        try:
            self.count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            done, frame = video.read()
        finally:
            video.release()
        if not done:
            raise InputError(f"{self.path} has no frame that can be decoded, expected a video")
        self.size = (frame.shape[1], frame.shape[0])

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
            InputError: a frame is missing, cannot be decoded or has another size.
        """
        if self._images is None:
            yield from self._video_frames(indices)
            return
        for index in indices:
            if not 0 <= index < len(self._images):
                raise InputError(f"{self.path} has {len(self._images)} images, expected one for frame {index}")
            yield index, read_image(self._images[index], self.size)

    def _video_frames(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        video, position = self._opened(), 0
        try:
            for index in indices:
                # Frames are counted by decoding: seeking is not exact in many files.
                while position < index and video.grab():
                    position += 1
                done, frame = video.read() if position == index else (False, None)
                if not done or frame is None:
                    raise InputError(f"{self.path} ends after {position} frames, expected one for frame {index}")
                position += 1
                yield index, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            video.release()


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
    media: str | Path | Sequence[str | Path] | Mapping[str, str | Path], cameras: Sequence[str]
) -> dict[str, FrameSource]:
    """Opens the frames of every camera.

    Args:
        media: a folder with one video or one image folder per camera, matched by name; or the paths in the order of the
            cameras; or camera name -> path.
        cameras: camera names.

    Returns:
        Camera name -> frames, in the order of ``cameras``.

    Raises:
        InputError: a camera has no media or more than one.
    """
    paths = match_names(media, cameras, "a video or a folder of images", _is_media)
    return {name: FrameSource(path) for name, path in paths.items()}


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
