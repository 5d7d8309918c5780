"""What is predicted on: an image, a folder of images of any sizes, or a video; decoded ahead in a thread."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dkp.captures.arrays import parse_slice
from dkp.captures.images import IMAGE_SUFFIXES, OnBad, read_image
from dkp.errors import InputError
from dkp.importers.media.video import VIDEO_SUFFIXES, FrameSource, image_files, numbered
from dkp.workers import read_ahead

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
        images = self._video.frames(numbers) if self._video is not None else self._read_images(numbers)
        return read_ahead(images, AHEAD)

    def _read_images(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        for number in numbers:
            try:
                yield number, read_image(self._images[number])
            except InputError as error:
                if not self._skip:
                    raise InputError(f"{error}; --on-bad skip leaves such images out") from error
                self._bad.append(str(error))
