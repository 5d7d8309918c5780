"""Boxes from points, masks and background subtraction."""

import numpy as np
import pytest

from dkp.importers.boxes import (
    Background,
    box_of_points,
    enlarged,
    largest_part,
    outline,
    reduced,
    smooth_boxes,
    spread,
)


def disc(x, y, radius, shape=(120, 160)):
    columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def test_box_of_points():
    assert box_of_points(np.array([[3.0, 9.0], [1.0, 4.0], [2.0, 5.0]])).tolist() == [1, 4, 3, 9]


def test_the_largest_part_of_a_mask_is_outlined():
    points = outline(disc(60, 50, 20) | disc(140, 100, 6))
    np.testing.assert_allclose(box_of_points(points), [40, 30, 80, 70], atol=1.1)
    assert outline(np.zeros((50, 50), bool)) is None
    assert outline(disc(10, 10, 1.0)) is None


def test_smoothing_keeps_the_subject_inside_and_removes_jitter():
    rng = np.random.default_rng(0)
    boxes = {}
    for frame in (*range(20), *range(30, 40)):
        x, half = 100 + 2 * frame + rng.normal(0, 5), 50 + rng.normal(0, 5)
        boxes[frame] = np.array([x - half, 20 - half, x + half, 20 + half])
    smooth = smooth_boxes(boxes, 7)
    assert list(smooth) == list(boxes)
    centres = {frame: (box[0] + box[2]) / 2 - 100 - 2 * frame for frame, box in smooth.items()}
    raw = {frame: (box[0] + box[2]) / 2 - 100 - 2 * frame for frame, box in boxes.items()}
    middle = [frame for frame in boxes if 3 <= frame <= 16]
    assert np.std([centres[f] for f in middle]) < 0.6 * np.std([raw[f] for f in middle])
    for frame, box in smooth.items():
        assert box[2] - box[0] >= boxes[frame][2] - boxes[frame][0] - 1e-9
        assert box[2] - box[0] == pytest.approx(box[3] - box[1])
    assert smooth_boxes(boxes, 1).keys() == boxes.keys()
    assert (smooth_boxes(boxes, 1)[3] == boxes[3]).all()


def test_a_moving_subject_is_found_before_a_static_background():
    rng = np.random.default_rng(0)
    still = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    frames, truth = [], []
    for time in range(16):
        where = disc(30 + 7 * time, 60, 15)
        frame = np.where(where[..., None], (250, 30, 30), still) + rng.normal(0, 3, (120, 160, 3))
        frames.append(frame.clip(0, 255).astype(np.uint8))
        truth.append(where)
    background = Background([reduced(frame) for frame in frames])
    for frame, where in zip(frames, truth, strict=True):
        mask = background.different(reduced(frame))
        assert mask.shape == (120, 160)
        assert (mask & where).sum() / (mask | where).sum() > 0.7
    assert not background.different(reduced(still)).any()


def test_a_subject_that_sits_still_most_of_the_time_does_not_become_background():
    rng = np.random.default_rng(0)
    still = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    frames = []
    for time in range(60):  # it walks for ten frames and then sits, breathing
        where = disc(30 + 9 * min(time, 10), 60, 15 + (time % 2))
        frames.append(np.where(where[..., None], (250, 30, 30), still).astype(np.uint8))
    background = Background([reduced(frame) for frame in frames])
    assert (np.abs(background.image.astype(int) - Background([reduced(still)]).image).max(axis=2) < 30).mean() > 0.995
    mask, where = background.different(reduced(frames[-1])), disc(120, 60, 16)
    assert (mask & where).sum() / (mask | where).sum() > 0.7


def test_large_frames_are_reduced_and_masks_are_not():
    frames = [np.zeros((900, 1200, 3), np.uint8) for _ in range(3)]
    background = Background([reduced(frame, 90) for frame in frames])
    assert background.image.shape == (90, 120, 3)
    frame = np.where(disc(600, 450, 200, (900, 1200))[..., None], 255, 0).astype(np.uint8).repeat(3, -1)
    mask = enlarged(largest_part(background.different(reduced(frame, 90))), (1200, 900))
    assert mask.shape == (900, 1200)
    where = disc(600, 450, 200, (900, 1200))
    assert (mask & where).sum() / (mask | where).sum() > 0.9


def test_the_background_is_learned_from_frames_spread_over_the_recording():
    assert spread([3, 5, 9]) == [3, 5, 9]
    many = spread(range(0, 5000, 5))
    assert (len(many), many[0], many[-1]) == (93, 0, 4995)
    assert max(np.diff(many)) < 60
