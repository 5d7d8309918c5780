"""How far the labels of a capture lie from those that another capture has of the same views."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from dkp.captures import Capture
from dkp.captures.splits import split_of
from dkp.data.cache import CaptureImages
from dkp.data.views import ViewMaker
from dkp.errors import InputError
from dkp.metrics import ForegroundIoU, GeodesicError
from dkp.pipeline.captures import check_same_surface

CHUNK = 32
"""Views that are compared at a time."""


@dataclass(frozen=True)
class LabelComparison:
    """Labels against other labels of the same views.

    Attributes:
        instants, views: in both captures, of how many that the truth has.
        cells: that both label as surface.
        labelled_share: of the truth's surface cells, how many the labels label as surface.
        geodesic_median_cm, geodesic_mean_cm: distance on the surface over those cells.
        pck5, pck10: shares of them below 5 and 10 cm.
        iou: of the foregrounds, over cells where both say whether it is.
    """

    instants: tuple[int, int]
    views: tuple[int, int]
    cells: int
    labelled_share: float
    geodesic_median_cm: float
    geodesic_mean_cm: float
    pck5: float
    pck10: float
    iou: float

    def __str__(self) -> str:
        """Two sentences and the numbers."""
        (instants, all_instants), (views, all_views) = self.instants, self.views
        return "\n".join(
            [
                f"compared {views} of {all_views} views, {instants} of {all_instants} instants; "
                f"{100 * self.labelled_share:.1f} % of the surface cells of the truth are labelled",
                f"geodesic error   median {self.geodesic_median_cm:.2f} cm   mean {self.geodesic_mean_cm:.2f} cm   "
                f"below 5 cm {100 * self.pck5:.1f} %   below 10 cm {100 * self.pck10:.1f} %   ({self.cells} cells)",
                f"foreground       IoU {self.iou:.3f}",
            ]
        )


def compare_labels(
    labels: str, truth: str, *, size: int = 128, stride: int = 4, json: bool = False
) -> LabelComparison | str:
    """Compare the labels of a capture with those that another capture has of the same views.

    Such as pseudo-labels with measured or rendered ones, or those of two annotators. Both are taken at the cells of a
    field, as in training: a cell has the labelled point that lies nearest its centre, or the dense label at its centre.

    Args:
        labels: PATH or PATH#SPLIT of the labels that are judged; without a split, "train" is taken.
        truth: PATH or PATH#SPLIT of those that are taken as right.
        size: side of a view [px]; larger ones are reduced.
        stride: side of a cell [px].
        json: whether to return JSON instead of a report.

    Raises:
        InputError: a capture cannot be opened, they are on different surfaces, have no view in common, cut one
            differently, or label no cell both.
    """
    (label_path, label_split), (truth_path, truth_split) = (split_of(capture, "train") for capture in (labels, truth))
    check_same_surface(Path(label_path), Path(truth_path))
    mine, true = (
        CaptureImages(Capture.open(path), split, size)
        for path, split in ((label_path, label_split), (truth_path, truth_split))
    )
    pairs = common_views(mine, true)
    of_mine, of_true = ViewMaker(mine, size, stride), ViewMaker(true, size, stride)
    error, overlap = GeodesicError(true.surface, points_per_view=None), ForegroundIoU()
    labelled = 0
    for start in track(range(0, len(pairs), CHUNK), "comparing", transient=True):
        chunk = np.array(pairs[start : start + CHUNK])
        found, expected = (
            {key: torch.from_numpy(np.stack([one[key] for one in cells])) for key in cells[0]}
            for cells in (
                [maker.targets(index, maker.draw(np.random.default_rng(0))) for index in column]
                for maker, column in ((of_mine, chunk[:, 0]), (of_true, chunk[:, 1]))
            )
        )
        surface = expected["foreground"] & expected["known"]
        both = found["known"] & expected["known"]
        shown = found["foreground"] & found["known"]
        labelled += int(surface.sum())
        error.update(found["coordinate"], shown.float(), expected["coordinate"], surface, shown)
        overlap.update(found["foreground"].float(), expected["foreground"], both)
    values = error.compute()
    cells = int(values["geodesic_points"])
    if not cells:
        raise InputError(
            f"{labels} and {truth}: no cell of {stride} px that both label, expected labels of the same views"
        )
    result = LabelComparison(
        instants=(len({true.frame[t] for _, t in pairs}), len(set(true.frame))),
        views=(len(pairs), len(true)),
        cells=cells,
        labelled_share=cells / labelled,
        iou=float(overlap.compute()["iou"]),
        **{name: float(values[name]) for name in ("geodesic_median_cm", "geodesic_mean_cm", "pck5", "pck10")},
    )
    return dumps(asdict(result), indent=1) if json else result


def common_views(mine: CaptureImages, true: CaptureImages) -> list[tuple[int, int]]:
    """Return the indices of the views of the same frame and camera in two captures.

    Raises:
        InputError: there are none, or one is cut differently.
    """
    indices = {view: index for index, view in enumerate(zip(true.frame, true.camera_name, strict=True))}
    pairs = [
        (index, indices[view])
        for index, view in enumerate(zip(mine.frame, mine.camera_name, strict=True))
        if view in indices
    ]
    if not pairs:
        raise InputError(f"{mine.name} and {true.name} have no view in common, expected the same frames and cameras")
    for index, other in pairs:
        if not np.allclose(mine.intrinsics[index], true.intrinsics[other], rtol=1e-4):
            raise InputError(
                f"view {mine.frame[index]} of {mine.camera_name[index]} is cut differently in {mine.name} and "
                f"{true.name}, expected the same pixels"
            )
    return pairs
