"""Plausibility without dense labels: does the field say "left elbow" where a 2D detector found the left elbow?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics.utilities import rank_zero_warn

from dkp.batches import LEAST_CONFIDENCE
from dkp.errors import InputError
from dkp.fields import cells_at
from dkp.metrics.geodesic import SurfaceMetric
from dkp.metrics.sampling import concatenate, quantile

if TYPE_CHECKING:
    from dkp.surface import Surface


def mirrored_name(name: str) -> str | None:
    """Return the same joint on the other side of the body; None for joints of the middle.

    Examples:
        >>> mirrored_name("left_elbow"), mirrored_name("nose")
        ('right_elbow', None)
    """
    for side, other in (("left_", "right_"), ("right_", "left_")):
        if name.startswith(side):
            return other + name.removeprefix(side)
    return None


class JointError(SurfaceMetric):
    """Distance between the coordinate predicted at a detected 2D joint and that joint's rest position on the template.

    The rest position is the joint's centre (``surface.joints``), which lies inside the body: even an exact field is off
    by the distance from the centre to the visible skin. ``joint_floor_cm`` is the mean distance from the centres to the
    nearest skin, below which no field can come. Distances are straight, not over the surface.

    ``compute`` returns ``joint_cm`` (median) and ``joint_mean_cm`` over joints on the predicted foreground;
    ``joint_on_foreground``, their share of the detected joints inside the image; ``left_right_exchanged``, the share of
    the left and right joints among them that lie nearer to the mirrored joint's rest position than to their own;
    ``joint_floor_cm``; and ``joints``, how many were detected. With ``each``, also ``joint/NAME/on_foreground`` of
    every detected joint, and of those found ``joint/NAME/cm`` (mean) and, of a side, ``joint/NAME/exchanged``.

    The one list state holds float32 errors, for the median; the rest are sums.

    Args:
        surface: The template, with joints.
        names: What the J entries of a batch's joints are; names that the template does not have are left out.
        each: whether values of every joint are wanted.
        threshold: A pixel is foreground above this probability.

    Examples:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> template = SimpleNamespace(
        ...     joints={"left_wrist": np.array([0.5, 0.0, 0.0]), "right_wrist": np.array([-0.5, 0.0, 0.0])},
        ...     locate=lambda points: (None, None, np.full(len(points), 0.02)))
        >>> metric = JointError(template, names=["left_wrist", "right_wrist"])
        >>> field = torch.zeros(1, 1, 3, 2, 2)
        >>> field[:, :, 0, :, 0] = 0.4  # the left half of the image says: near the left wrist
        >>> joints = torch.tensor([[[[1.0, 1.0, 0.9], [2.0, 3.0, 0.9]]]])
        >>> metric.update(field, torch.ones(1, 1, 2, 2), joints, torch.tensor([[[8.0, 8.0]]]))
        >>> value = metric.compute()
        >>> round(value["joint_mean_cm"].item(), 3), value["left_right_exchanged"].item()
        (50.0, 0.5)
    """

    higher_is_better = False
    errors: list[Tensor]
    counts: Tensor
    floor: Tensor
    of_each: Tensor

    def __init__(
        self, surface: "Surface", names: Sequence[str], threshold: float = 0.5, each: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(surface, **kwargs)
        self.each = each
        self.names = tuple(names)
        self.threshold = threshold
        known = [name in surface.joints for name in self.names]
        if not any(known):
            raise InputError(
                f"names: none of {', '.join(self.names) or '(no names)'} is a joint of the surface, "
                f"which has {', '.join(surface.joints) or 'none'}."
            )
        rest, mirrored, sided = [], [], []
        for name in self.names:
            other = mirrored_name(name)
            rest.append(surface.joints.get(name, (0.0, 0.0, 0.0)))
            mirrored.append(surface.joints.get(other or name, rest[-1]))
            sided.append(name in surface.joints and other in surface.joints)
        self.register_buffer("known", torch.tensor(known), persistent=False)
        self.register_buffer("sided", torch.tensor(sided), persistent=False)
        self.register_buffer("rest", _rows(rest), persistent=False)
        self.register_buffer("mirrored_rest", _rows(mirrored), persistent=False)
        distance = torch.as_tensor(surface.locate(self.rest.double().numpy())[2]).float()
        self.register_buffer("rest_floor", distance, persistent=False)
        self.add_state("errors", default=[], dist_reduce_fx="cat")
        self.add_state("counts", default=torch.zeros(4, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("of_each", default=torch.zeros(4, len(self.names), dtype=torch.double), dist_reduce_fx="sum")
        self.add_state("floor", default=torch.zeros(()), dist_reduce_fx="sum")

    known: Tensor
    sided: Tensor
    rest: Tensor
    mirrored_rest: Tensor
    rest_floor: Tensor

    def update(self, coordinate: Tensor, foreground: Tensor, joints: Tensor, image_size: Tensor) -> None:
        """Add views.

        Args:
            coordinate: (..., 3, H, W) [m].
            foreground: (..., H, W), probability or bool.
            joints: (..., J, 3): x, y [px of the input image], confidence.
            image_size: (..., 2) width and height of the input image [px], as in ``Camera.image_size``.
        """
        height, width = foreground.shape[-2:]
        if joints.shape[-2:] != (len(self.names), 3):
            raise InputError(f"joints: found shape {tuple(joints.shape)}, expected (..., {len(self.names)}, 3).")
        joints = joints.reshape(-1, *joints.shape[-2:]).float()
        finite = joints.isfinite().all(dim=-1)
        joints = torch.where(finite[..., None], joints, 0.0)
        found, probability, inside = cells_at(
            coordinate.detach().float().reshape(-1, 3, height, width),
            foreground.detach().float().reshape(-1, height, width),
            joints[..., :2],
            image_size.reshape(-1, 2),
        )
        detected = finite & inside & (joints[..., 2] >= LEAST_CONFIDENCE) & self.known
        used = detected & (probability > self.threshold) & found.isfinite().all(dim=-1)
        own = (found - self.rest).norm(dim=-1)
        other = (found - self.mirrored_rest).norm(dim=-1)
        sided = used & self.sided
        self.errors.append(own[used])
        self.counts += torch.stack([detected.sum(), used.sum(), sided.sum(), (sided & (other < own)).sum()])
        each = detected, used, torch.where(used, own, 0.0), sided & (other < own)
        self.of_each += torch.stack([one.double().sum(0) for one in each])
        self.floor += (self.rest_floor * used).sum()

    def compute(self) -> dict[str, Tensor]:
        """Return the scalars listed above."""
        error = 100 * concatenate(self.errors, self.device)
        detected, used, sided, exchanged = self.counts.float().unbind()
        if error.numel() == 0:
            rank_zero_warn("JointError saw no detected joint on the predicted foreground: its values are NaN.")
        values = {
            "joint_cm": quantile(error, 0.5),
            "joint_mean_cm": error.double().mean().to(error.dtype),
            "joint_on_foreground": used / detected,
            "left_right_exchanged": exchanged / sided,
            "joint_floor_cm": 100 * self.floor / used,
            "joints": detected,
        }
        for name, sided_one, (seen, count, total, turned) in zip(
            self.names, self.sided.tolist(), self.of_each.T.tolist() if self.each else [], strict=False
        ):
            if seen:
                values[f"joint/{name}/on_foreground"] = error.new_tensor(count / seen)
            if count:
                values[f"joint/{name}/cm"] = error.new_tensor(100 * total / count)
                if sided_one:
                    values[f"joint/{name}/exchanged"] = error.new_tensor(turned / count)
        return values


def _rows(points: Sequence[Any]) -> Tensor:
    return torch.stack([torch.as_tensor(point, dtype=torch.float32) for point in points])
