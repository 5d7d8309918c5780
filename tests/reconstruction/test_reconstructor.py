import pytest
import torch

from dkp.errors import InputError
from dkp.reconstruction import Observations, ReconstructionSettings, Reconstructor, confidence
from dkp.surface import Surface


@pytest.fixture(scope="module")
def exact(surface):
    return Reconstructor(surface, ReconstructionSettings(points=300, shrinkage=0.02))


def test_exact_fields_give_the_posed_surface(scene, exact):
    found = exact(scene.coordinate, scene.foreground, scene.camera)
    assert found.points.shape == (2, 300, 3)
    error = (found.points - exact.positions(scene.vertices)).norm(dim=-1)
    assert found.valid.float().mean() > 0.95
    assert error[found.valid].median() < 0.006  # a cell is 7 cm wide
    assert error[found.valid].quantile(0.95) < 0.03
    assert found.residual[found.valid].median() < 0.4


def test_what_two_views_show_is_found(scene, exact):
    visible = exact.visible(scene.vertices, scene.camera)
    assert visible.shape == (2, 6, 300)
    enough = visible.sum(1) >= 2
    found = exact(scene.coordinate, scene.foreground, scene.camera)
    assert found.valid[enough].float().mean() > 0.99


def test_a_view_that_mistakes_left_for_right_is_outvoted(scene, surface):
    reconstructor = Reconstructor(surface, ReconstructionSettings(points=300))
    before = reconstructor(scene.coordinate, scene.foreground, scene.camera)
    coordinate = scene.coordinate.clone()
    coordinate[:, 2, 0] *= -1
    after = reconstructor(coordinate, scene.foreground, scene.camera)
    true = reconstructor.positions(scene.vertices)
    both = before.valid & after.valid
    assert both.sum() > 0.7 * before.valid.sum()
    moved = (after.points - true).norm(dim=-1)[both].median() / (before.points - true).norm(dim=-1)[both].median()
    assert moved < 1.5  # a view is lost; taken at its word it would add decimetres


def test_absent_views_take_no_part(scene, exact):
    present = torch.ones(2, 6, dtype=torch.bool)
    present[1, 3:] = False
    found = exact(scene.coordinate, scene.foreground, scene.camera, present)
    assert not found.inliers[1, 3:].any()
    assert found.inliers[0, 3:].any()
    alone = exact(scene.coordinate[1:, :3], scene.foreground[1:, :3], scene.camera[1:, :3])
    torch.testing.assert_close(found.points[1], alone.points[0], equal_nan=True)


def test_instants_do_not_touch_each_other(scene, exact):
    together = exact(scene.coordinate, scene.foreground, scene.camera)
    for number in range(2):
        part = slice(number, number + 1)
        alone = exact(scene.coordinate[part], scene.foreground[part], scene.camera[part])
        torch.testing.assert_close(together.points[part], alone.points, equal_nan=True)


@pytest.mark.parametrize("made", ["as a plane", "of a mesh"])
def test_a_board_is_visible_from_both_sides(scene, made):
    surface = Surface.plane(0.6, 0.8, 0.1)
    if made == "of a mesh":
        surface = Surface.from_mesh(surface.vertices, surface.faces, "board")
    board = Reconstructor(surface, ReconstructionSettings(points=20))
    vertices = torch.from_numpy(surface.vertices)[None].expand(2, -1, -1)
    assert board.visible(vertices, scene.camera).float().mean() > 0.9
    assert board.sigma == pytest.approx(0.03 * 0.8)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"points": 0}, "points is 0"),
        ({"sigma": 0.0}, "sigma is 0.0"),
        ({"least_share": 1.5}, "least_share"),
        ({"shrinkage": 0.0}, "shrinkage"),
        ({"foreground": 1.0}, "foreground"),
        ({"threshold": 0.0}, "threshold"),
        ({"radius": 0.0}, "radius"),
        ({"min_angle": 180.0}, "min_angle"),
        ({"min_views": 1}, "min_views is 1 where 2 or more"),
    ],
)
def test_bad_settings_are_named(options, named):
    with pytest.raises(InputError, match=rf"reconstruction\.{named}"):
        ReconstructionSettings(**options)


def test_confidence_is_the_mean_of_the_views_that_agree():
    weights = torch.tensor([[[0.5, 0.9], [0.7, 0.8], [0.1, 0.2]]])
    agree = torch.tensor([[[True, False], [True, False], [False, False]]])
    found = type("Found", (), {"inliers": agree, "views": agree.sum(1)})
    mean = confidence(Observations(torch.zeros(1, 3, 2, 2), weights), found)
    torch.testing.assert_close(mean, torch.tensor([[0.6, 0.0]]))
