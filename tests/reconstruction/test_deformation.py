import math

import numpy as np
import pytest
import torch

from dkp.reconstruction import DeformationGraph
from dkp.reconstruction.deformation import _rotation, _turned_towards


@pytest.fixture(scope="module")
def graph(surface):
    return DeformationGraph(surface, 80)


def turn(degrees, axis=(0.3, 1.0, -0.5)):
    vector = torch.tensor(axis, dtype=torch.float64)
    return _rotation(vector / vector.norm() * math.radians(degrees))


def test_a_moved_body_is_the_surface_moved(graph, surface):
    rotation = torch.stack([torch.eye(3, dtype=torch.float64), turn(70.0)])
    translation = torch.tensor([[0.0, 0, 0], [0.3, -0.2, 1.0]], dtype=torch.float64)
    body = graph.placed(rotation, translation)
    rest = torch.from_numpy(surface.vertices)
    expected = rest @ rotation.mT + translation[:, None]
    torch.testing.assert_close(graph.vertices(body), expected, atol=1e-12, rtol=0)


def test_single_positions_are_those_of_the_posed_surface(graph, surface):
    generator = torch.Generator().manual_seed(1)
    body = graph.placed(torch.stack([turn(10.0), turn(50.0)]), torch.zeros(2, 3, dtype=torch.float64))
    moved = body.position + 0.1 * torch.rand(body.position.shape, generator=generator, dtype=torch.float64)
    body = type(body)(moved, body.rotation, torch.tensor([1.1, 0.9], dtype=torch.float64))
    owner, vertex = torch.tensor([0, 1, 1]), torch.tensor([5, 5, 100])
    points = graph.attach(owner, torch.from_numpy(surface.vertices)[vertex], 2)
    torch.testing.assert_close(points.positions(body)[0], graph.vertices(body)[owner, vertex])


def test_points_between_vertices_and_off_the_surface_move_along(graph):
    """A point need not be a vertex: under a motion of the whole body it goes where the motion takes it."""
    rotation, shift = turn(40.0), torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    body = graph.placed(rotation[None], shift[None])
    generator = torch.Generator().manual_seed(2)
    coordinate = torch.rand(30, 3, generator=generator, dtype=torch.float64) - 0.5
    points = graph.attach(torch.zeros(30, dtype=torch.long), coordinate, 1)
    position, held = points.positions(body)
    torch.testing.assert_close(position, coordinate @ rotation.mT + shift)
    torch.testing.assert_close(held, (points.shares[..., None] * body.position[0, points.nodes]).sum(1))


def test_pulls_of_points_add_up_on_their_nodes(graph):
    """A pull is the least squares of points that their nodes' positions hold, of two bodies apart."""
    generator = torch.Generator().manual_seed(3)
    owner = torch.tensor([0, 0, 0, 1, 1])
    points = graph.attach(owner, torch.rand(5, 3, generator=generator).double(), 2)
    weight = torch.rand(5, generator=generator).double()
    target = torch.rand(5, 3, generator=generator).double()
    carry = torch.zeros(5, 2 * len(graph), dtype=torch.float64).scatter_add(1, points.nodes, points.shares)
    matrix, right = graph.no_pull(2)
    points.pull(weight, target, matrix, right)
    for number in range(2):
        own = carry[owner == number][:, number * len(graph) : (number + 1) * len(graph)]
        pull = own.mT * weight[owner == number]
        torch.testing.assert_close(matrix[number], (pull @ own).tril())
        torch.testing.assert_close(right[number], pull @ target[owner == number])


def test_every_edge_has_its_reverse_and_none_crosses_the_air(graph):
    edges = set(zip(graph.start.tolist(), graph.end.tolist(), strict=True))
    assert all((end, start) in edges for start, end in edges)
    assert all(start != end for start, end in edges)
    torch.testing.assert_close(graph.shares.sum(1), torch.ones(len(graph.shares), dtype=torch.float64))
    torch.testing.assert_close(graph.laplacian.sum(1), torch.zeros(len(graph), dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [1.0, 1.25])
def test_a_pull_to_a_turned_body_turns_it(graph, surface, size):
    """Nodes that are pulled to a turned, larger body end there, with its rotation and size, and so does the skin."""
    rotation = turn(50.0)
    target = size * graph.rest @ rotation.mT + torch.tensor([0.1, 0.2, 0.3])
    body = graph.placed(torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 3, dtype=torch.float64))
    matrix = torch.eye(len(graph), dtype=torch.float64)[None]
    for _ in range(60):
        body = graph.pulled(body, matrix, target[None], torch.ones(1))
    torch.testing.assert_close(body.position[0], target, atol=1e-4, rtol=0)
    torch.testing.assert_close(body.rotation[0], rotation.expand_as(body.rotation[0]), atol=1e-4, rtol=0)
    assert float(body.scale) == pytest.approx(size, abs=1e-4)
    expected = size * torch.from_numpy(surface.vertices) @ rotation.mT + torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(graph.vertices(body)[0], expected, atol=1e-3, rtol=0)


def test_a_part_that_is_pulled_takes_the_rest_along(graph):
    """Only the upper half is pulled, half a metre to the side; the lower half follows, and edges keep their lengths."""
    upper = (graph.rest[:, 1] > 0).double()
    aside = torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64)
    body = graph.placed(torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 3, dtype=torch.float64))
    right = upper[:, None] * (graph.rest + aside)
    for _ in range(200):
        body = graph.pulled(body, torch.diag(upper)[None], right[None], torch.ones(1))
    torch.testing.assert_close(body.position[0], graph.rest + aside, atol=0.02, rtol=0)
    length = (body.position[0, graph.end] - body.position[0, graph.start]).norm(dim=-1)
    assert ((length / graph.edge.norm(dim=-1)) - 1).abs().max() < 0.02


def test_rotations_agree_with_singular_value_decomposition():
    generator = torch.Generator().manual_seed(0)
    moment = torch.eye(3, dtype=torch.float64) + 0.3 * torch.randn(20, 3, 3, generator=generator, dtype=torch.float64)
    found = torch.eye(3, dtype=torch.float64).repeat(20, 1, 1)
    for _ in range(50):
        found = _turned_towards(found, moment)
    left, _, right = np.linalg.svd(moment.numpy())
    sign = np.sign(np.linalg.det(left @ right))
    left[:, :, 2] *= sign[:, None]
    np.testing.assert_allclose(found.numpy(), left @ right, atol=1e-6)
