"""The equivariance term: random transformations of the same image with known maps, a source of L_T."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dkp.batches import flatten_views
from dkp.geometry import full_precision, pixel_grid, promote
from dkp.losses.term import LossContext
from dkp.losses.value import LossValue
from dkp.losses.warp import WarpTerm


def random_affine(
    count: int,
    size: tuple[int, int],
    *,
    degrees: float,
    scale: float,
    shift: float,
    device: torch.device | str | None = None,
) -> Tensor:
    """Similarity maps from pixels of an image to pixels of its transformed version, about the image's centre.

    Args:
        count: how many.
        size: (height, width) of the image [px].
        degrees: rotation is uniform in ± this.
        scale: magnification is log-uniform in [1 / (1 + scale), 1 + scale].
        shift: translation is uniform in ± this share of the image's size.
        device: where the result lives.

    Returns:
        matrix: (count, 2, 3), x' = matrix @ (x, y, 1) [px].
    """
    height, width = size
    uniform = torch.rand(count, 4, device=device) * 2 - 1
    angle = uniform[:, 0] * math.radians(degrees)
    factor = torch.exp(uniform[:, 1] * math.log1p(scale))
    cos, sin = factor * angle.cos(), factor * angle.sin()
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    centre = torch.tensor([width / 2, height / 2], device=device)
    extent = torch.tensor([float(width), float(height)], device=device)
    offset = centre + uniform[:, 2:] * shift * extent - linear @ centre
    return torch.cat([linear, offset[..., None]], -1)


def warp_images(images: Tensor, matrix: Tensor) -> Tensor:
    """Images as the maps say: what was at x is at matrix @ (x, 1); outside is the nearest border pixel.

    Args:
        images: (B, C, H, W).
        matrix: (B, 2, 3) [px], invertible.
    """
    height, width = images.shape[-2:]
    linear = torch.linalg.inv(matrix[:, :, :2])
    inverse = torch.cat([linear, -linear @ matrix[:, :, 2:]], -1)
    source = warp_from_affine(inverse, height, width, 1)
    grid = source / source.new_tensor([width, height]) * 2 - 1
    return functional.grid_sample(
        images, grid.to(images.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )


@full_precision
def warp_from_affine(matrix: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Where an affine map of the image takes the cells of a field.

    Args:
        matrix: (B, 2, 3) or (B, 3, 3), pixels to pixels of the transformed image.
        height: Rows of the field.
        width: Columns of the field.
        stride: Input pixels per cell.

    Returns:
        (B, H, W, 2) [px] in the transformed image.
    """
    (matrix,) = promote(matrix)
    grid = pixel_grid(height, width, stride, device=matrix.device, dtype=matrix.dtype)
    linear, shift = matrix[:, None, None, :2, :2], matrix[:, None, None, :2, 2]
    return (linear * grid.unsqueeze(-2)).sum(-1) + shift


@dataclass(kw_only=True)
class EquivarianceTerm(WarpTerm):
    """L_T with a random similarity of some of the unlabelled images.

    Attributes:
        views: Images of a batch that are transformed, chosen at random.
        degrees: Largest rotation.
        scale: Largest magnification minus one.
        shift: Largest shift, share of the image.
    """

    symbol = "L_T (transformation)"
    hint = "check that there are unlabelled images with foreground"

    views: int = 4
    degrees: float = 30.0
    scale: float = 0.25
    shift: float = 0.1

    def __call__(self, context: LossContext) -> LossValue:
        """L_T between some views and their transformed images."""
        images, field = flatten_views(context.views), context.field
        candidates = context.present.nonzero()[:, 0]
        order = torch.randperm(len(candidates), device=images.device)[: self.views]
        chosen = candidates[order]
        size = (int(images.shape[-2]), int(images.shape[-1]))
        matrix = random_affine(
            len(chosen), size, degrees=self.degrees, scale=self.scale, shift=self.shift, device=images.device
        )
        after = context.student(warp_images(images[chosen], matrix))
        warped = warp_from_affine(matrix, *field.size, field.stride)
        return self.loss(field[chosen], after, warped, step=context.step, atlas=context.atlas)
