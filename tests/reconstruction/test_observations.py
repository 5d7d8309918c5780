import numpy as np
import pytest
import torch

from dkp.reconstruction import observations as module, observe, sample_surface

SIGMA = 0.05


def reference(coordinate, foreground, point, size, sigma, radius, least_share, shrinkage):
    """One point in one view."""
    width = coordinate.shape[2]
    row, column = np.nonzero(foreground > 0.5)
    offset = coordinate[:, row, column].T - point
    distance = np.linalg.norm(offset, axis=1)
    weight = foreground[row, column] * np.maximum(0, 1 - (distance / (3 * sigma)) ** 2) ** 4
    pixel = np.stack([column + 0.5, row + 0.5], 1) * size / width
    best = weight.argmax()
    near = np.linalg.norm(pixel - pixel[best], axis=1) <= radius * size
    if distance[best] > 2 * sigma or weight[near].sum() < least_share * weight.sum():
        return None
    share = weight[near] / weight[near].sum()
    middle, mean = share @ pixel[near], share @ offset[near]
    centred = share[:, None] * (offset[near] - mean)
    spread = centred.T @ (offset[near] - mean) + shrinkage * sigma**2 * np.eye(3)
    step = -mean @ np.linalg.solve(spread, centred.T @ (pixel[near] - middle))
    return middle + step * min(1.0, radius * size / max(np.linalg.norm(step), 1e-9)), weight[best]


@pytest.mark.parametrize("shrinkage", [0.05, 1.0])
def test_against_a_loop_over_cells(scene, surface, shrinkage):
    generator = torch.Generator().manual_seed(0)
    coordinate = scene.coordinate + 0.02 * torch.randn(scene.coordinate.shape, generator=generator)
    probability = scene.foreground * (0.4 + 0.6 * torch.rand(scene.foreground.shape, generator=generator))
    points = torch.from_numpy(sample_surface(surface, 15).coordinate).float()
    found = observe(coordinate, probability, points, scene.camera.image_size, SIGMA, shrinkage=shrinkage)
    seen = 0
    for instant, view, number in np.ndindex(2, 6, 15):
        expected = reference(
            coordinate[instant, view].double().numpy(), probability[instant, view].double().numpy(),
            points[number].double().numpy(), 64.0, SIGMA, 0.125, 0.8, shrinkage,
        )  # fmt: skip
        weight = found.weights[instant, view, number].item()
        if expected is None:
            assert weight == 0
            continue
        seen += 1
        assert weight == pytest.approx(expected[1], abs=1e-4)
        np.testing.assert_allclose(found.pixels[instant, view, number], expected[0], atol=0.02)
    assert 40 < seen < 150


def test_exact_fields_are_read_to_a_fraction_of_a_cell(scene, surface):
    samples = sample_surface(surface, 300)
    points = torch.from_numpy(samples.coordinate)
    true, _ = scene.camera.project(samples.positions(scene.vertices)[:, None])
    medians = []
    for shrinkage in (1.0, 0.02):
        found = observe(scene.coordinate, scene.foreground, points, scene.camera.image_size, SIGMA, shrinkage=shrinkage)
        error = (found.pixels - true).norm(dim=-1)[found.weights > 0]
        medians.append(error.median().item())
        assert 0.3 < (found.weights > 0).float().mean() < 0.7
    assert medians[0] < 1.0  # a cell has 2 px
    assert medians[1] < 0.25


def blobs(*places, size=32):
    """A field whose cells around (row, column) carry the coordinates of a flat patch about a given point."""
    coordinate = torch.full((1, 1, 3, size, size), 9.0)
    foreground = torch.zeros(1, 1, size, size)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    for at_row, at_column, point in places:
        near = ((row - at_row).abs() <= 2) & ((column - at_column).abs() <= 2)
        patch = torch.stack([column - at_column, row - at_row, 0 * row]) * 0.03 + torch.tensor(point)[:, None, None]
        coordinate[0, 0] = torch.where(near, patch, coordinate[0, 0])
        foreground[0, 0][near] = 1
    return coordinate, foreground


