"""Where each view of an instant sees each surface point: one position to a fraction of a cell, or none."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dkp.geometry import full_precision
from dkp.geometry.triangulation import solve_symmetric

REACH = 2.0
"""A view sees a point where the coordinate of the best cell is no further from it than this many sigma."""
WINDOW = 3.0
"""Cells less than this many sigma away take part in the mean."""
_ENTRIES = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Most (view, point, cell) entries worked on at once: on the CPU those that its cache holds."""
_PIECE = 128
"""Points that are looked for together, in the cells that are near enough to any of them."""


@dataclass(frozen=True)
class Observations:
    """Observations of N surface points in V views of B instants.

    Attributes:
        pixels: (B, V, N, 2) [px] of the images; meaningless where the weight is 0.
        weights: (B, V, N) in [0, 1], the best cell's foreground probability times its matchability; 0 = not seen.
    """

    pixels: Tensor
    weights: Tensor


@full_precision
@torch.no_grad()
def observe(
    coordinate: Tensor,
    foreground: Tensor,
    points: Tensor,
    image_size: Tensor,
    sigma: float,
    *,
    radius: float = 0.125,
    least_share: float = 0.8,
    shrinkage: float = 1.0,
    threshold: float = 0.5,
) -> Observations:
    """Find surface points in dense fields.

    A foreground cell i matches a point q with w_i = P_i max(0, 1 - |u_i - q|² / (3 sigma)²)⁴, nearly a Gaussian of
    width sigma but zero beyond 3 sigma. The observation is the weighted mean of the matching cells' pixels around the
    best one, moved by a regression of pixels on coordinates from where the mean coordinate lies to q. Where matching
    cells lie elsewhere in the image as well (a left and a right limb that carry the same coordinate), there is no
    observation: a mean would lie between them.

    Args:
        coordinate: (B, V, 3, H, W) [m], surface coordinates of the fields.
        foreground: (B, V, H, W), probability or bool.
        points: (N, 3) [m], surface points at rest.
        image_size: (B, V, 2) [px], width and height of the images.
        sigma: width of the matchability [m].
        radius: cells further from the best one than this share of the image's longer side lie elsewhere.
        least_share: least share of the matching weight that has to lie within the radius.
        shrinkage: of the regression, in sigma²: towards 0 the coordinates are taken at their word (right for fields
            that are exact to less than a cell), large values give the plain mean (right for noisy ones).
        threshold: foreground probability above which a cell is foreground.

    Returns:
        The observations; they carry no gradient.
    """
    batch, views, _, height, width = coordinate.shape
    rows = batch * views
    # on CUDA products of float32 numbers may be TF32, which is too coarse for differences of squares
    precise = torch.float64 if coordinate.device.type == "cuda" else torch.float32
    field = coordinate.reshape(rows, 3, -1).to(precise)
    probability = foreground.reshape(rows, -1).to(precise)
    size = image_size.reshape(rows, 2).to(field)
    shown = (probability > threshold) & field.isfinite().all(1)
    cell, shown = _columns(shown)
    column, row = cell % width, torch.div(cell, width, rounding_mode="floor")
    step = size / size.new_tensor([width, height])
    pixel = (torch.stack([column, row], 1) + 0.5) * step[..., None]
    field = torch.where(shown[:, None], _taken(field, cell), 0.0)
    probability = torch.where(shown, probability.gather(1, cell), 0.0)
    reach = radius * size.amax(-1)
    points = points.to(field)
    pixels, weights = field.new_zeros(rows, len(points), 2), field.new_zeros(rows, len(points))
    entries = _ENTRIES.get(field.device.type, _ENTRIES["cpu"])
    for index in _pieces(points, torch.arange(len(points), device=points.device)):
        some, middle = points[index], points[index].mean(0)  # about which squares are small, and precise
        low, high = (some.amin(0) - WINDOW * sigma)[:, None], (some.amax(0) + WINDOW * sigma)[:, None]
        near, there = _columns(shown & ((field >= low) & (field <= high)).all(1))
        chunk = max(1, entries // (near.shape[1] * len(index)))
        for start in range(0, rows if bool(there.any()) else 0, chunk):
            part = slice(start, start + chunk)
            cells, own = near[part], probability[part].gather(1, near[part]) * there[part]
            views_of = _taken(field[part], cells) - middle[:, None], own, _taken(pixel[part], cells), reach[part]
            found = _observe(*views_of, some - middle, sigma, least_share, shrinkage)
            pixels[part, index], weights[part, index] = found
    return Observations(pixels.unflatten(0, (batch, views)), weights.unflatten(0, (batch, views)))


def _columns(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return which columns are chosen in each row (R, M), (R, K) long, and which entries are no mere filling."""
    count = chosen.sum(1)
    most = max(1, int(count.amax()) if len(count) else 1)
    row, column = chosen.nonzero(as_tuple=True)
    index = column.new_zeros(len(chosen), most)
    index[row, chosen.cumsum(1)[row, column] - 1] = column
    return index, torch.arange(most, device=count.device) < count[:, None]


def _taken(values: Tensor, column: Tensor) -> Tensor:
    """Return the columns (R, K) of values (R, D, M) as (R, D, K)."""
    return values.gather(2, column[:, None].expand(-1, values.shape[1], -1))


def _pieces(points: Tensor, index: Tensor) -> list[Tensor]:
    """Split the indices of points into pieces of at most `_PIECE` that lie together: halves along the widest axis."""
    if len(index) <= _PIECE:
        return [index]
    some = points[index]
    axis = int((some.amax(0) - some.amin(0)).argmax())
    halves = index[some[:, axis].argsort(stable=True)].tensor_split(2)
    return [piece for half in halves for piece in _pieces(points, half)]


def _observe(
    field: Tensor,
    probability: Tensor,
    pixel: Tensor,
    reach: Tensor,
    points: Tensor,
    sigma: float,
    least_share: float,
    shrinkage: float,
) -> tuple[Tensor, Tensor]:
    """Observations of points (N, 3) in R views of M cells each: pixels (R, N, 2) and weights (R, N).

    Args:
        field: (R, 3, M) [m].
        probability: (R, M), 0 for entries that only fill up a row.
        pixel: (R, 2, M) [px].
        reach: (R,) [px].
        points: (N, 3) [m].
        sigma: [m].
        least_share: see `observe`.
        shrinkage: see `observe`.
    """
    squared = _squared_distance(points.expand(len(field), -1, -1), field)
    weight = (1 - squared / (WINDOW * sigma) ** 2).clamp_min_(0).square_().square_().mul_(probability[:, None])
    best, nearest = weight.max(-1)
    near = weight * (_squared_distance(_taken(pixel, nearest).mT, pixel) <= reach[:, None, None].square())
    products = [(field[:, :, None] * other[:, None]).flatten(1, 2) for other in (field, pixel)]
    moments = torch.cat([torch.ones_like(pixel[:, :1]), pixel, field, *products], 1) @ near.mT  # (R, 21, N)
    mass = moments[:, :1].clamp_min(torch.finfo(moments.dtype).tiny)
    mean_pixel, mean = moments[:, 1:3] / mass, moments[:, 3:6] / mass
    spread = (moments[:, 6:15] / mass).unflatten(1, (3, 3)) - mean[:, :, None] * mean[:, None]
    mixed = (moments[:, 15:] / mass).unflatten(1, (3, 2)) - mean[:, :, None] * mean_pixel[:, None]
    spread.diagonal(dim1=1, dim2=2).add_(shrinkage * sigma**2)
    offset = (solve_symmetric(spread, points.mT - mean)[:, :, None] * mixed).sum(1)
    # an extrapolation is never taken further than the cells that it rests on
    limit = reach[:, None, None] / offset.square().sum(1, keepdim=True).sqrt().clamp_min(1e-9)
    moved = mean_pixel + offset * limit.clamp_max(1.0)
    single = mass[:, 0] >= least_share * weight.sum(-1)
    close = squared.gather(2, nearest[..., None])[..., 0] <= (REACH * sigma) ** 2
    return moved.mT, torch.where(single & close, best, 0.0)


def _squared_distance(points: Tensor, other: Tensor) -> Tensor:
    """(R, N, M) squared distances of points (R, N, D) and others (R, D, M), to a millionth of the largest square."""
    return torch.baddbmm(points.square().sum(-1)[..., None] + other.square().sum(1)[:, None], points, other, alpha=-2)
