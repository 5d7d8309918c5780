"""dkp/viz/colours.py: colours that tell left from right and high from low."""

import numpy as np
import pytest

from dkp.surface import Surface
from dkp.viz.colours import CoordinateColours, oklab_to_srgb, surface_axes


def test_oklab_against_published_values():
    # Oklab of the sRGB primaries, as CSS Color 4 lists them.
    primaries = np.array([[0.62796, 0.22486, 0.12585], [0.86644, -0.23389, 0.17950], [0.45201, -0.03246, -0.31153]])
    np.testing.assert_allclose(oklab_to_srgb(primaries), np.eye(3), atol=3e-3)


def test_axes_come_from_the_mirror_map(doll):
    np.testing.assert_allclose(surface_axes(doll), np.eye(3), atol=1e-9)
    turned = Surface(
        "turned", doll.vertices[:, [1, 2, 0]], doll.faces, doll.face_part, doll.corner_uv, ["doll"], mirror=doll.mirror
    )
    np.testing.assert_allclose(surface_axes(turned), np.eye(3)[:, [1, 2, 0]], atol=1e-9)


def test_joints_decide_which_side_is_left(doll):
    joints = {
        "left_shoulder": [-0.3, 1.3, 0],
        "right_shoulder": [0.3, 1.3, 0],
        "neck": [0, 1.4, 0],
        "mid_hip": [0, 0.8, 0],
    }
    facing_away = Surface(
        "away", doll.vertices, doll.faces, doll.face_part, doll.corner_uv, ["doll"], mirror=doll.mirror, joints=joints
    )
    np.testing.assert_allclose(surface_axes(facing_away), np.diag([-1.0, 1.0, -1.0]), atol=1e-9)


@pytest.mark.parametrize("height", [0.1, 0.8, 1.5])
def test_left_is_warm_and_right_is_cool(doll, height):
    left, right = CoordinateColours(doll)(np.array([[0.3, height, 0.1], [-0.3, height, 0.1]]))
    assert left[0] > left[2] + 0.1
    assert right[2] > right[0] + 0.1
    assert np.linalg.norm(left - right) > 0.5


def test_the_middle_is_pale_and_the_back_darker(doll):
    colours = CoordinateColours(doll)
    middle, front, back = colours(np.array([[0.0, 0.8, 0.1], [0.3, 0.8, 0.1], [0.3, 0.8, -0.1]]))
    assert np.ptp(middle) < 0.1
    assert front.sum() > back.sum() + 0.2


def test_heights_differ(doll):
    colours = CoordinateColours(doll)(np.array([[0.3, height, 0.1] for height in np.linspace(0, 1.6, 6)]))
    assert np.linalg.norm(np.diff(colours, axis=0), axis=1).min() > 0.06


@pytest.mark.parametrize(
    "seen",  # linear RGB as people without one kind of cone see it: Machado, Oliveira, Fernandes (2009)
    [
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    ],
)
def test_no_colour_vision_takes_left_for_right(doll, seen):
    heights = np.linspace(0.08, 1.52, 6)
    points = np.array([[[x, height, 0.1] for height in heights] for x in (0.15, -0.15)])
    colour = CoordinateColours(doll)(points)
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    shown = (linear @ np.array(seen).T).clip(0, 1)
    left, right = np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * shown ** (1 / 2.4) - 0.055)
    assert np.linalg.norm(left[:, None] - right, axis=-1).min() > 0.35
    assert min(np.linalg.norm(np.diff(side, axis=0), axis=1).min() for side in (left, right)) > 0.05


def test_outside_is_clipped_and_what_is_not_finite_is_black(doll):
    colours = CoordinateColours(doll)
    far, edge = colours(np.array([[0.3, 9.0, 0.1], [0.3, 1.6, 0.1]]))
    np.testing.assert_allclose(far, edge)
    assert (colours(np.array([np.nan, 0, 0])) == 0).all()


def test_corners_of_a_board_have_four_colours():
    board = Surface.plane(width=0.3, height=0.2, spacing=0.05)
    colours = CoordinateColours(board)(np.array([[0, 0, 0], [0.3, 0, 0], [0, 0.2, 0], [0.3, 0.2, 0]]))
    gaps = np.linalg.norm(colours[:, None] - colours[None], axis=-1)[np.triu_indices(4, 1)]
    assert gaps.min() > 0.3
    assert ((colours >= 0) & (colours <= 1)).all()
