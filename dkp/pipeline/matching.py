"""A part of a page: click a pixel of one view, and see what matches it in the others, and its epipolar lines."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from dkp.geometry import Camera, fundamental_matrix
from dkp.metrics.consistency import RELATIVE_GATE
from dkp.surface import Surface
from dkp.viz.page import jpeg, packed

LEVELS = 4095
"""Steps between the two ends of the surface: half a millimetre for a person."""

ENLARGED = 2
"""Pixels of the page for one of an image."""


def packed_field(coordinate: Tensor, foreground: Tensor, surface: Surface) -> dict[str, Any]:
    """Return fields (V, 3, H, W) [m] and (V, H, W), probability, as `matching.js` unpacks them."""
    low, side = lowest(surface)
    places = np.nan_to_num((coordinate.movedim(1, -1).numpy() - low) / side)
    numbers = np.round(LEVELS * places.clip(0, 1)).astype(np.uint16)
    shape = list(foreground.shape)
    chance = np.round(255 * foreground.float().numpy()).astype(np.uint8)
    return {"shape": shape, "coordinate": packed(numbers.reshape(-1, 3)), "foreground": packed(chance.reshape(-1, 1))}


def lowest(surface: Surface) -> tuple[np.ndarray, float]:
    """Return the lower corner (3,) of a cube around a surface, with some room, and its side [m]."""
    low, high = surface.vertices.min(0), surface.vertices.max(0)
    side = 1.2 * float((high - low).max())
    return (low + high - side) / 2, side


def matching_data(images: Tensor, camera: Camera, fields: Mapping[str, Any], surface: Surface) -> dict[str, Any]:
    """Return the data of `matching.js`.

    Args:
        images: (V, 3, N, N) in [0, 1].
        camera: (V,), of the images, without distortion.
        fields: name of a run -> `packed_field`, of the same views.
        surface: of the coordinates.
    """
    lines = fundamental_matrix(camera[:, None], camera[None]).tolist()
    pictures = [jpeg(np.round(255 * image.movedim(0, -1).numpy()).astype(np.uint8)) for image in images]
    _, side = lowest(surface)
    sigma = RELATIVE_GATE * surface.extent
    return {
        "images": pictures,
        "side": images.shape[-1],
        "enlarged": ENLARGED,
        "lines": lines,
        "fields": dict(fields),
        "sigma": sigma / side * LEVELS,
        "metres": side / LEVELS,
    }


def matching_html(names: Sequence[str], fields: Mapping[str, Any]) -> str:
    """Html of the views, whose names are given, and of the choice of a run."""
    options = "".join(f"<option>{html.escape(name)}</option>" for name in reversed(list(fields)))
    views = "".join(
        f'<figure><canvas style="cursor: crosshair"></canvas><figcaption>{html.escape(name)}</figcaption></figure>'
        for name in names
    )
    return (
        f'<h2>Click a pixel</h2><p>fields of <select id="run">{options}</select> <span id="said">Click a pixel that '
        'shows the surface.</span></p><div id="matching" style="display: flex; flex-wrap: wrap; gap: .6em">'
        f"{views}</div>"
        '<p class="note">Red: how far the pixels of the other views match the one that was clicked (matchability). '
        "Blue: its epipolar line, on which its match has to lie; a ring marks the best match.</p>"
    )
