"""A foreground mask of a person from an image and its 2D joints: GrabCut seeded by the skeleton."""

import cv2
import numpy as np

from dkp.importers.keypoints.detections import Joints

# (joint, joint, thickness of the sure foreground as a share of the body's size). Widths tuned by eye on 128 px crops of
# one real capture: wide enough to reach clothes and skin, narrow enough to stay inside the body.
LIMBS = (
    ("left_shoulder", "right_shoulder", 0.05),
    ("left_hip", "right_hip", 0.07),
    ("neck", "mid_hip", 0.10),
    ("left_shoulder", "left_hip", 0.06),
    ("right_shoulder", "right_hip", 0.06),
    ("neck", "head", 0.06),
    ("neck", "nose", 0.04),
    ("left_shoulder", "left_elbow", 0.035),
    ("left_elbow", "left_wrist", 0.025),
    ("right_shoulder", "right_elbow", 0.035),
    ("right_elbow", "right_wrist", 0.025),
    ("left_hip", "left_knee", 0.05),
    ("left_knee", "left_ankle", 0.035),
    ("right_hip", "right_knee", 0.05),
    ("right_knee", "right_ankle", 0.035),
    ("left_heel", "left_toe", 0.02),
    ("right_heel", "right_toe", 0.02),
    ("left_ankle", "left_heel", 0.02),
    ("right_ankle", "right_heel", 0.02),
    ("left_wrist", "left_hand", 0.02),
    ("right_wrist", "right_hand", 0.02),
)
_LIKELY = 0.02  # share of the body's size by which the likely foreground reaches beyond the sure one
_POSSIBLE = 0.055  # the same for what may be foreground at all
_ROUNDS = 2  # of GrabCut
_HAND = 0.45  # how far a hand reaches beyond the wrist, as a share of the forearm: likely foreground, not sure


def grabcut_mask(image: np.ndarray, joints: Joints, least_confidence: float = 0.2) -> np.ndarray | None:
    """Segment one person.

    Limbs drawn thick between detected joints are sure foreground; what lies far from every limb is sure background;
    GrabCut decides between. The mask therefore rests on the detections.

    Args:
        image: (H, W, 3) uint8 RGB, a crop around the person.
        joints: name -> (x, y, confidence) [px].
        least_confidence: joints below it are not used.

    Returns:
        (H, W) bool, or None where no limb was detected.
    """
    used = {name: np.array(value[:2]) for name, value in joints.items() if value[2] >= least_confidence}
    if len(used) < 2:
        return None
    body = float(np.ptp(np.array(list(used.values())), axis=0).max())
    sure = _skeleton(image.shape[:2], used, body, 0.0)
    if not sure.any():
        return None
    for side in ("left", "right"):
        elbow, wrist = used.get(f"{side}_elbow"), used.get(f"{side}_wrist")
        if elbow is not None and wrist is not None:
            used[f"{side}_hand"] = wrist + _HAND * (wrist - elbow)
    likely = sure | _skeleton(image.shape[:2], used, body, _LIKELY)
    possible = _skeleton(image.shape[:2], used, body, _POSSIBLE)
    rows, columns = (np.flatnonzero(possible.any(axis=axis)) for axis in (1, 0))
    border = 2 + round(0.05 * body)  # px of sure background around, to learn its colours from
    part = tuple(slice(max(0, int(index[0]) - border), int(index[-1]) + 1 + border) for index in (rows, columns))
    state = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    state[possible] = cv2.GC_PR_BGD
    state[likely] = cv2.GC_PR_FGD
    state[sure] = cv2.GC_FGD
    state = np.ascontiguousarray(state[part])
    mask = np.zeros(image.shape[:2], bool)
    if np.isin(state, (cv2.GC_BGD, cv2.GC_PR_BGD)).sum() < 32:
        return likely  # the person fills the crop: no background to learn from
    cv2.setRNGSeed(0)  # GrabCut starts from k-means: the same image gives the same mask
    crop = np.ascontiguousarray(image[part])
    cv2.grabCut(crop, state, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    mask[part] = (state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)
    return _joined(mask, sure)


def _skeleton(shape: tuple[int, ...], joints: dict[str, np.ndarray], body: float, extra: float) -> np.ndarray:
    """Draw the limbs; ``extra`` is added to each limb's half thickness, as a share of ``body`` [px]."""
    canvas = np.zeros(shape[:2], np.uint8)
    for first, second, thickness in LIMBS:
        if first in joints and second in joints:
            start, end = (tuple(int(v) for v in np.round((joints[name] - 0.5) * 16)) for name in (first, second))
            width = max(1, round(body * (thickness + 2 * extra)))
            cv2.line(canvas, start, end, 1, width, cv2.LINE_8, 4)
    return canvas.astype(bool)


def _joined(mask: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Keep the parts of a mask that touch the sure foreground."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    kept = np.zeros(int(parts.max()) + 1, bool)
    kept[np.unique(parts[sure])] = True
    kept[0] = False
    return kept[parts]
