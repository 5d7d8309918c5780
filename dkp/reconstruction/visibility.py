"""Which points a view sees and which are hidden behind others, by a coarse depth map of points."""

import torch
from torch import Tensor

from dkp.geometry import Camera, full_precision


def _cells(pixels: Tensor, depth: Tensor, camera: Camera, cells: int) -> tuple[Tensor, Tensor]:
    """Flat cell index (..., V, N) of pixels (..., V, N, 2), and which are in the image and in front of the camera."""
    longer = camera.image_size.amax(-1)[..., None, None]
    inside = (pixels >= 0) & (pixels < camera.image_size[..., None, :])
    inside = inside.all(-1) & (depth > 0)
    cell = torch.where(inside[..., None], pixels / longer * cells, 0.0).long().clamp(0, cells - 1)
    return cell[..., 1] * cells + cell[..., 0], inside


@full_precision
@torch.no_grad()
def depth_map(cloud: Tensor, camera: Camera, cells: int) -> Tensor:
    """Least depth of a cloud's points in every cell of every view.

    Args:
        cloud: (..., N, 3) [m]; points that are not finite are left out.
        camera: (..., V).
        cells: of the image's longer side. A cell has to be wide enough to hold some points wherever the cloud is seen.

    Returns:
        (..., V, cells * cells) [m], inf where a cell has no point.
    """
    pixels, depth = camera.project(cloud[..., None, :, :].to(camera.dtype))
    index, inside = _cells(pixels, depth, camera, cells)
    inside = inside & pixels.isfinite().all(-1)
    empty = torch.full((*camera.shape, cells * cells), torch.inf, dtype=depth.dtype, device=depth.device)
    return empty.scatter_reduce(-1, index, torch.where(inside, depth, torch.inf), "amin")


@full_precision
@torch.no_grad()
def in_sight(
    points: Tensor, camera: Camera, depths: Tensor, tolerance: float, normals: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Which points lie in the image and not behind the cloud of a depth map.

    Args:
        points: (..., N, 3) [m].
        camera: (..., V).
        depths: (..., V, cells * cells) [m], from `depth_map`.
        tolerance: a point may lie this far behind the nearest one of its cell [m].
        normals: (..., N, 3), outwards; given, points whose normal points away from a camera are out of its sight.

    Returns:
        pixels: (..., V, N, 2) [px].
        seen: (..., V, N) bool.
    """
    points = points.to(camera.dtype)
    pixels, depth = camera.project(points[..., None, :, :])
    cells = round(depths.shape[-1] ** 0.5)
    index, inside = _cells(pixels, depth, camera, cells)
    seen = inside & (depth <= depths.gather(-1, index) + tolerance)
    if normals is not None:
        ray = points[..., None, :, :] - camera.centre()[..., None, :]
        seen = seen & ((ray * normals.to(ray)[..., None, :, :]).sum(-1) < 0)
    return pixels, seen
