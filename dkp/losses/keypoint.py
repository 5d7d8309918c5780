"""The keypoint term L_K: sparse keypoints that a lab has anyhow say where named points of the surface are."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dkp.batches import LEAST_CONFIDENCE, flatten_views
from dkp.errors import InputError
from dkp.fields import cells_at
from dkp.losses.term import LossContext, LossTerm, Need
from dkp.losses.value import LossValue, Mean, masked_mean
from dkp.surface import Surface


@dataclass(kw_only=True)
class KeypointTerm(LossTerm):
    """L_K: at the pixel of a detected keypoint the field says that named point of the surface.

    A keypoint is a joint's centre, which lies inside the body; what the visible skin is nearer to it than the nearest
    skin of the template costs nothing. The rest of the distance d costs log(1 + (d / scale)²), so that a keypoint that
    is hidden behind the body, or wrong, pulls little. The foreground is drawn to 1 there. Both weighted by confidence.

    Attributes:
        names: Of the keypoints, as `data.keypoints`; points of `Surface.joints`.
        surface: Name or file of the surface.
        scale: Distance from which a keypoint pulls less again [m].
        foreground_weight: Weight of the foreground's part.
    """

    symbol = "L_K"
    needs: ClassVar[tuple[Need, ...]] = ("keypoints",)
    hint = "check that data.keypoints names joints that the unlabelled capture has"

    names: list[str] = field(default_factory=list)
    surface: str = "human"
    scale: float = 0.1
    foreground_weight: float = 0.3

    @cached_property
    def _points(self) -> tuple[Tensor, Tensor]:
        """Rest positions (J, 3) of the keypoints and their distances (J,) from the nearest skin [m]."""
        surface = Surface.load(self.surface)
        if unknown := [name for name in self.names if name not in surface.joints]:
            raise InputError(
                f"model.terms: L_K names {', '.join(unknown)}, expected joints of the surface {surface.name}: "
                f"{', '.join(surface.joints) or 'it has none'}"
            )
        centres = np.stack([surface.joints[name] for name in self.names])
        depth = surface.locate(centres)[2]
        return torch.from_numpy(centres).float(), torch.from_numpy(np.asarray(depth)).float()

    def __call__(self, context: LossContext) -> LossValue:
        """Return the mean over detected keypoints of all present views."""
        views, seen = context.views, context.field
        joints = flatten_views(views, "joints")  # (N, J, 3)
        if joints.shape[1] != len(self.names):
            raise InputError(
                f"model.terms: L_K names {len(self.names)} keypoints where the data gives {joints.shape[1]}, expected "
                "names: ${data.init_args.keypoints}"
            )
        rest, depth = (value.to(joints) for value in self._points)
        size = joints.new_tensor([views["image"].shape[-1], views["image"].shape[-2]]).expand(len(joints), 2)
        said = seen.coordinates(context.atlas)
        coordinate, logit, inside = cells_at(said, seen.foreground, joints[..., :2], size)
        known = inside & (joints[..., 2] >= LEAST_CONFIDENCE) & context.present[:, None]
        distance = ((coordinate.float() - rest).square().sum(-1) + 1e-8).sqrt()
        pull = torch.log1p(((distance - depth).clamp_min(0) / self.scale).square())
        foreground = functional.softplus(-logit.float())
        weight = torch.where(known, joints[..., 2], 0.0)
        means = Mean.of((pull, weight)), Mean.of((foreground, weight)).times(self.foreground_weight)
        parts = {"distance": masked_mean(distance, weight).detach()}
        return LossValue(means[0].value + means[1].value, known.float().mean(), parts, means)