ELBOW, OTHER = (0.4, 0.2, 0.0), (-0.4, 0.2, 0.0)
POINTS = torch.tensor([ELBOW, OTHER])
SIZE = torch.full((1, 1, 2), 64.0)


def test_a_limb_is_found_where_it_is():
    found = observe(*blobs((10, 8, ELBOW), (10, 24, OTHER)), POINTS, SIZE, SIGMA)
    assert (found.weights > 0.99).all()
    assert found.pixels[0, 0, 0].tolist() == pytest.approx([17, 21], abs=1e-3)
    assert found.pixels[0, 0, 1].tolist() == pytest.approx([49, 21], abs=1e-3)


def test_a_left_and_a_right_limb_with_one_coordinate_are_not_averaged():
    found = observe(*blobs((10, 8, ELBOW), (10, 24, ELBOW)), POINTS, SIZE, SIGMA)
    assert found.weights.tolist() == [[[0, 0]]]
    # the same share of matches elsewhere is tolerated where the caller says so, and still not averaged
    found = observe(*blobs((10, 8, ELBOW), (10, 24, ELBOW)), POINTS, SIZE, SIGMA, least_share=0.3)
    assert found.weights[0, 0, 0] > 0.99
    assert min(abs(found.pixels[0, 0, 0, 0] - 17), abs(found.pixels[0, 0, 0, 0] - 49)) < 1e-3


def test_the_background_and_numbers_that_are_none_take_no_part():
    coordinate, foreground = blobs((10, 8, ELBOW))
    foreground[0, 0, 20:, 20:] = 0.4
    coordinate[0, 0, :, 20:, 20:] = torch.tensor(ELBOW)[:, None, None]
    foreground[0, 0, 0, 31] = 1
    coordinate[0, 0, :, 0, 31] = torch.nan
    foreground[0, 0, 0, 30] = 1
    coordinate[0, 0, :, 0, 30] = torch.inf
    found = observe(coordinate, foreground, POINTS, SIZE, SIGMA)
    assert found.pixels[0, 0, 0].tolist() == pytest.approx([17, 21], abs=1e-3)
    assert found.weights[0, 0, 1] == 0


def test_a_view_without_foreground_sees_nothing():
    coordinate, foreground = blobs((10, 8, ELBOW))
    found = observe(coordinate, 0 * foreground, POINTS, SIZE, SIGMA)
    assert found.weights.tolist() == [[[0, 0]]]
    assert found.pixels.isfinite().all()


def test_a_coordinate_out_of_reach_is_no_observation():
    coordinate, foreground = blobs((10, 8, ELBOW))
    for offset, seen in ((1.9, True), (2.1, False)):
        points = torch.tensor([ELBOW]) + torch.tensor([0.0, 0.0, offset * SIGMA])
        assert (observe(coordinate, foreground, points, SIZE, SIGMA).weights > 0).item() == seen


def test_views_in_portions_give_the_same(scene, surface, monkeypatch):
    points = torch.from_numpy(sample_surface(surface, 50).coordinate)
    arguments = (scene.coordinate, scene.foreground, points, scene.camera.image_size, SIGMA)
    whole = observe(*arguments)
    cells = int((scene.foreground > 0.5).flatten(2).sum(-1).amax())
    monkeypatch.setitem(module._ENTRIES, "cpu", cells * len(points))  # a view at a time
    parts = observe(*arguments)
    torch.testing.assert_close(parts.pixels, whole.pixels)
    torch.testing.assert_close(parts.weights, whole.weights)
    for entries in (7 * cells, 1):  # seven points of a view at a time, and one: products of float32 round otherwise
        monkeypatch.setitem(module._ENTRIES, "cpu", entries)
        parts = observe(*arguments)
        torch.testing.assert_close(parts.pixels, whole.pixels, atol=1e-3, rtol=0)
        torch.testing.assert_close(parts.weights, whole.weights, atol=1e-4, rtol=0)
    for points_together in (7, 1):
        monkeypatch.setattr(module, "_PIECE", points_together)
        parts = observe(*arguments)
        torch.testing.assert_close(parts.pixels, whole.pixels, atol=1e-3, rtol=0)
        torch.testing.assert_close(parts.weights, whole.weights, atol=1e-4, rtol=0)
