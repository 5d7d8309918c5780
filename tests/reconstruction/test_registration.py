import numpy as np
import pytest
import torch

from dkp.errors import InputError
from dkp.reconstruction import ReconstructionSettings, Reconstructor, RegistrationSettings, SurfaceRegistration
from dkp.reconstruction.registration import rigid_motion
from dkp.surface import Surface

NODES = 120


@pytest.fixture(scope="module")
def register(surface):
    return SurfaceRegistration(surface, RegistrationSettings(nodes=NODES))


def error(found, scene):
    """Mean distance of the vertices from where they are (B,) [m]."""
    return (found.vertices - scene.vertices).norm(dim=-1).mean(-1)


def slipped(scene, surface, by, above=-torch.inf):
    """Fields that are wrong in all views alike: places above a height [m] are taken for ones further up the body."""
    coordinate = scene.coordinate.movedim(2, -1)
    there = coordinate[..., 1] > above
    moved = coordinate[there].double().numpy() + np.array([0.0, by, 0.0])
    face, barycentric, _ = surface.locate(moved)
    result = coordinate.clone()
    result[there] = torch.from_numpy(surface.coordinates(face, barycentric)).to(coordinate)
    return result.movedim(-1, 2)


def test_exact_fields_give_the_posed_surface(scene, register):
    found = register(scene.coordinate, scene.foreground, scene.camera)
    assert found.vertices.shape == scene.vertices.shape
    assert error(found, scene).max() < 0.02  # a cell is 7 cm wide
    assert found.agreement.min() > 0.8


def test_what_all_views_get_wrong_alike_is_put_right(scene, surface, register):
    """Triangulation repeats the mistake of a third of the body; the surface as a whole does not stretch to it."""
    coordinate = slipped(scene, surface, 0.2, above=0.3)
    triangulated = Reconstructor(surface, ReconstructionSettings(points=300))
    points = triangulated(coordinate, scene.foreground, scene.camera)
    wrong = points.valid & (torch.from_numpy(triangulated.samples.coordinate)[:, 1] > 0.5)
    before = (points.points - triangulated.positions(scene.vertices)).norm(dim=-1)[wrong].mean()
    found = register(coordinate, scene.foreground, scene.camera)
    after = (triangulated.positions(found.vertices) - triangulated.positions(scene.vertices)).norm(dim=-1)[wrong].mean()
    assert before > 0.1
    assert after < 0.5 * before


def test_silhouettes_help(scene, surface, register):
    """The whole body has slipped in all views, which lengths do not tell, but outlines do in part."""
    coordinate = slipped(scene, surface, 0.12)
    without = SurfaceRegistration(surface, RegistrationSettings(nodes=NODES, silhouette=0.0))
    before = error(without(coordinate, scene.foreground, scene.camera), scene)
    after = error(register(coordinate, scene.foreground, scene.camera), scene)
    assert (after < 0.92 * before).all()


def test_captured_masks_stand_in_for_a_foreground_that_is_too_large(scene, register):
    spoilt = torch.ones_like(scene.foreground)
    coordinate = scene.coordinate.nan_to_num()
    mask = scene.foreground > 0.5
    found = register(coordinate, spoilt, scene.camera, None, mask)
    assert error(found, scene).max() < 0.02
    nothing = torch.zeros_like(mask)
    again = register(scene.coordinate, scene.foreground, scene.camera, None, nothing)
    torch.testing.assert_close(again.vertices, register(scene.coordinate, scene.foreground, scene.camera).vertices)


INNER = {"top": [0.0, 0.5, 0.0], "bottom": [0.0, -0.5, 0.0], "left": [0.4, 0.0, 0.0], "right": [-0.4, 0.0, 0.0]}


