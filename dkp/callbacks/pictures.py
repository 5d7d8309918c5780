"""Pictures of validation for the loggers that show pictures: TensorBoard and Weights & Biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from dkp.batches import MultiviewBatch, flatten_views, shown_views
from dkp.tasks.base import DenseKeypointTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_VIEWS = 4


class ValidationPictures(Callback):
    """Log the fields of the first instant of every validation loader, and the epipolar errors of a pair of its views.

    They are those of `dkp report`. Without such a logger it does nothing.
    """

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Draw and log the first batch."""
        loggers = [one for one in trainer.loggers if isinstance(one, TensorBoardLogger | WandbLogger)]
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero or not loggers:
            return
        assert isinstance(pl_module, DenseKeypointTask)
        for name, figure in figures(pl_module, batch).items():
            tag, shown = f"val_{dataloader_idx}/{name}" if dataloader_idx else f"val/{name}", drawn(figure)
            for logger in loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(tag, shown, trainer.global_step, dataformats="HWC")
                else:
                    logger.log_image(key=tag, images=[shown], step=trainer.global_step)


@torch.no_grad()
def figures(task: DenseKeypointTask, batch: MultiviewBatch) -> dict[str, Figure]:
    """Return name -> figure of the first instant of a batch: "fields" and, where two views are a pair, "epipolar"."""
    from dkp.viz import FieldRow, Moment, field_figure, progress_figure  # matplotlib, only where it draws

    chosen, fundamental = shown_views(batch, MOST_VIEWS)
    images = flatten_views(batch)[chosen]
    field = task.evaluated_field(images)
    label = FieldRow.of_labels(batch, chosen)
    row = FieldRow("field", task.surface_coordinates(field), field.foreground_probability)
    rows = [row] if label is None else [label, row]
    names = [batch["camera_name"][0][view] for view in chosen.tolist()]
    found = {"fields": field_figure(images, rows, task.surface, view_titles=names)}
    if fundamental is not None:
        atlas = task.chart_atlas() if task.detector.representation == "charts" else None
        moment = Moment.of_pair("epipolar distance", field, atlas, fundamental, task.surface)
        found["epipolar"] = progress_figure(images[:2], [moment], task.surface)
    return found


def drawn(figure: Figure) -> np.ndarray:
    """Return a figure as an image (h, w, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
