"""Alignment of images, labels and backdrops, and light and shadow."""

import cv2
import numpy as np
import pytest

from dkp.surface import Surface
from dkp.synthetic import render
from dkp.synthetic.background import Backdrop, make_backdrop, make_surroundings
from dkp.synthetic.domains import DOMAINS, Domain, Wardrobe
from dkp.synthetic.human.regions import BodyRegions
from dkp.synthetic.light import Lighting, Response, sample_lighting
from dkp.synthetic.rasteriser import rasterise
from dkp.synthetic.rig import RigCamera, crop_around, cropped_intrinsics, look_at, make_rig
from dkp.synthetic.species import SPECIES

PLAIN = Wardrobe({"short": 1}, {"shorts": 1}, {"shoes": 1}, {"none": 1}, {"short": 1}, {"plain": 1})
CLEAN = Domain("clean", PLAIN, shift=0.03)
NEUTRAL = Response(np.ones(3), 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def regions():
    return BodyRegions(Surface.load("human"))


def upright(regions):
    """Vertices of the rest pose standing in a world with z up."""
    local = regions.columns[:, :3].astype(float)
    vertices = np.stack([local[:, 0], -local[:, 2], local[:, 1]], 1)
    return vertices - [0, 0, vertices[:, 2].min()]


def camera_at(azimuth):
    position = np.array([3 * np.sin(azimuth), -3 * np.cos(azimuth), 1.4])
    rotation, translation = look_at(position, np.array([0, 0, 0.9]))
    intrinsics = np.array([[1500.0, 0, 640], [0, 1490, 650], [0, 0, 1]])
    return RigCamera("cam_00", intrinsics, rotation, translation, (1280, 1280))


def light_from(direction, key=1.0, ambient=0.2):
    direction = np.array(direction, float) / np.linalg.norm(direction)
    return Lighting(np.full(3, ambient), np.full(3, ambient), direction[None], np.full((1, 3), key))


def dark_backdrop():
    return Backdrop(np.zeros((64, 64, 4), np.float32), None, np.array([[0.05, 0, 0], [0, 0.05, 0]]))


def test_the_tent_leaves_a_ramp_where_it_is():
    """A ramp sampled at k / 2 is worth its value at the pixel centres: a shift by a quarter of a pixel would show."""
    k = np.arange(2 * 8 + 1) / 2
    ramp = np.stack(np.meshgrid(k, k), 2).astype(np.float32)
    result = render.at_pixels(ramp)
    expected = np.stack(np.meshgrid(np.arange(8) + 0.5, np.arange(8) + 0.5), 2)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    centre = render.FINER @ [3.5, 0.5, 1]
    np.testing.assert_allclose(centre[:2], [2 * 3 + 1 + 0.5, 1.5])


def test_image_and_label_lie_where_the_camera_projects_the_body(regions, monkeypatch):
    """White body on black: the centroid of its light is that of its exact coverage, on the mean of several views."""
    monkeypatch.setattr(render, "_shade", lambda person, moment, camera, light, face, bary: np.ones((len(face), 3)))
    person = SPECIES["human"].sample_subject(CLEAN, np.random.default_rng(0))
    lighting = light_from([0, -1, 1])
    moment = render.pose_subject(person, upright(regions), np.array([0.0, -1, 0]), lighting)

    def centroid(weight):
        return np.array([(weight * (axis + 0.5)).sum() / weight.sum() for axis in np.indices(weight.shape)])

    off_light, off_label = [], []
    for index in range(32):
        camera = camera_at(0.8 * index)
        rng = np.random.default_rng(index)
        view = render.render_view(person, moment, camera, dark_backdrop(), lighting, NEUTRAL, CLEAN, 64, rng)
        intrinsics = cropped_intrinsics(camera.intrinsics, view.crop)
        points = camera.to_camera(moment.vertices)
        exact = rasterise(points, regions.faces, np.diag([8.0, 8, 1]) @ intrinsics, 512, 512).face >= 0
        coverage = exact.reshape(64, 8, 64, 8).mean((1, 3))
        encoded = view.image[..., 0] / 255.0
        light = np.where(encoded < 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
        off_light.append(centroid(light) - centroid(coverage))
        off_label.append(centroid(view.face >= 0) - centroid(coverage))
        direct = rasterise(points, regions.faces, intrinsics, 64, 64)
        assert (direct.face != view.face).mean() < 0.002
        same = (direct.face == view.face) & (view.face >= 0)
        np.testing.assert_allclose(view.barycentric[same], direct.barycentric[same], atol=1e-4)
    assert np.abs(np.mean(off_light, 0)).max() < 0.06
    assert np.abs(np.mean(off_label, 0)).max() < 0.12


def test_a_backdrop_is_cropped_without_a_shift():
    from_sensor = np.array([[0.2, 0, 12.0], [0, 0.2, 9.0]])
    columns, rows = np.meshgrid(np.arange(200) + 0.5, np.arange(180) + 0.5)
    sensor_x, sensor_y = (columns - 12) / 0.2, (rows - 9) / 0.2
    image = np.stack([sensor_x, sensor_y, sensor_x, sensor_x], 2).astype(np.float32)
    crop = crop_around(np.array([[200.0, 150], [500, 600]]), 64, 0.1, np.array([0.02, 0.0]))
    seen, depth = Backdrop(image, sensor_x.astype(np.float32), from_sensor).crop(crop, 64)
    x, y = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    back = np.linalg.inv(np.vstack([crop, [0, 0, 1]]))
    np.testing.assert_allclose(seen[..., 0], back[0, 0] * x + back[0, 2], atol=0.2)
    np.testing.assert_allclose(seen[..., 1], back[1, 1] * y + back[1, 2], atol=0.2)
    np.testing.assert_allclose(depth, back[0, 0] * x + back[0, 2], atol=2.6)


@pytest.mark.parametrize("kind", ["room", "outdoor", "studio"])
def test_floor_of_a_place_lies_at_height_zero_for_every_camera(kind):
    domain = Domain("place", PLAIN, backdrops={kind: 1.0}, clutter=(3, 3))
    rig = make_rig(domain, 3, "ring", np.random.default_rng(2))
    surroundings = make_surroundings(domain, rig, np.array([0.0, 0.6, 0.8]), np.random.SeedSequence(4))
    for index, camera in enumerate(rig):
        backdrop = make_backdrop(surroundings, camera, index, 0.1)
        assert backdrop.depth is not None
        rows, columns = np.nonzero(backdrop.image[..., 3] > 0.999)
        assert len(rows) > 500
        to_sensor = np.linalg.inv(np.vstack([backdrop.from_sensor, [0, 0, 1]]))
        pixel = to_sensor @ np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
        ray = np.linalg.inv(camera.intrinsics) @ pixel * backdrop.depth[rows, columns]
        world = camera.rotation.T @ (ray - camera.translation[:, None])
        assert np.abs(world[2]).max() < 0.02 * np.abs(backdrop.depth[rows, columns]).max()
        assert np.median(np.abs(world[2])) < 1e-3
        again = make_backdrop(surroundings, camera, index, 0.1)
        np.testing.assert_array_equal(backdrop.image, again.image)


def test_something_nearer_than_the_person_hides_the_person_and_the_label(regions):
    person = SPECIES["human"].sample_subject(CLEAN, np.random.default_rng(0))
    lighting = light_from([0, -1, 1])
    moment = render.pose_subject(person, upright(regions), np.array([0.0, -1, 0]), lighting)
    camera = camera_at(0.0)
    depth = np.full((64, 64), 9.0, np.float32)
    depth[:, :32] = 1.0  # the left half of the sensor, which the middle of the body divides
    half = Backdrop(dark_backdrop().image, depth, dark_backdrop().from_sensor)
    views = [
        render.render_view(person, moment, camera, b, lighting, NEUTRAL, CLEAN, 48, np.random.default_rng(1))
        for b in (dark_backdrop(), half)
    ]
    x = (np.arange(48) + 0.5 - views[1].crop[0, 2]) / views[1].crop[0, 0]
    hidden, open_ = x < 600, x > 660
    assert (views[1].face[:, hidden] == -1).all()
    assert (views[0].face[:, hidden] >= 0).sum() > 50
    np.testing.assert_array_equal(views[0].face[:, open_], views[1].face[:, open_])
    assert views[1].image[:, hidden].max() == 0


def test_the_main_light_brightens_its_side_and_shadows_fall_behind(regions):
    person = SPECIES["human"].sample_subject(CLEAN, np.random.default_rng(0))
    vertices = upright(regions)
    lighting = light_from([0, -1, 0.7])  # from the front
    moment = render.pose_subject(person, vertices, np.array([0.0, -1, 0]), lighting)
    normals, lit = moment.attributes[:, -4:-1], moment.attributes[:, -1]
    assert lit[normals[:, 1] < -0.7].mean() > 0.85
    assert lit[normals[:, 1] > 0.7].mean() < 0.15
    images = [
        render.render_view(
            person, moment, camera_at(a), dark_backdrop(), lighting, NEUTRAL, CLEAN, 48, np.random.default_rng(1)
        )
        for a in (0.0, np.pi)
    ]
    front, back = (view.image[view.face >= 0].mean() for view in images)
    assert front > back + 20


def test_response_brightens_by_stops_blurs_and_adds_noise():
    light = np.full((32, 32, 3), 0.1, np.float32)
    light[:, 16:] = 0.3
    rng = np.random.default_rng(0)
    plain = NEUTRAL.develop(light, CLEAN, rng).astype(float)
    twice = Response(np.full(3, 2.0), 0.0, 0.0, 0.0).develop(light, CLEAN, rng).astype(float)
    noisy = Response(np.ones(3), 0.05, 0.0, 0.0).develop(light, CLEAN, rng).astype(float)
    blurred = Response(np.ones(3), 0.0, 8.0, 0.0).develop(light, CLEAN, rng).astype(float)
    dim = Response(np.ones(3), 0.0, 0.0, 0.5).develop(light, CLEAN, rng).astype(float)
    assert twice.mean() > 1.25 * plain.mean()
    assert 8 < (noisy - plain).std() < 18
    assert np.abs(np.diff(blurred, axis=1)).max() < 0.5 * np.abs(np.diff(plain, axis=1)).max()
    assert dim[0, 0].mean() < dim[16, 8].mean() - 5


def test_lighting_follows_the_domain():
    rng = np.random.default_rng(0)
    warm = [sample_lighting(DOMAINS["target"], rng) for _ in range(20)]
    assert all(light.colours[0, 0] > light.colours[0, 2] for light in warm)
    assert all((light.directions[:, 2] > 0).all() for light in warm)
    assert {len(light.directions) for light in warm} == {1, 2, 3}
    outdoor = [sample_lighting(DOMAINS["outdoor"], rng) for _ in range(5)]
    assert {len(light.directions) for light in outdoor} == {1}


def test_shadow_on_the_floor_lies_away_from_the_light(regions):
    vertices = upright(regions)
    camera = camera_at(0.0)
    lighting = light_from([-1, 0, 0.8])  # from the camera's left
    crop = crop_around(camera.project(vertices), 64, 0.6, np.zeros(2))
    light = np.ones((129, 129, 3), np.float32)
    to_fine = (render.FINER @ np.vstack([crop, [0, 0, 1]]))[:2]
    render._cast_shadow(light, np.ones((129, 129), np.float32), vertices, camera, to_fine, lighting)
    feet = camera.project(np.zeros((1, 3)))[0] @ to_fine[:, :2].T + to_fine[:, 2]
    dark = cv2.moments((1 - light[..., 0]).astype(np.float32))
    assert dark["m10"] / dark["m00"] > feet[0] + 5
    assert light.min() < 0.8


def test_what_moves_is_smeared_along_its_way_and_keeps_its_light():
    scene = np.full((32, 32, 3), 0.25, np.float32)
    rows, columns = np.meshgrid(np.arange(10, 14), np.arange(10, 14), indexing="ij")
    spot = (rows * 32 + columns).ravel()
    way = np.tile([8.0, 0.0], (16, 1))
    smeared = render._smear(scene, spot, np.ones((16, 3), np.float32), way, np.ones(16))
    still = render._smear(scene, spot, np.ones((16, 3), np.float32), 0 * way, np.ones(16))
    assert (still.reshape(-1, 3)[spot] == 1).all()
    assert (still == 1).sum() == 48
    np.testing.assert_allclose(smeared.sum(), still.sum(), rtol=1e-5)
    changed = np.argwhere((smeared != 0.25).any(2))
    assert (changed.min(0) == [10, 7]).all()
    assert (changed.max(0) == [13, 17]).all()
    assert smeared[11, 11, 0] > smeared[11, 7, 0] > 0.25


def test_of_two_samples_that_meet_the_near_one_is_seen():
    scene = np.zeros((8, 8, 3), np.float32)
    shaded, way = np.float32([[1, 0, 0], [0, 1, 0]]), np.array([[0.0, 0.0], [4.0, 0.0]])
    for depth, expected in (([1.0, 2.0], 1.0), ([2.0, 1.0], 0.75)):
        result = render._smear(scene, np.array([27, 28]), shaded, way, np.array(depth))
        assert result[3, 3, 0] == expected


def test_the_picture_is_smeared_and_its_label_is_not(regions):
    person = SPECIES["human"].sample_subject(CLEAN, np.random.default_rng(0))
    lighting, skin = light_from([0, -1, 1]), upright(regions)
    front, views = np.array([0.0, -1, 0]), []
    for move in (None, np.tile(np.float32([0.2, 0, 0]), (len(skin), 1))):
        moment = render.pose_subject(person, skin, front, lighting, move)
        rng = np.random.default_rng(1)
        views.append(
            render.render_view(person, moment, camera_at(0.0), dark_backdrop(), lighting, NEUTRAL, CLEAN, 64, rng)
        )
    sharp, smeared = views
    np.testing.assert_array_equal(sharp.face, smeared.face)
    off = sharp.face < 0
    assert sharp.image[off].mean() + 5 < smeared.image[off].mean()
    light = [np.clip(view.image / 255.0, 0, 1) ** 2.2 for view in views]
    assert abs(light[1].sum() / light[0].sum() - 1) < 0.1
