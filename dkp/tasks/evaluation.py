"""What validation and testing measure on multiview batches."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torchmetrics import Metric

from dkp.batches import MultiviewBatch
from dkp.errors import InputError
from dkp.fields import ChartField, Field
from dkp.metrics import (
    ForegroundIoU,
    GeodesicError,
    JointError,
    KeypointError3D,
    MultiviewConsistency,
    PartAccuracy,
    PointSimilarity,
    ReprojectionResidual,
    SurfaceError3D,
)
from dkp.metrics.consistency import RELATIVE_GATE
from dkp.reconstruction import ReconstructionSettings, Reconstructor, keypoint_weights, keypoints
from dkp.surface import Surface


@dataclass
class EvaluationSettings:
    """Which metrics, with which constants.

    Attributes:
        mirrored: in testing and predicting, average each field with that of the mirrored image; takes twice the time.
        gate: greatest surface distance of a match between two views [m]; None = 3 % of the surface's largest side.
        resolution: image size that epipolar distances are scaled to [px].
        max_points: at most this many foreground cells of a view take part in the matching.
        points_per_view: at most this many labelled cells of a view are measured.
        threshold: foreground probability from which a cell counts as foreground.
        per_pair: report consistency for every camera pair, too.
        consistency: measure multiview consistency, and the trivial field beside it.
        accuracy: measure against labels, where there are any.
        exact: measure dense labels as if they were a field (`exact_...`): what the best field would have at the joints
            and between the views, since much is hidden; in testing only.
        point_similarity: also GPS, GPSm, AP and AR.
        reconstruction: triangulate surface points from all views of an instant and measure them: in 3D where the
            capture knows the posed surface, their reprojection residual (at `resolution`) in any case; in testing only.
        surface_points: how many surface points are triangulated.
        cameras: camera names for the per-pair values; None = positions in the batch.
        joints: names of the batch's joints, in order; None = no joint error.
    """

    mirrored: bool = False
    gate: float | None = None
    resolution: float = 128.0
    max_points: int = 2048
    points_per_view: int = 500
    threshold: float = 0.5
    per_pair: bool = True
    consistency: bool = True
    accuracy: bool = True
    exact: bool = True
    point_similarity: bool = False
    reconstruction: bool = False
    surface_points: int = 300
    cameras: list[str] | None = None
    joints: list[str] | None = None


def consistency(settings: EvaluationSettings, extent: float, *, per_pair: bool) -> MultiviewConsistency:
    """Return the metric of what the views of a surface with a largest side of `extent` [m] say of each other."""
    return MultiviewConsistency(
        gate=RELATIVE_GATE * extent if settings.gate is None else settings.gate,
        extent=extent,
        resolution=settings.resolution,
        max_points=settings.max_points,
        threshold=settings.threshold,
        cameras=settings.cameras if per_pair else None,
        per_pair=per_pair,
    )


class Evaluation(nn.Module):
    """The metrics of one evaluation loader.

    Args:
        surface: the canonical surface.
        settings: which metrics, with which constants.
    """

    def __init__(self, surface: Surface, settings: EvaluationSettings) -> None:
        super().__init__()
        extent = surface.extent
        self.settings = settings
        self.metrics = nn.ModuleDict()
        if settings.consistency:
            self.metrics["consistency"] = consistency(settings, extent, per_pair=settings.per_pair)
            if settings.exact:
                self.metrics["exact_consistency"] = consistency(settings, extent, per_pair=False)
        if settings.accuracy:
            points, threshold = settings.points_per_view, settings.threshold
            measured = PointSimilarity if settings.point_similarity else GeodesicError
            self.metrics["geodesic"] = measured(surface, points, threshold)
            self.metrics["foreground"] = ForegroundIoU(settings.threshold)
            self.metrics["silhouette"] = ForegroundIoU(settings.threshold)
            self.metrics["part"] = PartAccuracy(surface.parts)
        if settings.joints is not None:
            self.metrics["joints"] = JointError(surface, settings.joints, settings.threshold, each=True)
            if settings.exact:
                self.metrics["exact_joints"] = JointError(surface, settings.joints, settings.threshold)
        self.reconstructor: Reconstructor | None = None
        if settings.reconstruction:
            self._prepare_reconstruction(surface, settings)
        self.seen: set[str] = set()

    def _prepare_reconstruction(self, surface: Surface, settings: EvaluationSettings) -> None:
        options = ReconstructionSettings(points=settings.surface_points, foreground=settings.threshold)
        self.reconstructor = Reconstructor(surface, options)
        self.metrics["reprojection"] = ReprojectionResidual()
        self.metrics["surface_3d"] = SurfaceError3D()
        self.register_buffer("faces", torch.from_numpy(surface.faces), persistent=False)
        if surface.joints:
            self.metrics["keypoints_3d"] = KeypointError3D()
            weights = keypoint_weights(surface, self.reconstructor.samples, self.reconstructor.sigma)
            self.register_buffer("keypoint_weights", torch.from_numpy(weights), persistent=False)

    faces: Tensor
    keypoint_weights: Tensor

    def reset(self) -> None:
        """Begin an epoch."""
        self.seen.clear()
        for name in self.metrics:
            self.metric(name).reset()

    def metric(self, name: str) -> Metric:
        """Return a metric by its name."""
        metric = self.metrics[name]
        assert isinstance(metric, Metric)
        return metric

    def update(self, field: Field, coordinate: Tensor, batch: MultiviewBatch) -> None:
        """Add a multiview batch.

        Args:
            field: of the batch's B·V images.
            coordinate: (B·V, 3, H, W) [m], the field's surface coordinates.
            batch: a multiview batch.
        """
        shape = batch["image"].shape[:2]
        foreground = field.foreground_probability
        present = batch["present"].flatten()
        if "consistency" in self.metrics:
            self._add(
                "consistency",
                coordinate.unflatten(0, shape),
                foreground.unflatten(0, shape),
                batch["camera"],
                batch["pairs"],
                batch["pair_valid"],
                batch.get("camera_name") if self.settings.cameras is not None else None,
            )
        if "geodesic" in self.metrics and "coordinate" in batch:
            self._add_labels(field, coordinate, foreground, present, batch)
        if "silhouette" in self.metrics and batch.get("mask") is not None:
            mask = batch["mask"].flatten(0, 1)
            there = present & mask.flatten(1).any(1)
            if bool(there.any()):
                cells = functional.avg_pool2d(mask[there].float(), field.stride) >= 0.5
                self._add("silhouette", foreground[there], cells)
        if "joints" in self.metrics and batch.get("joints") is not None:
            size, joints = batch["camera"].image_size.reshape(-1, 2), batch["joints"].flatten(0, 1)
            self._add("joints", coordinate[present], foreground[present], joints[present], size[present])
        if self.settings.exact and "coordinate" in batch:
            self._add_exact(batch)
        if self.reconstructor is not None and shape[1] > 1:
            views = coordinate.unflatten(0, shape), foreground.unflatten(0, shape)
            self._add_reconstruction(self.reconstructor, *views, batch)

    def _add_exact(self, batch: MultiviewBatch) -> None:
        """Measure the labels of the instants whose views all have one, and not of a few points."""
        there = (batch["has_label"] | ~batch["present"]).all(1) & (batch["known"].float().flatten(1).mean(1) > 0.5)
        if not bool(there.any()):
            return
        coordinate, camera, present = batch["coordinate"][there], batch["camera"][there], batch["present"][there]
        foreground = (batch["foreground"] * batch["known"] * batch["present"][..., None, None])[there]
        if "exact_consistency" in self.metrics:
            pairs, valid = batch["pairs"][there], batch["pair_valid"][there]
            self._add("exact_consistency", coordinate, foreground, camera, pairs, valid, None)
        if "exact_joints" in self.metrics and batch.get("joints") is not None:
            joints, size = batch["joints"][there][present], camera.image_size[present]
            self._add("exact_joints", coordinate[present], foreground[present], joints, size)

    def _add_reconstruction(
        self, reconstructor: Reconstructor, coordinate: Tensor, foreground: Tensor, batch: MultiviewBatch
    ) -> None:
        camera, present = batch["camera"], batch["present"]
        found = reconstructor(coordinate, foreground, camera, present)
        scale = self.settings.resolution / camera.image_size.amax()
        self._add("reprojection", found.residual * scale, found.views)
        posed = batch.get("posed")
        if posed is None or not bool(posed.any()):
            return
        vertices = batch["vertices"][posed]
        points, truth = found.points[posed], reconstructor.positions(vertices)
        visible = reconstructor.visible(vertices, camera[posed]) & present[posed][..., None]
        self._add("surface_3d", points, truth, visible.sum(dim=1) >= 2, vertices, self.faces)
        if "keypoints_3d" in self.metrics:
            self._add("keypoints_3d", *keypoints(points, truth, self.keypoint_weights))

    def _add_labels(
        self, field: Field, coordinate: Tensor, foreground: Tensor, present: Tensor, batch: MultiviewBatch
    ) -> None:
        labelled = batch["has_label"].flatten() & present
        if not bool(labelled.any()):
            return
        truth = batch["coordinate"].flatten(0, 1)[labelled]
        inside = batch["foreground"].flatten(0, 1)[labelled]
        known = batch["known"].flatten(0, 1)[labelled]
        self._add("geodesic", coordinate[labelled], foreground[labelled], truth, inside, known)
        self._add("foreground", foreground[labelled], inside, known)
        if isinstance(field, ChartField) and "part" in batch:
            predicted = (field.part * (field.foreground > 0))[labelled]
            self._add("part", predicted, batch["part"].flatten(0, 1)[labelled], known)

    def _add(self, name: str, *values: Any) -> None:
        self.seen.add(name)
        self.metric(name).update(*values)

    def compute(self) -> dict[str, Tensor]:
        """All values of the metrics that saw anything on any process; every process has to call it."""
        values: dict[str, Tensor] = {}
        seen = seen_anywhere(self.seen)
        for name in self.metrics:
            if name in seen:
                prefix = {"silhouette": "mask_"}.get(name, "exact_" if name.startswith("exact_") else "")
                found = {prefix + key: value for key, value in self.metric(name).compute().items()}
                values |= {key: value for key, value in found.items() if not key.startswith("exact_trivial")}
        return values


def seen_anywhere(seen: set[str]) -> set[str]:
    """Return the union of a set of names over all processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return seen
    gathered: list[set[str]] = [set()] * distributed.get_world_size()
    distributed.all_gather_object(gathered, seen)
    return set().union(*gathered)


def datasets_of(loaders: object) -> list[object]:
    """Return the data sets of one loader or of several; None for what has none."""
    found = [getattr(loader, "dataset", None) for loader in loaders if loader] if isinstance(loaders, list) else []
    return found or [getattr(loaders, "dataset", None)]


def require_surface(surface: Surface, other: Surface | None) -> None:
    """Refuse to measure on another surface than the capture's."""
    if other is not None and (
        surface.vertices.shape != other.vertices.shape or surface.faces.shape != other.faces.shape
    ):
        raise InputError(
            f"model.surface is {surface.name} with {len(surface.vertices)} vertices where the capture's surface, "
            f"{other.name} with {len(other.vertices)} vertices, is expected"
        )
