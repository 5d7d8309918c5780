"""A small body with a left and a right, for figures."""

import numpy as np
import pytest

from dkp.surface import Surface


@pytest.fixture(scope="session")
def doll() -> Surface:
    """A closed box, 0.8 m wide, 1.6 m tall and 0.2 m deep, with a mirror map: x to the left, y up, z to the front."""
    grid = np.array([[x, y, z] for x in (-0.4, 0, 0.4) for y in (0, 0.8, 1.6) for z in (-0.1, 0.1)])
    at = {tuple(np.round(point, 3)): number for number, point in enumerate(grid)}
    faces = []

    def quad(a, b, c, d):
        faces.extend([[a, b, c], [a, c, d]])

    def node(x, y, z):
        return (x * 3 + y) * 2 + z

    for x in range(2):
        for y in range(2):
            quad(node(x, y, 1), node(x + 1, y, 1), node(x + 1, y + 1, 1), node(x, y + 1, 1))
            quad(node(x, y, 0), node(x, y + 1, 0), node(x + 1, y + 1, 0), node(x + 1, y, 0))
        quad(node(x, 0, 0), node(x + 1, 0, 0), node(x + 1, 0, 1), node(x, 0, 1))
        quad(node(x, 2, 0), node(x, 2, 1), node(x + 1, 2, 1), node(x + 1, 2, 0))
    for y in range(2):
        quad(node(0, y, 0), node(0, y, 1), node(0, y + 1, 1), node(0, y + 1, 0))
        quad(node(2, y, 0), node(2, y + 1, 0), node(2, y + 1, 1), node(2, y, 1))
    mirror = np.array([at[tuple(np.round(point * [-1, 1, 1], 3) + 0.0)] for point in grid])
    joined = np.array(faces)
    uv = np.zeros((len(joined), 3, 2))
    return Surface("doll", grid, joined, np.ones(len(joined)), uv, ["doll"], mirror=mirror)