def test_keypoints_put_right_what_all_views_get_wrong(scene, surface):
    """The whole body has slipped in all views; four points inside are detected, one of them wrongly in two views."""
    jointed = Surface("jointed", surface.vertices, surface.faces, surface.face_part, surface.corner_uv, ["all"], None,
                      {name: np.array(point) for name, point in INNER.items()})  # fmt: skip
    rest = torch.from_numpy(surface.vertices).expand_as(scene.vertices)
    rotation, shift = rigid_motion(rest, scene.vertices, torch.ones(rest.shape[:2]))
    posed = torch.tensor(list(INNER.values())).double() @ rotation.mT + shift[:, None]
    pixels = scene.camera.project(posed[:, None])[0]
    joints = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
    joints[:, :2, 1, :2] += 30.0
    joints[:, 2, 3] = torch.tensor([50.0, 3.0, 0.1])  # unsure
    coordinate = slipped(scene, surface, 0.12)
    given = coordinate, scene.foreground, scene.camera
    registration = SurfaceRegistration(jointed, RegistrationSettings(nodes=NODES, keypoint=1.0), list(INNER))
    without, found = registration(*given), registration(*given, joints=joints)
    assert (error(found, scene) < 0.6 * error(without, scene)).all()
    nothing = registration(*given, joints=torch.zeros_like(joints))
    torch.testing.assert_close(nothing.vertices, without.vertices)


def test_keypoints_that_the_surface_does_not_have(surface):
    with pytest.raises(
        InputError, match="keypoints: found wing, expected joints of the surface ellipsoid: it has none"
    ):
        SurfaceRegistration(surface, keypoints=["wing"])


def test_regions_tell_where_the_fields_are_wrong_or_nothing_was_seen(scene, surface, register):
    """The upper third is noise, the lower third was seen by one view only."""
    height = scene.coordinate[:, :, 1]
    generator = torch.Generator().manual_seed(0)
    noise = 0.4 * torch.randn(scene.coordinate.shape, generator=generator)
    coordinate = torch.where((height > 0.3)[:, :, None], scene.coordinate + noise, scene.coordinate)
    foreground = scene.foreground.clone()
    foreground[:, 1:][height[:, 1:] < -0.3] = 0
    found = register(coordinate, foreground, scene.camera)
    up = torch.from_numpy(surface.vertices[:, 1])
    middle = up.abs() < 0.2
    assert found.region[:, up > 0.5].mean() < 0.5 * found.region[:, middle].mean()
    assert found.views[:, up < -0.5].max() <= 1.5
    assert found.views[:, middle].mean() > 2


def test_agreement_tells_fields_that_are_wrong(scene, register):
    generator = torch.Generator().manual_seed(0)
    noise = 0.4 * torch.randn(scene.coordinate.shape, generator=generator, dtype=scene.coordinate.dtype)
    exact = register(scene.coordinate, scene.foreground, scene.camera).agreement
    noisy = register(scene.coordinate + noise, scene.foreground, scene.camera).agreement
    assert (noisy < 0.5 * exact).all()


def test_agreement_means_the_same_whatever_width_pulled(scene, surface, register):
    """A surface pulled by fewer pixels lies where it did here, and is not believed less for the narrower weight."""
    words = scene.coordinate, scene.foreground, scene.camera
    narrow = SurfaceRegistration(surface, RegistrationSettings(nodes=NODES, width_final=0.01))(*words)
    usual = register(*words)
    torch.testing.assert_close(narrow.agreement, usual.agreement, atol=0.05, rtol=0)
    assert narrow.region.mean() > usual.region.mean() - 0.05


@pytest.fixture(scope="module")
def two_sided(surface):
    """The ellipsoid with a mirror map."""
    index = np.linalg.norm(surface.vertices[None] * [-1, 1, 1] - surface.vertices[:, None], axis=-1).argmin(1)
    parts = (surface.face_part, surface.corner_uv, ["all"])
    return Surface("two sides", surface.vertices, surface.faces, *parts, index)


def test_pixels_may_mistake_left_for_right(scene, two_sided):
    """Two of six views exchange the sides: with the mirror map their pixels count, and the surface is no worse."""
    coordinate = scene.coordinate.clone()
    coordinate[:, :2, 0] *= -1
    plain, mirrored = (
        SurfaceRegistration(two_sided, RegistrationSettings(nodes=NODES, mirror=mirror))(
            coordinate, scene.foreground, scene.camera
        )
        for mirror in (None, 0.06)
    )
    assert (mirrored.agreement > plain.agreement + 0.01).all()
    assert (error(mirrored, scene) < error(plain, scene) + 0.002).all()


def test_views_that_disagree_on_the_sides_give_a_surface_all_the_same(scene, two_sided):
    """Three views against three: which is right cannot be told, but the surface lies one way round, not in between."""
    coordinate = scene.coordinate.clone()
    coordinate[:, :3, 0] *= -1
    found = SurfaceRegistration(two_sided, RegistrationSettings(nodes=NODES))(
        coordinate, scene.foreground, scene.camera
    )
    exchanged = scene.vertices[:, torch.from_numpy(two_sided.mirror)]
    either = torch.minimum(error(found, scene), (found.vertices - exchanged).norm(dim=-1).mean(-1))
    assert either.max() < 0.04


