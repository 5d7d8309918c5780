"""What the views agree on of their foregrounds: the subject, not its mirror image and not who walks behind."""

import logging

import cv2
import numpy as np
import pytest
import torch

from dkp.importers.hull import Hull, confirm_masks
from dkp.importers.subject import Lens, Track, packed, unpacked
from dkp.workers import Workers, calls

SIZE = (160, 120)
RADIUS = 0.15


def seen(camera, centre, radius=RADIUS):
    """The mask of a ball."""
    points = np.random.default_rng(0).normal(size=(4000, 3))
    points = centre + radius * points / np.linalg.norm(points, axis=1, keepdims=True)
    pixels = camera.project(torch.from_numpy(points))[0].numpy().astype(int)
    mask = np.zeros(SIZE[::-1], np.uint8)
    inside = ((pixels >= 0) & (pixels < SIZE)).all(1)
    mask[pixels[inside, 1], pixels[inside, 0]] = 1
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(mask, [cv2.convexHull(np.concatenate(contours))] if contours else [], -1, 1, -1) > 0


@pytest.fixture(scope="module")
def rig(make_scene):
    return make_scene(size=SIZE).cameras()


def hull_of(rig, floor=None):
    return Hull({name: Lens(camera) for name, camera in rig.items()}, dict.fromkeys(rig, SIZE), floor)


