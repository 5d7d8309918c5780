"""How far the labels of a capture lie from those that another capture has of the same views."""

from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from dkp.captures import Capture
from dkp.captures.splits import split_of
from dkp.data.cache import CaptureImages
from dkp.data.views import ViewMaker
from dkp.errors import InputError
from dkp.metrics import ForegroundIoU, GeodesicError, JointError
from dkp.pipeline.captures import check_same_surface

CHUNK = 32
"""Views that are compared at a time."""


@dataclass(frozen=True)
class LabelComparison:
    """Labels against other labels, or detected joints, of the same views; None for what the truth has not.

    Attributes:
        instants, views: in both captures, of how many that the truth has.
        cells: that both label as surface.
        labelled_share: of the truth's surface cells, how many the labels label as surface.
        geodesic_median_cm, geodesic_mean_cm: distance on the surface over those cells.
        pck5, pck10: shares of them below 5 and 10 cm.
        iou: of the foregrounds, over cells where both say whether it is.
        joints: that the truth has in these views, of a confidence that counts.
        joint_cm, joint_mean_cm: median and mean distance at rest of what is labelled at a joint from that joint.
        left_right_exchanged: share of the joints with a side where the label is nearer to the other side's.
        joints_labelled: share of the joints at which there is a label.
    """

    instants: tuple[int, int]
    views: tuple[int, int]
    cells: int
    labelled_share: float | None = None
    geodesic_median_cm: float | None = None
    geodesic_mean_cm: float | None = None
    pck5: float | None = None
    pck10: float | None = None
    iou: float | None = None
    joints: int = 0
    joint_cm: float | None = None
    joint_mean_cm: float | None = None
    left_right_exchanged: float | None = None
    joints_labelled: float | None = None

    def __str__(self) -> str:
        """Say what was compared, and the numbers."""
        (instants, all_instants), (views, all_views) = self.instants, self.views
        lines = [f"compared {views} of {all_views} views, {instants} of {all_instants} instants"]
        if self.labelled_share is not None and self.pck5 is not None and self.pck10 is not None:
            lines += [
                f"surface cells of the truth that are labelled {100 * self.labelled_share:.1f} %",
                f"geodesic error   median {self.geodesic_median_cm:.2f} cm   mean {self.geodesic_mean_cm:.2f} cm   "
                f"below 5 cm {100 * self.pck5:.1f} %   below 10 cm {100 * self.pck10:.1f} %   ({self.cells} cells)",
                f"foreground       IoU {self.iou:.3f}",
            ]
        if self.joint_cm is not None:
            lines.append(
                f"joint error      median {self.joint_cm:.2f} cm   mean {self.joint_mean_cm:.2f} cm   left and right "
                f"exchanged {self.left_right_exchanged:.3f}   labelled {self.joints_labelled:.3f} of {self.joints}"
            )
        return "\n".join(lines)


def compare_labels(
    labels: str,
    truth: str,
    *,
    size: int = 128,
    stride: int = 4,
    joints: list[str] | None = None,
    json: bool = False,
) -> LabelComparison | str:
    """Compare the labels of a capture with the labels, or the detected joints, that another has of the same views.

    Such as pseudo-labels with measured or rendered ones, or those of two annotators. Both are taken at the cells of a
    field, as in training: a cell has the labelled point that lies nearest its centre, or the dense label at its centre.
    Where the second one has joints, what is labelled at each is compared with where the joint is at rest, as
    `dkp.metrics.JointError` does with a detector's field.

    Args:
        labels: PATH or PATH#SPLIT of the labels that are judged; without a split, "train" is taken.
        truth: PATH or PATH#SPLIT of those that are taken as right.
        size: side of a view [px]; larger ones are reduced.
        stride: side of a cell [px].
        joints: names of those that are compared; default: all that the surface has.
        json: whether to return JSON instead of a report.

    Raises:
        InputError: a capture cannot be opened, they are on different surfaces, have no view in common, cut one
            differently, or label no cell both where the second one has no joints, either.
    """
    (label_path, label_split), (truth_path, truth_split) = (split_of(capture, "train") for capture in (labels, truth))
    check_same_surface(Path(label_path), Path(truth_path))
    mine, true = (
        CaptureImages(capture, split, size, joints=[*capture.surface.joints] if joints is None else joints)
        for capture, split in ((Capture.open(label_path), label_split), (Capture.open(truth_path), truth_split))
    )
    pairs = common_views(mine, true)
    of_mine, of_true = ViewMaker(mine, size, stride), ViewMaker(true, size, stride)
    error, overlap = GeodesicError(true.surface, points_per_view=None), ForegroundIoU()
    joint = JointError(true.surface, true.joint_names) if true.joint_names else None
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
        if joint is not None:
            drawn = [of_true.joints(index, of_true.draw(np.random.default_rng(0))) for index in chunk[:, 1]]
            sides = torch.full((len(chunk), 2), float(size))
            joint.update(found["coordinate"], shown.float(), torch.from_numpy(np.stack(drawn)), sides)
    measured: dict[str, Any] = {}
    values = error.compute() if labelled else {}
    cells = int(values.get("geodesic_points", 0))
    if cells:
        names = "geodesic_median_cm", "geodesic_mean_cm", "pck5", "pck10"
        measured = {name: float(values[name]) for name in names} | {"labelled_share": cells / labelled}
        measured["iou"] = float(overlap.compute()["iou"])
    if joint is not None and any(len(one) for one in joint.errors):
        values = joint.compute()
        measured |= {name: float(values[name]) for name in ("joint_cm", "joint_mean_cm", "left_right_exchanged")}
        measured |= {"joints": int(values["joints"]), "joints_labelled": float(values["joint_on_foreground"])}
    if not measured:
        raise InputError(
            f"{labels} and {truth}: no cell of {stride} px that both label, and no label at a joint of the second, "
            "expected labels of the same views"
        )
    result = LabelComparison(
        instants=(len({true.frame[t] for _, t in pairs}), len(set(true.frame))),
        views=(len(pairs), len(true)),
        cells=cells,
        **measured,
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
