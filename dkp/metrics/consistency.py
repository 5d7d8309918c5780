"""Multiview consistency: do pixels that carry the same surface coordinate lie on each other's epipolar lines?

Needs calibrated cameras and no labels, and says nothing about accuracy: a field that depends only on the position in
the crop can score well. That trivial field is therefore measured along with every field, on the same foreground.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from dkp.errors import InputError
from dkp.fields import gather_cells
from dkp.geometry import Camera, epipolar_distance, fundamental_matrix
from dkp.metrics.sampling import choose_pixels, concatenate, quantile

RELATIVE_GATE = 0.03
"""Gate of a match as a share of the surface's largest side: 5 cm for a human."""

_CAMERAS = 4096  # two camera numbers in one float32 without rounding


def mutual_matches(tree: cKDTree, other_tree: cKDTree, gate: float) -> np.ndarray:
    """Mutual nearest neighbours of two views in surface coordinates, no further apart than a gate.

    Args:
        tree: Over the coordinates (N, D) of one view [m].
        other_tree: Over those (M, D) of the other.
        gate: Greatest distance of a match [m], straight through space.

    Returns:
        (K, 2) int64, indices into N and M, ordered by the first.

    Examples:
        >>> mutual_matches(cKDTree([[0.0], [1.0], [5.0]]), cKDTree([[1.1], [0.9], [7.0]]), gate=0.5).tolist()
        [[1, 1]]
    """
    if not (tree.n and other_tree.n):
        return np.zeros((0, 2), dtype=np.int64)
    limit = np.nextafter(gate, np.inf)  # the tree's bound is exclusive; it answers n where nothing is within
    nearest = other_tree.query(tree.data, distance_upper_bound=limit)[1]
    back = np.append(tree.query(other_tree.data, distance_upper_bound=limit)[1], -1)
    own = np.flatnonzero(back[nearest] == np.arange(tree.n))
    return np.stack([own, nearest[own]], axis=1)


def trivial_coordinate(height: int, width: int, extent: float) -> Tensor:
    """Return the trivial field: the position in the crop, with the crop as wide as the surface.

    Args:
        height: Of the field [cells].
        width: Of the field [cells].
        extent: Length that the crop's side stands for [m].

    Returns:
        (3, H, W) [m]: x, y, 0.

    Examples:
        >>> trivial_coordinate(1, 2, extent=2.0)[0]
        tensor([[-0.5000,  0.5000]])
    """
    x = ((torch.arange(width) + 0.5) / width - 0.5) * extent
    y = ((torch.arange(height) + 0.5) / height - 0.5) * extent
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.zeros(height, width)])


def pair_distances(
    coordinate: Tensor, pixels: Tensor, mask: Tensor, camera: Camera, pairs: Tensor, gate: float, resolution: float
) -> tuple[Tensor, Tensor]:
    """Epipolar distances of the mutual matches of camera pairs.

    The matching runs in NumPy on the CPU: two trees and two queries take milliseconds where all distances of two
    views with a thousand foreground pixels each take a tenth of a second.

    Args:
        coordinate: (V, N, D) [m], chosen foreground pixels of each view.
        pixels: (V, N, 2) [px].
        mask: (V, N) bool.
        camera: (V,), without distortion.
        pairs: (P, 2) long, indices into V.
        gate: Greatest distance of a match [m].
        resolution: Distances are given as if the longer side of each image had this many pixels.

    Returns:
        distance: (K,) [px], mean of the distance to the epipolar line in one and in the other view.
        owner: (K,) long, the pair of each match.
    """
    used = pairs.unique().tolist()
    rows = {view: mask[view].nonzero()[:, 0] for view in used}
    trees = {view: cKDTree(coordinate[view, rows[view]].double().cpu().numpy()) for view in used}
    found, other, owner = [], [], []
    for number, (first, second) in enumerate(pairs.tolist()):
        match = torch.as_tensor(mutual_matches(trees[first], trees[second], gate)).to(pixels.device)
        found.append(pixels[first, rows[first][match[:, 0]]])
        other.append(pixels[second, rows[second][match[:, 1]]])
        owner.append(torch.full((len(match),), number, device=pixels.device))
    if not owner:
        return pixels.new_zeros(0), pairs.new_zeros(0)
    x, y, number_of = torch.cat(found)[:, None], torch.cat(other)[:, None], torch.cat(owner)
    fundamental = fundamental_matrix(camera[pairs[:, 0]], camera[pairs[:, 1]])[number_of]
    scale = (resolution / camera.image_size.amax(dim=-1)).to(pixels)[pairs][number_of]
    in_second = epipolar_distance(x, y, fundamental)[:, 0] * scale[:, 1]
    in_first = epipolar_distance(y, x, fundamental.mT)[:, 0] * scale[:, 0]
    return (in_first + in_second) / 2, number_of


