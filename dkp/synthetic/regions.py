"""Measures on a template's mesh that the regions of every species are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, diags


@dataclass
class Regions:
    """Where on a template its vertices lie, which a subject's paint depends on.

    Attributes:
        faces: (F, 3) int64.
        columns: (V, C) float32, what the paint depends on, at every vertex.
        spread: Sparse (V, V) matrix that averages a vertex with its neighbours.
    """

    faces: NDArray
    columns: NDArray
    spread: Any


def neighbour_mean(faces: NDArray, count: int) -> Any:
    """Sparse (V, V) matrix that averages each of ``count`` vertices with its neighbours by the faces (F, 3)."""
    first, second = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    rows, cols = np.concatenate([first, second]), np.concatenate([second, first])
    links = coo_matrix((np.ones(len(rows)), (rows, cols)), (count, count)).tocsr()
    links.data[:] = 1.0
    links = links + diags(np.ones(count))
    return diags(1.0 / np.asarray(links.sum(1)).ravel()) @ links


def along_chain(points: NDArray, chain: list[NDArray], between: float, beyond: float) -> NDArray:
    """How far along a chain of joints the nearest point of the chain is: 0 at the first, 1 at the second joint.

    Args:
        points: (N, 3) [m].
        chain: The joints (3,) [m]; the first bone reaches a share of 0.3 before its joint.
        between: How far an inner bone reaches, as a share of its length.
        beyond: How far the last bone reaches, likewise.
    """
    best, result = np.full(len(points), np.inf), np.zeros(len(points))
    for index in range(len(chain) - 1):
        bone = chain[index + 1] - chain[index]
        most = beyond if index == len(chain) - 2 else between
        share = np.clip((points - chain[index]) @ bone / (bone @ bone), -0.3 if index == 0 else 0.0, most)
        distance = np.linalg.norm(points - chain[index] - share[:, None] * bone, axis=1)
        result = np.where(distance < best, index + share, result)
        best = np.minimum(best, distance)
    return result