def test_absent_views_take_no_part(scene, register):
    present = torch.ones(2, 6, dtype=torch.bool)
    present[1, 3:] = False
    found = register(scene.coordinate, scene.foreground, scene.camera, present)
    alone = register(scene.coordinate[1:, :3], scene.foreground[1:, :3], scene.camera[1:, :3])
    assert error(alone, SceneOf(scene, 1)).max() < 0.03
    # the silhouettes' pull outwards is shared by the views there could be
    torch.testing.assert_close(found.vertices[1], alone.vertices[0], atol=5e-3, rtol=0)


class SceneOf:
    """One instant of a scene."""

    def __init__(self, scene, number):
        self.vertices = scene.vertices[number : number + 1]


def test_instants_do_not_touch_each_other(scene, register):
    together = register(scene.coordinate, scene.foreground, scene.camera)
    for number in range(2):
        part = slice(number, number + 1)
        alone = register(scene.coordinate[part], scene.foreground[part], scene.camera[part])
        torch.testing.assert_close(together.vertices[part], alone.vertices, atol=1e-6, rtol=0)
        torch.testing.assert_close(together.agreement[part], alone.agreement, atol=1e-6, rtol=0)


def test_an_instant_without_foreground_has_no_surface(scene, register):
    foreground = scene.foreground.clone()
    foreground[0] = 0
    found = register(scene.coordinate, foreground, scene.camera)
    assert found.vertices[0].isnan().all()
    assert found.agreement[0] == 0
    assert error(found, scene)[1] < 0.02


def test_a_board(scene):
    """A flat surface has no inside; its two sides look alike, and it may be seen from behind."""
    board = Surface.plane(0.8, 0.6, 0.1)
    camera = scene.camera[:1]
    pixels = torch.stack(torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="xy"), -1) * 2
    flat = pixels.reshape(1, 1, -1, 2).expand(1, 6, -1, 2).to(camera.dtype)
    rays, centre = camera.rays(flat), camera.centre()
    depth = -centre[:, :, None, 2] / rays[..., 2]  # the board lies in z = 0, its middle at the origin
    point = centre[:, :, None] + depth[..., None] * rays + torch.tensor([0.4, 0.3, 0.0])
    inside = ((point[..., :2] >= 0) & (point[..., :2] <= torch.tensor([0.8, 0.6]))).all(-1) & (depth > 0)
    coordinate = point.mT.unflatten(-1, (32, 32))
    foreground = inside.unflatten(-1, (32, 32)).double()
    settings = RegistrationSettings(nodes=60, stiffness_final=10.0)
    found = SurfaceRegistration(board, settings)(coordinate, foreground, camera)
    expected = torch.from_numpy(board.vertices) - torch.tensor([0.4, 0.3, 0.0])
    assert (found.vertices[0] - expected).norm(dim=-1).max() < 0.02


def test_rigid_motion_is_found_where_some_points_are_wrong():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2, 50, 3, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(2, 3, 3, generator=generator, dtype=torch.float64))[0]
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    moved = points @ rotation.mT + torch.tensor([1.0, 2.0, 3.0])
    weight = torch.ones(2, 50, dtype=torch.float64)
    moved[:, :5], weight[:, :5] = 100.0, 0.0
    found, translation = rigid_motion(points, moved, weight)
    torch.testing.assert_close(found, rotation)
    torch.testing.assert_close(translation, torch.tensor([[1.0, 2.0, 3.0]] * 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"nodes": 3}, "nodes is 3"),
        ({"steps": 0}, "steps is 0"),
        ({"width": 0.0}, "width is 0.0"),
        ({"width_final": -1.0}, "width_final"),
        ({"stiffness": 0.0}, "stiffness is 0.0"),
        ({"stiffness_final": 0.0}, "stiffness_final"),
        ({"silhouette": -0.1}, "silhouette"),
        ({"mirror": -0.1}, "mirror"),
        ({"keypoint": -1.0}, "keypoint"),
        ({"foreground": 1.0}, "foreground"),
    ],
)
def test_settings_that_cannot_be(options, named):
    with pytest.raises(InputError, match=f"registration.{named}"):
        RegistrationSettings(**options)
