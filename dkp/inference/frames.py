"""What is predicted on: an image, a folder of images of any sizes, or a video; decoded ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from dkp.captures.arrays import parse_slice
from dkp.captures.images import IMAGE_SUFFIXES, OnBad, read_image
from dkp.errors import InputError
from dkp.importers.media.video import VIDEO_SUFFIXES, FrameSource, image_files, numbered

Item = TypeVar("Item")

AHEAD = 4
"""Images that are decoded before they are asked for."""


class Frames:
    """Images with numbers and names.

    Attributes:
        path: file or folder.
        names: number -> name of what is written of it: that of the image, or the number in a video.
        rate: frames per second of a video; None where unknown, and for images.
        is_video: whether they are frames of a video, so that a subject moves little from one to the next.
        bad: what is wrong with those that were left out so far.

    Args:
        path: an image, a folder of images or a video.
        chosen: which frames of a video or images of a folder, as start:stop:step; empty takes all.
        on_bad: what is done with one that cannot be decoded: "raise" ends, "skip" leaves it out.

    Raises:
        InputError: there is none, or two images have one name.
    """

    def __init__(self, path: str | Path, chosen: str = "", on_bad: OnBad = "raise") -> None:
        self.path = Path(path)
        self.rate: float | None = None
        self._skip = on_bad == "skip"
        self._bad: list[str] = []
        self._video: FrameSource | None = None
        self._images: dict[int, Path] = {}
        if not self.path.exists():
            raise InputError(f"{self.path} is not there, expected an image, a folder of images or a video")
        if self.path.is_dir() or self.path.suffix.lower() in IMAGE_SUFFIXES:
            names = self._read_folder()
        else:
            self._video = FrameSource(self.path, on_bad)
            self.rate = self._video.rate
            names = {number: f"{number:06d}" for number in self._video.numbers}
        start, stop, step = parse_slice(chosen, "frames")
        self.names = dict(list(names.items())[start:stop:step])
        if not self.names:
            raise InputError(f"frames is {chosen!r}, which selects none of {len(names)} frames of {self.path}")

    def _read_folder(self) -> dict[int, str]:
        images = image_files(self.path) if self.path.is_dir() else [self.path]
        if not images:
            raise InputError(
                f"{self.path} has no images, expected files ending in {', '.join(IMAGE_SUFFIXES)}, a video "
                f"({', '.join(VIDEO_SUFFIXES)}), or --calibration with the recording of several cameras"
            )
        if len({image.stem for image in images}) < len(images):
            raise InputError(f"{self.path} has two images of one name and different endings, expected one name each")
        try:
            self._images = numbered(images)
        except InputError:  # photographs with any names
            self._images = dict(enumerate(images))
        return {number: image.stem for number, image in self._images.items()}

    @property
    def is_video(self) -> bool:
        """See the class."""
        return self._video is not None

    @property
    def bad(self) -> list[str]:
        """See the class."""
        return [*self._bad, *(self._video.bad.values() if self._video is not None else ())]

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, image (h, w, 3) uint8 RGB) for increasing numbers, decoded ahead.

        Raises:
            InputError: one cannot be decoded, unless such are skipped.
        """
        return ahead(self._video.frames(numbers) if self._video is not None else self._read_images(numbers))

    def _read_images(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        for number in numbers:
            try:
                yield number, read_image(self._images[number])
            except InputError as error:
                if not self._skip:
                    raise InputError(f"{error}; --on-bad skip leaves such images out") from error
                self._bad.append(str(error))


def ahead(items: Iterable[Item], count: int = AHEAD) -> Iterator[Item]:
    """Yield the items, made in a thread before they are asked for, at most `count` of them.

    What is raised in the thread is raised here, after the items before it.
    """
    waiting: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(count)
    ended = threading.Event()

    def put(entry: tuple[Item | None, BaseException | None]) -> None:
        while not ended.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put((item, None))
                if ended.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=make, name="frames", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        ended.set()
        thread.join()
