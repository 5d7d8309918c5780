"""The figure of a main job: fields of the three detectors in views of the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dkp.captures import Capture
from dkp.config_files import run_config
from dkp.data import SemiSupervisedDataModule, collate
from dkp.models import Detector
from dkp.pipeline.job import DETECTORS, Job
from dkp.viz import FieldRow, field_figure


def draw_figure(job: Job, views: int = 6) -> Path:
    """Draw the test views of two instants, their labels and the three fields.

    Args:
        job: a job whose stages are done.
        views: at most this many views.

    Returns:
        `fields.png` in the job's folder.
    """
    config = run_config(job.folder / "adapted" / "config.yaml")
    options: dict[str, Any] = config["data"]["init_args"]
    data = SemiSupervisedDataModule(
        test=options["test"], size=options["size"], stride=options["stride"], hide_background=options["hide_background"]
    )
    data.setup("test")
    (dataset,) = data.datasets["test"]
    batches = [collate([dataset[index]]) for index in (len(dataset) // 4, 3 * len(dataset) // 4)]
    pick = [(b, v) for b, batch in enumerate(batches) for v in batch["present"][0].nonzero()[: views // 2, 0].tolist()]
    images = torch.stack([batches[b]["image"][0, v] for b, v in pick])
    rows = []
    if all(bool(batches[b].get("has_label", torch.zeros(1, 99))[0, v]) for b, v in pick):
        labels = [[batches[b][key][0, v] for b, v in pick] for key in ("coordinate", "foreground")]
        coordinate, foreground = (torch.stack(values) for values in labels)
        rows.append(FieldRow("label", coordinate, foreground))
    surface = Capture.open(job.target).surface
    for name in DETECTORS:
        detector = Detector(
            **{**config["model"]["init_args"]["detector"]["init_args"], "weights": str(job.checkpoint(name))}
        ).eval()
        with torch.no_grad():
            field = detector(images)
        rows.append(FieldRow(name, field.coordinates(None), field.foreground_probability))
    path = job.folder / "fields.png"
    titles = [f"{batches[b]['frame'][0]} {batches[b]['camera_name'][0][v]}" for b, v in pick]
    field_figure(images, rows, surface, view_titles=titles, title=f"{job.target.name}: test views", path=path)
    return path
