"""Foreground masks by GrabCut: seeded by a person's 2D joints, or by a rough mask."""

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
_COLOURS = 5  # that GrabCut learns of each side
_SAMPLED = 3  # colours are learned from every so many pixels each way: twice as quick, and masks as near the true ones
_INSIDE, _OUTSIDE = 0.08, 0.06  # shares of a rough mask's width (the root of its area) by which its edge may move
_SMALL = 0.05  # share of a mask's area up to which a hole is filled and a part dropped
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
    mask[part] = _grabcut(image[part], state)
    return joined(mask, sure)


def refined_mask(image: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Move the edge of a rough mask to where the image has one, fill its small holes and drop its small parts.

    The inside of the rough mask is sure foreground and what is far from it sure background; GrabCut decides between.

    Args:
        image: (H, W, 3) uint8 RGB, a crop around the subject.
        rough: (H, W) bool.

    Returns:
        (H, W) bool; the rough mask where it is too small, or fills the image.
    """
    width = np.sqrt(rough.sum())
    sure = cv2.erode(rough.astype(np.uint8), disc(_INSIDE * width)) > 0
    possible = cv2.dilate(rough.astype(np.uint8), disc(_OUTSIDE * width)) > 0
    if not sure.any() or (~possible).sum() < 32:
        return rough
    state = np.select([sure, rough, possible], [cv2.GC_FGD, cv2.GC_PR_FGD, cv2.GC_PR_BGD], cv2.GC_BGD).astype(np.uint8)
    return without_small_parts(joined(_grabcut(image, state), sure), _SMALL, _SMALL)


def without_small_parts(mask: np.ndarray, part: float, hole: float) -> np.ndarray:
    """Drop the parts of a mask (h, w) bool that are smaller than a share of its area, and fill such holes."""
    mask = mask & ~_small_parts(mask, part * mask.sum(), 8)
    return np.asarray(mask | _small_parts(~mask, hole * mask.sum(), 4))


def _small_parts(mask: np.ndarray, least: float, neighbours: int) -> np.ndarray:
    """Return the parts of a mask (h, w) bool, of pixels with 4 or 8 neighbours, that are smaller than least [px]."""
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=neighbours)
    small = statistics[:, cv2.CC_STAT_AREA] < least
    small[0] = False  # what is not of the mask
    return np.asarray(small[parts])


def disc(radius: float) -> np.ndarray:
    """Return a disc (n, n) uint8 of a radius [px], at least 1, to dilate or erode with."""
    size = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))


def _grabcut(image: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Return the foreground (H, W) bool; the same image gives the same mask, though GrabCut starts from k-means."""
    cv2.setRNGSeed(0)
    image, models = np.ascontiguousarray(image), (np.zeros((1, 65)), np.zeros((1, 65)))
    some = tuple(np.ascontiguousarray(array[::_SAMPLED, ::_SAMPLED]) for array in (image, state))
    inside = np.isin(some[1], (cv2.GC_FGD, cv2.GC_PR_FGD))
    colours, kinds = some if min(inside.sum(), (~inside).sum()) >= _COLOURS else (image, state)
    cv2.grabCut(colours, kinds, (0, 0, 0, 0), *models, 0, cv2.GC_INIT_WITH_MASK)
    cv2.grabCut(image, state, (0, 0, 0, 0), *models, 1, cv2.GC_EVAL)
    return (state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)


def _skeleton(shape: tuple[int, ...], joints: dict[str, np.ndarray], body: float, extra: float) -> np.ndarray:
    """Draw the limbs; ``extra`` is added to each limb's half thickness, as a share of ``body`` [px]."""
    canvas = np.zeros(shape[:2], np.uint8)
    for first, second, thickness in LIMBS:
        if first in joints and second in joints:
            start, end = (tuple(int(v) for v in np.round((joints[name] - 0.5) * 16)) for name in (first, second))
            width = max(1, round(body * (thickness + 2 * extra)))
            cv2.line(canvas, start, end, 1, width, cv2.LINE_8, 4)
    return canvas.astype(bool)


def joined(mask: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Keep the parts of a mask that touch the sure foreground."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    kept = np.zeros(int(parts.max()) + 1, bool)
    kept[np.unique(parts[sure])] = True
    kept[0] = False
    return kept[parts]
