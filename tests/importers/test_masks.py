"""GrabCut seeded by a skeleton."""

import cv2
import numpy as np

from dkp.importers.masks import LIMBS, grabcut_mask, refined_mask

POSE = {
    "nose": (64, 22), "neck": (64, 32), "head": (64, 12),
    "left_shoulder": (76, 36), "right_shoulder": (52, 36), "left_elbow": (88, 52), "right_elbow": (40, 52),
    "left_wrist": (96, 66), "right_wrist": (32, 66), "mid_hip": (64, 66), "left_hip": (71, 66), "right_hip": (57, 66),
    "left_knee": (74, 88), "right_knee": (54, 88), "left_ankle": (76, 110), "right_ankle": (52, 110),
}  # fmt: skip
JOINTS = {name: (float(x), float(y), 0.9) for name, (x, y) in POSE.items()}


def body() -> tuple[np.ndarray, np.ndarray]:
    """An image of a blue and orange figure on noise, and its mask."""
    mask = np.zeros((128, 128), np.uint8)
    for first, second, thickness in LIMBS:
        if first in POSE and second in POSE:
            cv2.line(mask, POSE[first], POSE[second], 1, max(3, round(100 * thickness * 1.5)))
    cv2.circle(mask, (64, 20), 9, 1, -1)
    rng = np.random.default_rng(0)
    image = rng.integers(60, 130, (128, 128, 3))
    figure = np.where(np.arange(128)[:, None, None] < 60, (230, 140, 60), (30, 40, 200)) + rng.normal(0, 8, image.shape)
    return np.where(mask[..., None] > 0, figure, image).clip(0, 255).astype(np.uint8), mask > 0


def overlap(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


def test_the_figure_is_found():
    image, truth = body()
    mask = grabcut_mask(image, JOINTS)
    assert mask.dtype == bool
    assert overlap(mask, truth) > 0.85


def test_the_image_decides_not_the_skeleton_alone():
    image, truth = body()
    found = grabcut_mask(image, JOINTS)
    flat = grabcut_mask(np.full_like(image, 128), JOINTS)
    assert overlap(found, truth) > overlap(flat, truth) + 0.05


def test_the_same_image_gives_the_same_mask():
    image, _ = body()
    first = grabcut_mask(image, JOINTS)
    cv2.setRNGSeed(77)
    np.testing.assert_array_equal(grabcut_mask(image, JOINTS), first)


def test_joints_outside_the_image_and_close_crops_do_no_harm():
    image, _ = body()
    moved = {name: (x * 3 - 130, y * 3 - 100, c) for name, (x, y, c) in JOINTS.items()}
    mask = grabcut_mask(image, moved)
    assert mask.shape == (128, 128)
    assert mask.any()
    near = {name: (x * 30 - 1800, y * 30 - 1300, c) for name, (x, y, c) in JOINTS.items()}
    assert grabcut_mask(image, near).any()


def test_without_limbs_there_is_no_mask():
    image, _ = body()
    assert grabcut_mask(image, {}) is None
    assert grabcut_mask(image, {"nose": (3.0, 4.0, 1.0)}) is None
    assert grabcut_mask(image, {name: (x, y, 0.1) for name, (x, y, _) in JOINTS.items()}) is None
    assert grabcut_mask(image, {"left_eye": (3.0, 4.0, 1.0), "right_ear": (9.0, 4.0, 1.0)}) is None
    far = {name: (x + 1000, y, c) for name, (x, y, c) in JOINTS.items()}
    assert grabcut_mask(image, far) is None


def test_the_edge_of_a_rough_mask_moves_to_that_of_the_figure():
    image, truth = body()
    rough = cv2.dilate(truth.astype(np.uint8), np.ones((7, 7))) > 0
    rough[55:60, 60:68] = False  # a hole
    found = refined_mask(image, rough)
    assert overlap(found, truth) > overlap(rough, truth) + 0.1
    assert found[57, 64]
    nothing = np.zeros_like(truth)
    np.testing.assert_array_equal(refined_mask(image, nothing), nothing)
    np.testing.assert_array_equal(refined_mask(image, ~nothing), ~nothing)


def test_small_parts_of_a_rough_mask_go():
    image, truth = body()
    image[2:13, 2:13] = image[64, 64]
    rough = truth.copy()
    rough[2:13, 2:13] = True
    found = refined_mask(image, rough)
    assert not found[2:13, 2:13].any()
    assert overlap(found, truth) > 0.8
