"""The figure of a main job: fields of the three detectors in views of the test split."""

from pathlib import Path

import torch

from dkp.captures import Capture
from dkp.captures.splits import split_of
from dkp.data import collate
from dkp.errors import InputError
from dkp.models import Detector
from dkp.pipeline.job import DETECTORS
from dkp.pipeline.report import opened, test_views
from dkp.viz import FieldRow, field_figure

VIEWS = 6
"""At most so many are drawn."""


def draw_figure(folder: Path) -> Path:
    """Draw the test views of two instants, their labels and the three fields.

    Images and labels are as sharp as the capture has them; the detectors see the views at their own size.

    Args:
        folder: of a job whose stages are done.

    Returns:
        `fields.png` in the folder.

    Raises:
        InputError: it is no such folder.
    """
    runs = {run.name: run for run in opened(folder)}
    if missing := [name for name in DETECTORS if name not in runs]:
        raise InputError(f"{folder} has no run {missing[0]}, expected the folder of a dkp train")
    options = runs["adapted"].options("data")
    own = {name: options[name] for name in ("test", "size", "stride", "hide_background")}
    capture = Capture.open(split_of(options["test"], "test")[0])
    side = min(capture.views[0].size) // own["stride"] * own["stride"]
    dataset, sharp = (test_views(**own | {"size": size}) for size in (own["size"], max(own["size"], side)))
    at = (len(dataset) // 4, 3 * len(dataset) // 4)
    batches, shown = ([collate([views[index]]) for index in at] for views in (dataset, sharp))
    pick = [(b, v) for b, batch in enumerate(batches) for v in batch["present"][0].nonzero()[: VIEWS // 2, 0].tolist()]
    images, pictures = (torch.stack([some[b]["image"][0, v] for b, v in pick]) for some in (batches, shown))
    rows = []
    if all(bool(shown[b].get("has_label", torch.zeros(1, 99))[0, v]) for b, v in pick):
        labels = [[shown[b][key][0, v] for b, v in pick] for key in ("coordinate", "foreground")]
        coordinate, foreground = (torch.stack(values) for values in labels)
        rows.append(FieldRow("label", coordinate, foreground))
    for name in DETECTORS:
        detector = Detector(**{**runs[name].options("detector"), "weights": str(runs[name].weights())}).eval()
        with torch.no_grad():
            field = detector(images)
        rows.append(FieldRow(name, field.coordinates(None), field.foreground_probability))
    path = folder / "fields.png"
    titles = [f"{batches[b]['frame'][0]} {batches[b]['camera_name'][0][v]}" for b, v in pick]
    title = f"{capture.path.name}: test views"
    field_figure(pictures, rows, capture.surface, view_titles=titles, title=title, path=path)
    return path
