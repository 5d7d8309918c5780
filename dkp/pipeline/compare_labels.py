"""How far the labels of a capture lie from those that another capture has of the same views."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
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
from dkp.reconstruction.keypoints import keypoint_weights, posed_joints
from dkp.reconstruction.reconstructor import RELATIVE_SIGMA
from dkp.reconstruction.samples import vertex_samples

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
        own_joint_cm, own_joint_mean_cm, own_left_right_exchanged: the same at the joints of the labels' own posed
            surfaces in place of the detected ones, where there are such: what an exact field would have.
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
    own_joint_cm: float | None = None
    own_joint_mean_cm: float | None = None
    own_left_right_exchanged: float | None = None

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
        if self.own_joint_cm is not None:
            lines.append(
                f"at own joints    median {self.own_joint_cm:.2f} cm   mean {self.own_joint_mean_cm:.2f} cm   left and "
                f"right exchanged {self.own_left_right_exchanged:.3f}   (what an exact field would have)"
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
    `dkp.metrics.JointError` does with a detector's field. Where the first one has posed surfaces, it is done at their
    own joints as well: how near to zero the figure can come.

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
    at_joints = {where: JointError(true.surface, true.joint_names) for where in ("", "own_") if true.joint_names}
    own = OwnJoints(Capture.open(label_path), of_mine, true.joint_names) if true.joint_names else None
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
        if own is not None:
            drawn = np.stack([of_true.joints(index, of_true.draw(np.random.default_rng(0))) for index in chunk[:, 1]])
            moved = np.stack([own(index, one) for index, one in zip(chunk[:, 0], drawn, strict=True)])
            sides = torch.full((len(chunk), 2), float(size))
            for metric, places in zip(at_joints.values(), (drawn, moved), strict=True):
                metric.update(found["coordinate"], shown.float(), torch.from_numpy(places), sides)
    measured: dict[str, Any] = {}
    values = error.compute() if labelled else {}
    cells = int(values.get("geodesic_points", 0))
    if cells:
        names = "geodesic_median_cm", "geodesic_mean_cm", "pck5", "pck10"
        measured = {name: float(values[name]) for name in names} | {"labelled_share": cells / labelled}
        measured["iou"] = float(overlap.compute()["iou"])
    for where, metric in at_joints.items():
        if any(len(one) for one in metric.errors):
            values = metric.compute()
            kinds = "joint_cm", "joint_mean_cm", "left_right_exchanged"
            measured |= {f"{where}{kind}": float(values[kind]) for kind in kinds}
            if not where:
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


class OwnJoints:
    """The joints of a capture's posed surfaces, in views in which joints were detected.

    Args:
        capture: with the posed surfaces, or without: then there are no joints.
        maker: of its views.
        names: of the detected joints.
    """

    def __init__(self, capture: Capture, maker: ViewMaker, names: Sequence[str]) -> None:
        self.capture, self.maker = capture, maker
        surface = capture.surface
        joints = list(surface.joints)
        self.places = [joints.index(name) if name in joints else None for name in names]
        self.weights = keypoint_weights(surface, vertex_samples(surface), RELATIVE_SIGMA * surface.extent)
        self.posed = lru_cache(maxsize=8)(self._posed)

    def _posed(self, frame: str) -> np.ndarray | None:
        """Joints (J, 3) [m] of the surface of a frame."""
        vertices = self.capture.truth(frame)
        if vertices is None:
            return None
        return posed_joints(self.capture.surface, vertices - self.maker.images.origin, self.weights)

    def __call__(self, index: int, detected: np.ndarray) -> np.ndarray:
        """Return the detected joints (N, 3) of a view with the surface's own places; confidence 0 where it has none."""
        result, posed = np.zeros_like(detected), self.posed(self.maker.images.frame[index])
        if posed is None:
            return result
        camera = self.maker.camera(index, self.maker.draw(np.random.default_rng(0)))
        seen = (posed @ camera["rotation"].T + camera["translation"]) @ camera["intrinsics"].T
        for row, place in enumerate(self.places):
            if place is not None:
                result[row] = [*(seen[place, :2] / seen[place, 2]), detected[row, 2]]
        return result


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
