"""Predictions as plain npz files, one a view."""

import contextlib
import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor

from dkp.callbacks.run_folder import run_folder
from dkp.captures.images import write_image
from dkp.captures.splits import split_of
from dkp.data.capture_module import CaptureDataModule
from dkp.errors import InputError
from dkp.files import cannot_write, hold, whole_file
from dkp.surface import Surface

OPACITY = 0.7
"""Of the colours over an image."""

WRITERS = 2
"""Threads that compress and write files while the detector works; the compression does not hold Python's lock."""

WAITING = 256
"""Views that may wait to be written."""


class PredictionWriter(BasePredictionWriter):
    """Write OUT/<frame>/<camera>.npz for every view that is predicted; of several captures, OUT/<capture>/<frame>/...

    Captures of one name get a number: OUT/<capture>-2/....

    Keys: "foreground" (H, W) float16 probability; "coordinate" (H, W, 3) float32 [m]; "vertex" (H, W) int32, the
    nearest vertex of the surface, -1 on the background; for charts "part" (H, W) int16 and "uv" (H, W, 2) float32; and
    the camera of the image that the field belongs to: "intrinsics" (3, 3), "rotation" (3, 3), "translation" (3,) [m],
    "image_size" (2,) [px], "stride" [px per cell]; and "origin" (3,) [m], where the world of that camera has its origin
    in the capture's: zero unless the capture's cameras stand further than 100 m from its origin.

    Files are written by threads; all of them are there when prediction ends, also when it ends by an error.

    Args:
        out: folder; None = predictions/ in the run's folder.
        threshold: foreground probability from which a cell has a vertex.
        overlay: write OUT/<frame>/<camera>.png, too: the field over the image that the detector saw.
        iuv: write OUT/<frame>/<camera>_iuv.png, too, in DensePose's encoding: read by OpenCV part, 255 U and 255 V.
    """

    def __init__(
        self, out: str | None = None, threshold: float = 0.5, overlay: bool = False, iuv: bool = False
    ) -> None:
        super().__init__(write_interval="batch")
        self.out = out
        self.threshold = threshold
        self.overlay = overlay
        self.iuv = iuv
        self._out = Path()
        self._folders: list[Path] = []
        self._pool: ThreadPoolExecutor | None = None
        self._held: list[int] = []
        self._waiting: deque[Future[None]] = deque()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Choose the folder."""
        if stage != "predict":
            return
        folder = run_folder(trainer)
        if self.out is None and folder is None:
            raise InputError(
                "PredictionWriter.out is not set where a folder is expected: the trainer has no run folder"
            )
        self._out = out = Path(self.out) if self.out is not None else Path(str(folder)) / "predictions"
        data = getattr(trainer, "datamodule", None)
        captures = data.evaluated["predict"] if isinstance(data, CaptureDataModule) else []
        captures = [Path(split_of(capture, "")[0]).resolve().name for capture in captures]
        names = [
            name if (earlier := captures[:index].count(name)) == 0 else f"{name}-{earlier + 1}"
            for index, name in enumerate(captures)
        ]
        self._folders = [out / name for name in names] if len(names) > 1 else [out]

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Hand the views of one batch that are present to the threads."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="predictions")
            if trainer.world_size == 1:
                self._remove_torn()
        surface = getattr(pl_module, "surface", None)
        views = {name: value.cpu() for name, value in prediction.items()}
        for instant, slot in batch["present"].nonzero().tolist():
            path = (
                self._folders[dataloader_idx]
                / str(batch["frame"][instant])
                / f"{batch['camera_name'][instant][slot]}.npz"
            )
            view = {name: value[instant, slot] for name, value in views.items()}
            camera = batch["camera"][instant, slot]
            extra = {
                name: getattr(camera, name).cpu().double().numpy()
                for name in ("intrinsics", "rotation", "translation", "image_size")
            }
            extra["origin"] = np.asarray(batch["origin"][instant])
            extra["stride"] = np.int32(batch["image"].shape[-1] // view["foreground"].shape[-1])
            image = batch["image"][instant, slot].cpu() if self.overlay or self.iuv else None
            self._waiting.append(self._pool.submit(self._write, path, view, surface, extra, image))
        while len(self._waiting) > WAITING:
            self._waiting.popleft().result()

    def _remove_torn(self) -> None:
        """Remove what a killed process has half written, here or in the folders of the run's earlier predictions."""
        with contextlib.suppress(OSError):  # said when a file is written
            self._out.mkdir(parents=True, exist_ok=True)
        earlier = self._out.parent.parent.glob(f"predict*/{self._out.name}") if self.out is None else ()
        for folder in {self._out, *earlier}:
            with contextlib.suppress(InputError):  # somebody else writes there
                if (held := hold(folder)) is not None:
                    self._held.append(held)
                    for partial in folder.rglob("*.partial"):
                        partial.unlink(missing_ok=True)

    def _write(
        self,
        path: Path,
        view: Mapping[str, Tensor],
        surface: Surface | None,
        extra: dict[str, Any],
        image: Tensor | None = None,
    ) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if image is not None and surface is not None:
                if self.overlay:
                    with whole_file(path.with_name(f"{path.stem}.png")) as partial:
                        write_image(partial, drawn_over(image, view, surface, self.threshold))
                if self.iuv:
                    with whole_file(path.with_name(f"{path.stem}_iuv.png")) as partial:
                        write_image(partial, encoded_iuv(image, view, surface, self.threshold)[..., ::-1])
            with whole_file(path) as partial, partial.open("wb") as stream:
                np.savez_compressed(stream, **prediction_arrays(view, surface, self.threshold), **extra)
        except OSError as error:
            raise cannot_write(path, error) from error

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait until everything is written; what went wrong with a file is raised here at the latest."""
        while self._waiting:
            self._waiting.popleft().result()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finish what waits, also after an error."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        while self._held:
            os.close(self._held.pop())


def prediction_arrays(view: Mapping[str, Tensor], surface: Surface | None, threshold: float) -> dict[str, Any]:
    """Return the arrays of one view's file.

    Args:
        view: "foreground" (H, W), "coordinate" (3, H, W) [m] and, for charts, "part" (H, W), "uv" (2, H, W).
        surface: for the nearest vertex; None = no "vertex".
        threshold: foreground probability from which a cell has a vertex.
    """
    foreground = view["foreground"].float().cpu().numpy()
    coordinate = view["coordinate"].float().cpu().numpy().transpose(1, 2, 0)
    arrays: dict[str, Any] = {"foreground": foreground.astype(np.float16), "coordinate": coordinate}
    if surface is not None:
        inside = foreground > threshold
        vertex = np.full(foreground.shape, -1, np.int32)
        if inside.any():
            vertex[inside] = surface.nearest_vertex(coordinate[inside].astype(np.float64))
        arrays["vertex"] = vertex
    if "part" in view:
        arrays["part"] = view["part"].cpu().numpy().astype(np.int16)
        arrays["uv"] = view["uv"].float().cpu().numpy().transpose(1, 2, 0)
    return arrays


def drawn_over(image: Tensor, view: Mapping[str, Tensor], surface: Surface, threshold: float) -> np.ndarray:
    """Return a field over its image (3, h, w) in [0, 1], in the colours of the surface: (h, w, 3) uint8."""
    from dkp.viz.colours import CoordinateColours  # matplotlib, only where it draws
    from dkp.viz.figures import overlay

    foreground, points = (view[name].float().cpu().numpy() for name in ("foreground", "coordinate"))
    colour = CoordinateColours(surface)(points.transpose(1, 2, 0))
    layer = overlay(colour, foreground > threshold, foreground, (image.shape[1], image.shape[2]))
    picture = image.float().numpy().transpose(1, 2, 0)
    share = OPACITY * layer[..., 3:]
    return np.asarray(np.round(255 * ((1 - share) * picture + share * layer[..., :3])).astype(np.uint8))


def encoded_iuv(image: Tensor, view: Mapping[str, Tensor], surface: Surface, threshold: float) -> np.ndarray:
    """Return part, 255 U and 255 V (h, w, 3) uint8 of the image's pixels, as their cells have them; 0 = background."""
    inside = view["foreground"].float().cpu().numpy() > threshold
    cells = np.zeros((*inside.shape, 3), np.float32)
    if "part" in view:
        found = view["part"].cpu().numpy()[inside], view["uv"].float().cpu().numpy().transpose(1, 2, 0)[inside]
    else:
        face, weights, _ = surface.locate(view["coordinate"].double().cpu().numpy().transpose(1, 2, 0)[inside])
        found = surface.charts(face, weights)
    cells[inside, 0], cells[inside, 1:] = found[0], 255 * found[1]
    size = (image.shape[2], image.shape[1])
    return np.asarray(cv2.resize(np.rint(cells).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST))
