"""The figure of a main job: fields of the three detectors in views of the test split."""

from __future__ import annotations

from pathlib import Path

import torch

from dkp.captures.splits import split_of
from dkp.data import SemiSupervisedDataModule, collate
from dkp.errors import InputError
from dkp.models import Detector
from dkp.pipeline.job import DETECTORS
from dkp.pipeline.report import opened
from dkp.viz import FieldRow, field_figure


def draw_figure(folder: Path, views: int = 6) -> Path:
    """Draw the test views of two instants, their labels and the three fields.

    Args:
        folder: of a job whose stages are done.
        views: at most this many views.

    Returns:
        `fields.png` in the folder.

    Raises:
        InputError: it is no such folder.
    """
    runs = {run.name: run for run in opened(folder)}
    if missing := [name for name in DETECTORS if name not in runs]:
        raise InputError(f"{folder} has no run {missing[0]}, expected the folder of a dkp train")
    options = runs["adapted"].options("data")
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
    for name in DETECTORS:
        detector = Detector(**{**runs[name].options("detector"), "weights": str(runs[name].weights())}).eval()
        with torch.no_grad():
            field = detector(images)
        rows.append(FieldRow(name, field.coordinates(None), field.foreground_probability))
    path = folder / "fields.png"
    titles = [f"{batches[b]['frame'][0]} {batches[b]['camera_name'][0][v]}" for b, v in pick]
    capture = Path(split_of(options["test"], "test")[0]).name
    field_figure(images, rows, dataset.surface, view_titles=titles, title=f"{capture}: test views", path=path)
    return path