def overlap(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


BALL = np.array([0.1, 0.05, 0.0])


def test_the_subject_stays_and_what_one_camera_sees_goes(rig):
    truth = {name: seen(camera, BALL) for name, camera in rig.items()}
    masks = {name: mask.copy() for name, mask in truth.items()}
    first = next(iter(masks))
    masks[first][5:40, 5:40] = True
    found, (low, high), _ = hull_of(rig)(masks)
    for name, mask in truth.items():
        assert overlap(found[name], mask) > 0.9
    assert (low < BALL - RADIUS).all()
    assert (high > BALL + RADIUS).all()
    assert hull_of(rig)({name: np.zeros_like(mask) for name, mask in masks.items()}) is None


def test_a_mirror_image_goes_where_the_floor_is_known(rig):
    mirrored = BALL * [1, 1, -1] - [0, 0, 2 * 0.2]  # the floor is at z = -0.2
    truth = {name: seen(camera, BALL) for name, camera in rig.items()}
    both = {name: truth[name] | seen(camera, mirrored) for name, camera in rig.items()}
    worst = min(overlap(both[name], truth[name]) for name in rig)
    found, *_ = hull_of(rig, floor=-0.2)(both)
    assert min(overlap(found[name], truth[name]) for name in rig) > worst + 0.15
    assert hull_of(rig, floor=5.0)(both) is None


def on_legs(camera):
    """The mask of a ball on two legs that stand on a floor at z = -0.3."""
    feet = [np.array([x, 0.05, height - 0.3]) for x in (-0.05, 0.25) for height in np.linspace(0, 0.3, 16)]
    return np.any([seen(camera, BALL), *(seen(camera, foot, 0.02) for foot in feet)], axis=0)


@pytest.mark.parametrize("shade", [True, False])
def test_under_a_subject_on_legs(make_scene, shade):
    """What all but one of the cameras see before its legs goes; where the floor shows nothing, nothing is lost."""
    rig = make_scene(size=SIZE, angles=(-80.0, -20.0, 35.0, 90.0)).cameras()
    truth = {name: on_legs(camera) for name, camera in rig.items()}
    masks = {name: mask.copy() for name, mask in truth.items()}
    for name in ("cam_0", "cam_2", "cam_3") if shade else ():
        for x in (0.0, 0.1, 0.2):
            masks[name] |= seen(rig[name], np.array([x, -0.04, -0.3]), 0.03)
    found, *_ = hull_of(rig, floor=-0.3)(masks)
    for name, mask in truth.items():
        assert shade or overlap(found[name], mask) > 0.99
        feet = mask.copy()
        feet[: np.nonzero(mask)[0].max() - 5] = False
        assert (found[name] & feet).sum() > 0.7 * feet.sum()
    more, left = ((masks_of["cam_2"] & ~truth["cam_2"]).sum() for masks_of in (masks, found))
    assert left <= 0.6 * more


def tracks(rig, steps, shift=0):
    made = {name: Track() for name in rig}
    for number in range(steps):
        for index, (name, camera) in enumerate(rig.items()):
            mask = np.roll(seen(camera, BALL + np.array([0.02 * number, 0, 0])), shift * index, axis=0)
            made[name].masks[number] = packed(mask)
            made[name].boxes[number] = np.array([0.0, 0.0, *SIZE])
    return made


def test_masks_over_time_are_confirmed_and_boxes_follow(rig):
    made = tracks(rig, 4)
    first = next(iter(made))
    stray = unpacked(made[first].masks[2])
    stray[:30, :30] = True
    made[first].masks[2] = packed(stray)
    with Workers(calls, 1, "local") as pool:
        confirm_masks(hull_of(rig), made, range(4), 0.0, 1, pool)
    for name, track in made.items():
        assert list(track.boxes) == [0, 1, 2, 3]
        assert track.boxes[2][2] - track.boxes[2][0] < 0.6 * SIZE[1]
        assert overlap(unpacked(track.masks[2]), seen(rig[name], BALL + np.array([0.04, 0, 0]))) > 0.85


def test_where_nothing_agrees_all_stays(rig, caplog):
    made = tracks(rig, 2, shift=45)
    before = {name: dict(track.masks) for name, track in made.items()}
    with Workers(calls, 1, "local") as pool, caplog.at_level(logging.WARNING):
        confirm_masks(hull_of(rig), made, range(2), 0.0, 1, pool)
    assert {name: track.masks for name, track in made.items()} == before
    assert "have a point in common in 0 of 2 frames" in caplog.text


def test_a_subject_that_leaves_where_it_was_is_found_again(rig):
    hull = hull_of(rig)
    _, near, _ = hull({name: seen(camera, BALL) for name, camera in rig.items()})
    away = BALL + np.array([0.35, 0.1, 0.0])
    truth = {name: seen(camera, away) for name, camera in rig.items()}
    found, (low, high), _ = hull(truth, near)
    assert min(overlap(found[name], truth[name]) for name in rig) > 0.9
    assert (low < away - RADIUS).all()
    assert (high > away + RADIUS).all()


def test_of_four_cameras_one_may_be_blind(make_scene):
    """A subject before something of its own colour is no foreground there; the three others keep it whole."""
    rig = make_scene(size=SIZE, angles=(-40.0, 0.0, 35.0, 80.0)).cameras()
    truth = {name: seen(camera, BALL) for name, camera in rig.items()}
    masks = {name: mask.copy() for name, mask in truth.items()}
    blind = next(iter(rig))
    masks[blind][: np.nonzero(truth[blind])[0].mean().astype(int)] = False
    found, *_ = hull_of(rig)(masks)
    assert all(overlap(found[name], truth[name]) > 0.9 for name in rig if name != blind)
    assert not (found[blind] & ~masks[blind]).any()


def test_how_high_above_the_floor_a_pixel_shows_something(rig):
    truth = {name: seen(camera, BALL) for name, camera in rig.items()}
    *_, heights = hull_of(rig, floor=-0.2)(truth)
    for name, mask in truth.items():
        rows, columns = np.nonzero(mask)
        top, low = (heights[name][row, columns[rows == row]] for row in (rows.min() + 4, rows.max() - 4))
        assert heights[name][rows, columns].min() >= 0
        assert top.mean() > low.mean() + 0.25
        assert (heights[name][0] == -1).all()


@pytest.mark.parametrize("floor", [None, -0.2])
def test_with_a_floor_a_camera_learns_what_it_sees_and_its_box_holds_what_it_misses(make_scene, floor):
    rig = make_scene(size=SIZE, angles=(-40.0, 0.0, 35.0, 80.0)).cameras()
    made = {name: Track(background=np.full((*SIZE[::-1], 3), 150, np.uint8)) for name in rig}
    blind = next(iter(rig))
    for name, camera in rig.items():
        whole = seen(camera, BALL)
        mask = whole.copy()
        if name == blind:
            mask[: int(np.nonzero(whole)[0].mean())] = False
        made[name].masks[0], made[name].boxes[0] = packed(mask), np.array([0.0, 0.0, *SIZE])
        made[name].looks[0] = np.where(whole[..., None], np.uint8(40), made[name].background)
    with Workers(calls, 1, "local") as pool:
        confirm_masks(hull_of(rig, floor), made, [0], 0.0, 1, pool)
    rows = np.nonzero(seen(rig[blind], BALL))[0]
    assert (made[blind].boxes[0][1] < rows.min() + 5) == (floor is not None)
    assert made[blind].boxes[0][3] > rows.max() - 5
    for track in made.values():
        assert (track.appearance is not None) == (0 in track.heights) == (floor is not None)
        assert not track.looks