class MultiviewConsistency(Metric):
    """Epipolar distance of mutual nearest neighbours in surface-coordinate space, over all valid camera pairs.

    ``compute`` returns ``epipolar_median_px``, ``epipolar_mean_px`` and ``epipolar_p90_px`` of (d1 + d2) / 2, in pixels
    of an image whose longer side is ``resolution``, never squared; ``matched_share``, the share of the foreground
    pixels (of both views of every pair) that have a match; and the same four as ``trivial/...`` for the field
    "coordinate = position in the crop" on the same foreground. With ``per_pair`` these also come for each pair of
    cameras, as ``pair/A-B/...`` and ``trivial/pair/A-B/...``. Without a match a distance is NaN; nothing matched at all
    is a warning.

    The gate is the greatest straight distance between the coordinates of a match. The default of 5 cm is for a human
    template, 3 % of its extent: the nearest cell of an exact field is up to 0.7 cells away (half a cell's diagonal),
    which is 4.7 cm where a person 1.7 m tall is 25 cells high and 2.4 cm at 50 cells, and a torso is still not matched
    with an arm. For another surface take the same share, and never less than 0.7 cells.
    The trivial field, as wide as the surface, has the same gate.

    The states are lists of float32: a median needs all values, and pairs are told apart by number.

    Args:
        gate: Greatest distance of a match [m].
        extent: Largest side of the surface [m]; the trivial field's crop is that wide.
        resolution: Image size to which distances are scaled [px].
        max_points: At most this many foreground pixels of a view take part (chosen by ``choose_pixels``). Fewer pixels
            have fewer true matches and score worse: keep it above the usual foreground.
        threshold: A pixel is foreground above this probability.
        cameras: Names for the per-pair values; without, cameras are called by their index in the batch.
        per_pair: Whether ``compute`` also gives the values of each pair of cameras.

    Examples:
        >>> import torch
        >>> from dkp.geometry import Camera
        >>> intrinsics = torch.tensor([[50.0, 0.0, 32.0], [0.0, 50.0, 32.0], [0.0, 0.0, 1.0]])
        >>> camera = Camera.create(
        ...     intrinsics.expand(1, 2, 3, 3), translation=torch.tensor([[[0.0, 0.0, 2.0], [-0.5, 0.0, 2.0]]]),
        ...     image_size=torch.tensor([64.0, 64.0]).expand(1, 2, 2))
        >>> metric = MultiviewConsistency(per_pair=False)
        >>> height = torch.arange(8.0)[:, None].expand(8, 8)  # a field whose rows are epipolar lines
        >>> column = torch.arange(8.0).expand(8, 8)
        >>> field = torch.stack([height, column, 0 * height]).expand(1, 2, 3, 8, 8)
        >>> metric.update(field, torch.ones(1, 2, 8, 8), camera, torch.tensor([[[0, 1]]]))
        >>> value = metric.compute()
        >>> value["matched_share"].item(), round(value["epipolar_median_px"].item(), 4)
        (1.0, 0.0)
    """

    full_state_update = False
    higher_is_better = False

    def __init__(
        self,
        gate: float = 0.05,
        extent: float = 1.75,
        resolution: float = 128.0,
        max_points: int | None = 2048,
        threshold: float = 0.5,
        cameras: Sequence[str] | None = None,
        per_pair: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("gate", gate), ("extent", extent), ("resolution", resolution)):
            if not value > 0:
                raise InputError(f"{name}: found {value}, expected a positive number.")
        self.gate = gate
        self.extent = extent
        self.resolution = resolution
        self.max_points = max_points
        self.threshold = threshold
        self.cameras = None if cameras is None else tuple(cameras)
        self.per_pair = per_pair
        for prefix in ("field", "trivial"):
            for name in ("distance", "distance_pair", "pair", "matched", "pixels"):
                self.add_state(f"{prefix}_{name}", default=[], dist_reduce_fx="cat")

    def update(
        self,
        coordinate: Tensor,
        foreground: Tensor,
        camera: Camera,
        pairs: Tensor,
        pair_valid: Tensor | None = None,
        camera_name: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Add instants.

        Args:
            coordinate: (B, V, 3, H, W) [m].
            foreground: (B, V, H, W), probability or bool.
            camera: (B, V), of the images (not of the field), without distortion.
            pairs: (B, P, 2) long, indices into V.
            pair_valid: (B, P) bool; None means all.
            camera_name: B lists of V names out of ``cameras``; only used where that was given.

        Raises:
            InputError: A camera has lens distortion, or a name that ``cameras`` does not have.
        """
        batch, views, _, height, width = coordinate.shape
        valid = torch.ones_like(pairs[..., 0], dtype=torch.bool) if pair_valid is None else pair_valid.bool()
        instant, slot = valid.nonzero(as_tuple=True)
        chosen_pairs = pairs[instant, slot]
        used = torch.zeros(batch, views, dtype=torch.bool, device=pairs.device)
        used[instant[:, None], chosen_pairs] = True
        camera = camera.only(used)
        if bool(camera.distortion.any()):
            raise InputError(
                "camera: found lens distortion, expected undistorted views, whose epipolar lines are straight."
            )
        number = self._camera_numbers(instant, chosen_pairs, camera_name)
        ends = number.sort(dim=1).values
        pair_number = (ends[:, 0] * _CAMERAS + ends[:, 1]).float()

        coordinate = coordinate.detach().float().flatten(0, 1)
        mask = (foreground > self.threshold).flatten(0, 1) & coordinate.isfinite().all(dim=1)
        index, chosen = choose_pixels(mask, self.max_points)
        flat_camera = camera.reshape(batch * views)
        cell = flat_camera.image_size.to(coordinate) / coordinate.new_tensor([width, height])
        column, row = index % width, torch.div(index, width, rounding_mode="floor")
        pixels = (torch.stack([column, row], dim=-1) + 0.5) * cell[:, None]
        flat_pairs = instant[:, None] * views + chosen_pairs
        trivial = trivial_coordinate(height, width, self.extent).to(coordinate).expand_as(coordinate)
        for prefix, field in (("field", coordinate), ("trivial", trivial)):
            distance, owner = pair_distances(
                gather_cells(field, index), pixels, chosen, flat_camera, flat_pairs, self.gate, self.resolution
            )
            matched = torch.bincount(owner, minlength=len(pair_number)).float()
            getattr(self, f"{prefix}_distance").append(distance.float())
            getattr(self, f"{prefix}_distance_pair").append(pair_number[owner])
            getattr(self, f"{prefix}_pair").append(pair_number)
            getattr(self, f"{prefix}_matched").append(2 * matched)
            getattr(self, f"{prefix}_pixels").append(chosen.sum(dim=1).float()[flat_pairs].sum(dim=1))

    def _camera_numbers(self, instant: Tensor, pairs: Tensor, names: Sequence[Sequence[str]] | None) -> Tensor:
        """Return the number (P, 2) of each camera of pairs (P, 2) of the batch's instants (P,)."""
        if self.cameras is None or names is None:
            return pairs
        known = {name: number for number, name in enumerate(self.cameras)}
        called = [[names[row][end] for end in ends] for row, ends in zip(instant.tolist(), pairs.tolist(), strict=True)]
        unknown = {name for ends in called for name in ends} - set(known)
        if unknown:
            raise InputError(f"camera_name: found {min(unknown)!r}, expected one of {', '.join(self.cameras)}.")
        numbers = [[known[name] for name in ends] for ends in called]
        return torch.tensor(numbers, dtype=torch.long, device=pairs.device).reshape(-1, 2)

    def _state(self, name: str) -> Tensor:
        return concatenate(getattr(self, name), self.device)

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed above."""
        result: dict[str, Tensor] = {}
        for prefix, key in (("field", ""), ("trivial", "trivial/")):
            distance, owner, pair, matched, pixels = (
                self._state(f"{prefix}_{name}") for name in ("distance", "distance_pair", "pair", "matched", "pixels")
            )
            if prefix == "field" and distance.numel() == 0:
                rank_zero_warn("MultiviewConsistency found no match: its distances are NaN.")
            result |= {key + name: value for name, value in _summary(distance, matched, pixels).items()}
            for number in pair.unique().long().tolist() if self.per_pair else []:
                own = _summary(distance[owner == number], matched[pair == number], pixels[pair == number])
                result |= {f"{key}pair/{self._pair_name(number)}/{name}": value for name, value in own.items()}
        return result

    def _pair_name(self, number: int) -> str:
        ends = divmod(number, _CAMERAS)
        return "-".join(str(end) if self.cameras is None else self.cameras[end] for end in ends)


def _summary(distance: Tensor, matched: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    return {
        "epipolar_median_px": quantile(distance, 0.5),
        "epipolar_mean_px": distance.double().mean().to(distance.dtype),
        "epipolar_p90_px": quantile(distance, 0.9),
        "matched_share": matched.sum() / pixels.sum(),
    }
