"""What `dkp predict` writes: an npz an image and pictures, so that an interrupted command goes on."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from dkp.captures.images import write_image
from dkp.errors import InputError
from dkp.files import begin_folder, cannot_write, whole_file
from dkp.inference.overlay import draw_overlay
from dkp.inference.prediction import Prediction, load_predictions, save_predictions
from dkp.surface import Surface
from dkp.viz.colours import CoordinateColours

SETTINGS = "predict.json"

VIDEO, PARTIAL = "overlay.webm", "overlay.partial.webm"
"""VP8, which browsers play, and whose encoder is free of the GPL."""

LONGEST = 1280
"""Longer side of a video [px]; larger ones are slow to encode."""

WAITING = 4
"""Images that may wait to be written."""

SILENCE = threading.Lock()


class Output:
    """A folder of predictions; what is handed to it is drawn and written by a thread.

    `npz/NAME.npz` of every image (`dkp.inference.prediction.save_predictions`); `overlay/NAME.png` or, of a video,
    `overlay.webm`; `iuv/NAME.png` in DensePose's encoding: part, 255 U and 255 V as OpenCV's channels 0, 1 and 2.

    Args:
        folder: that is written.
        settings: what the predictions depend on; a folder that was begun with the same goes on.
        surface: of the detector.
        video: frames per second of the overlay's video; None writes a picture for each image.
        overlay: whether overlays are written.
        iuv: whether IUV pictures are.

    Raises:
        InputError: the folder holds something else.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        surface: Surface,
        video: float | None,
        overlay: bool,
        iuv: bool,
    ) -> None:
        self.folder = folder
        self.surface = surface
        self.colours = CoordinateColours(surface)
        self.video = video
        self.overlay = overlay
        self.iuv = iuv
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="output")
        self._waiting: deque[Future[None]] = deque()
        begin_folder(folder, settings, SETTINGS)
        for name, wanted in (("npz", True), ("iuv", iuv), ("overlay", overlay and video is None)):
            if wanted:
                (folder / name).mkdir(exist_ok=True)

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what waits; a video that is not whole goes."""
        self._pool.shutdown()
        partial = self.folder / PARTIAL
        if self._writer is not None:
            self._writer.release()
            if kind is None:
                partial.replace(self.folder / VIDEO)
            else:
                partial.unlink(missing_ok=True)
        if kind is None:
            while self._waiting:
                self._waiting.popleft().result()

    def written(self) -> str:
        """Say what the folder has."""
        overlay = (VIDEO if self.draws_video else "overlay") if self.overlay else ""
        return ", ".join(name for name in ("npz", overlay, "iuv" if self.iuv else "") if name)

    @property
    def draws_video(self) -> bool:
        """Whether every frame is needed for a video."""
        return self.overlay and self.video is not None

    def complete(self) -> bool:
        """Whether the video, where one is drawn, is there."""
        return not self.draws_video or (self.folder / VIDEO).is_file()

    def has(self, name: str) -> bool:
        """Whether the predictions of an image are written."""
        return self._npz(name).is_file()

    def read(self, name: str) -> dict[int, Prediction]:
        """Read the predictions of an image that are written: number of a person -> prediction."""
        return load_predictions(self._npz(name), self.surface)

    def write(self, name: str, image: np.ndarray, predictions: Mapping[int, Prediction]) -> None:
        """Hand the predictions of an image to the thread, and raise what went wrong with an earlier one."""
        self._waiting.append(self._pool.submit(self._write, name, image, dict(predictions)))
        while len(self._waiting) > WAITING:
            self._waiting.popleft().result()

    def _npz(self, name: str) -> Path:
        return self.folder / "npz" / f"{name}.npz"

    def _write(self, name: str, image: np.ndarray, predictions: dict[int, Prediction]) -> None:
        npz, people = self._npz(name), list(predictions.values())
        try:
            if self.overlay:
                drawn = draw_overlay(image, people, self.colours)
                if self.video is None:
                    with whole_file(self.folder / "overlay" / f"{name}.png") as partial:
                        write_image(partial, drawn)
                else:
                    self._add_frame(drawn)
            if npz.is_file():
                return
            if self.iuv:
                with whole_file(self.folder / "iuv" / f"{name}.png") as partial:
                    write_image(partial, combined_iuv(image, people)[..., ::-1])
            save_predictions(npz, list(predictions), people)
        except OSError as error:
            raise cannot_write(npz, error) from error

    def _add_frame(self, drawn: np.ndarray) -> None:
        if self._writer is None:
            path = self.folder / PARTIAL
            scale = min(1.0, LONGEST / max(drawn.shape))
            width, height = (2 * max(1, round(scale * length / 2)) for length in drawn.shape[1::-1])  # even
            self._size, codec = (width, height), cv2.VideoWriter.fourcc(*"VP80")
            with without_words():
                self._writer = cv2.VideoWriter(str(path), codec, self.video or 25.0, self._size)
            if not self._writer.isOpened():
                raise InputError(f"{path} cannot be written by this OpenCV as VP8; give --overlay false")
        if self._size != drawn.shape[1::-1]:
            drawn = cv2.resize(drawn, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))


@contextmanager
def listed(folder: Path) -> Iterator[None]:
    """Add to an error of bad input what of a folder of outputs is written, once they are closed."""
    try:
        yield
    except InputError as error:
        written = sum(1 for _ in folder.glob("**/npz/*.npz"))
        if not written:
            raise
        raise InputError(f"{error}; {folder} keeps the fields of {written} images") from error


@contextmanager
def without_words() -> Iterator[None]:
    """Keep FFmpeg's library silent inside, which says of every WebM video that OpenCV gave it a tag."""
    with SILENCE:  # several outputs share the stream
        kept = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def combined_iuv(image: np.ndarray, predictions: list[Prediction]) -> np.ndarray:
    """Return (h, w, 3) uint8 IUV of all people of an image; a later one covers an earlier one."""
    iuv = np.zeros_like(image)
    for one in predictions:
        own = one.iuv()
        iuv[own[..., 0] > 0] = own[own[..., 0] > 0]
    return iuv
