"""A dark subject on a floor that mirrors it: what it looks like is learned, and its mirror image goes."""

import numpy as np
import pytest

from dkp.importers.appearance import Appearance

SHAPE = (120, 160)
SUBJECT, MIRRORED, FLOOR = 40, 90, 150
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]


def body(column):
    return (COLUMNS - column) ** 2 / 24**2 + (ROWS - 50) ** 2 / 16**2 < 1


def feet(column):
    return (abs(abs(COLUMNS - column) - 12) < 3) & (ROWS >= 60) & (ROWS < 72)


def mirror_image(column):
    return (body(column) | feet(column))[::-1][np.clip(ROWS[:, 0] - 24, 0, None)] & (ROWS > 72)


def look(column, seed):
    """A frame, its subject, and the heights of a subject that reaches from row 34 down to the floor at row 72."""
    rng = np.random.default_rng(seed)
    subject, mirrored = body(column) | feet(column), mirror_image(column)
    grey = np.select([subject, mirrored], [SUBJECT, MIRRORED], FLOOR) + rng.normal(0, 3, SHAPE)
    reach = (abs(COLUMNS - column) < 30) & (ROWS > 28) & (ROWS < 78)
    return (
        np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, -1),
        subject,
        np.where(reach, (78 - ROWS) / 48, -1),
    )


def strip(column):
    """What subtraction finds between the feet, and below them."""
    return (abs(COLUMNS - column) < 20) & (ROWS > 60) & (ROWS < 78)


@pytest.fixture(scope="module")
def still():
    return np.full((*SHAPE, 3), FLOOR, np.uint8)


@pytest.fixture(scope="module")
def learned(still):
    looks = [look(column, column) for column in (35, 60, 85, 110, 125)]
    return Appearance([(frame, subject | strip(0), heights) for frame, subject, heights in looks], still)


def overlap(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


def test_what_the_floor_mirrors_goes(learned):
    frame, subject, heights = look(72, 9)
    rough = subject | strip(72)
    found = learned.refined(frame, learned.background, rough, heights)
    assert overlap(rough, subject) < 0.85
    assert overlap(found, subject) > 0.93
    assert (found & mirror_image(72)).sum() < 0.02 * subject.sum()


def test_holes_and_what_was_cut_off_come_back(learned):
    frame, subject, heights = look(72, 9)
    rough = subject & (ROWS > 40)
    rough[46:54, 66:78] = False
    found = learned.refined(frame, learned.background, rough, heights)
    assert overlap(rough, subject) < 0.85
    assert overlap(found, subject) > 0.93


def test_the_subject_leaves_a_background_that_held_it(still):
    """It sat in one place for long: the median holds it there, and the other cameras say when it was elsewhere."""
    frames = [look(column, column) for column in (60, 60, 60, 100, 120)]
    held = np.where(body(60)[..., None], np.uint8(SUBJECT), still)
    clean = Appearance(frames, held).background
    assert abs(clean[50, 60].astype(int) - FLOOR).max() < 10
    np.testing.assert_array_equal(clean[:20], held[:20])


def test_nothing_is_made_of_nothing(learned):
    frame, _, heights = look(72, 9)
    nothing = np.zeros(SHAPE, bool)
    assert not learned.refined(frame, learned.background, nothing, np.full(SHAPE, -1.0)).any()
    assert not learned.refined(frame, learned.background, nothing, heights).any()
