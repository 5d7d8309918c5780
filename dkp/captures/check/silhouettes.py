"""Masks: whether they can be masks of a subject, and their outlines as evidence where nothing else is known."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dkp.captures.capture import Capture
from dkp.captures.check.correspondences import LEAST_CONFIDENCE
from dkp.captures.check.evidence import in_order, looks_of, source_pixels
from dkp.captures.check.hypotheses import Looks
from dkp.captures.check.judge import listed
from dkp.captures.check.sight import pair_medians
from dkp.captures.manifest import Instant, View
from dkp.captures.rig import camera_size

_CORNERS = 96  # of an outline's convex hull, at most
_GRID = 32  # cells a side on which a mask is compared with the frame
_MOST_FILLED = 0.75  # share of the frame's part that a view shows which a subject may fill
_MOST_EDGE = 0.5  # share of that part's edge along which a subject may lie
_BOX = 0.95  # share of the box around it that a subject does not fill, unless it is flat
_MOST_APART = 0.05  # share of their size by which right outlines miss (found: 0.015; a mouse off its background 0.037)
_LEAST_INSIDE = 0.3  # share of the joints that a mask must hold
_NEAR = 0.03  # of the image's size: so far outside of a mask a joint still belongs to it


def mask_sentences(capture: Capture, instants: Sequence[Instant]) -> list[str]:
    """Say which cameras' masks hold nearly everything, are boxes, or do not hold the joints."""
    boxes: dict[str, list[float]] = {}
    filled: dict[str, list[float]] = {}
    edges: dict[str, list[float]] = {}
    inside: dict[str, list[float]] = {}
    for view in (view for instant in instants for view in instant.views):
        mask = capture.mask(view)
        if mask is None or not mask.any():
            continue
        rows, columns = np.nonzero(mask)
        boxes.setdefault(view.camera, []).append(mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
        share, edge = _filling(capture, view, mask)
        filled.setdefault(view.camera, []).append(share)
        edges.setdefault(view.camera, []).append(edge)
        held = _joints_inside(view, mask)
        if held is not None:
            inside.setdefault(view.camera, []).append(held)
    wrong = [name for name in filled if np.median(filled[name]) > _MOST_FILLED and np.median(edges[name]) > _MOST_EDGE]
    sentences = []
    if wrong:
        share = 100 * np.median(np.concatenate([filled[name] for name in wrong]))
        kind = "the whole frame is the subject" if share > 99.5 else "they look inverted"
        sentences.append(
            f"the masks of {', '.join(wrong)} hold {share:.0f} % of what the views show, to its edges: {kind}"
        )
    square = [name for name in boxes if np.median(boxes[name]) > _BOX and name not in wrong]
    if square and not capture.surface.is_flat:
        share = 100 * np.median(np.concatenate([boxes[name] for name in square]))
        sentences.append(
            f"the masks of {', '.join(square)} fill {share:.0f} % of the boxes around them: they look like boxes, not "
            "like outlines of the subject"
        )
    lost = [name for name in inside if np.median(inside[name]) < _LEAST_INSIDE and name not in wrong]
    if lost:
        share = 100 * np.median(np.concatenate([inside[name] for name in lost]))
        sentences.append(
            f"the masks of {', '.join(lost)} hold {share:.0f} % of the joints: they may be inverted, of other frames "
            "or of other cameras"
        )
    return sentences


def _filling(capture: Capture, view: View, mask: np.ndarray) -> tuple[float, float]:
    """Share of what a view shows of the frame that is foreground, and the same along its edge."""
    steps = (np.arange(_GRID) + 0.5) / _GRID
    x, y = np.meshgrid(steps * view.size[0], steps * view.size[1])
    width, height = camera_size(capture.cameras[view.camera])
    pixels = np.stack([x, y], -1).reshape(-1, 2)
    source = source_pixels(capture, view, pixels).reshape(_GRID, _GRID, 2)
    shows = ((source >= 0) & (source <= (width, height))).all(axis=-1)
    if not shows.any():
        return 0.0, 0.0
    inner = np.zeros((_GRID + 2, _GRID + 2), bool)
    inner[1:-1, 1:-1] = shows
    edge = shows & ~(inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:])
    cells = mask[y.astype(int), x.astype(int)]
    return float(cells[shows].mean()), float(cells[edge].mean())


def _joints_inside(view: View, mask: np.ndarray) -> float | None:
    """Share of the sure joints that lie in the mask or near it."""
    joints = [value[:2] for value in (view.joints or {}).values() if value[2] >= LEAST_CONFIDENCE]
    if len(joints) < 3:
        return None
    near = grown(mask)
    columns, rows = np.floor(np.array(joints)).astype(int).T
    there = (rows >= 0) & (columns >= 0) & (rows < mask.shape[0]) & (columns < mask.shape[1])
    return float(near[rows[there], columns[there]].mean()) if there.any() else None


def grown(mask: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) with what is near enough to it for a joint."""
    reach = 2 * max(1, round(_NEAR * max(mask.shape))) + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach), np.uint8)).astype(bool))


def outline_sentences(looks: Looks, cameras: Sequence[str]) -> list[str]:
    """Say which cameras' outlines miss those of most others: the epipolar lines that touch them are not the same."""
    looks = looks.through_lens()
    apart = pair_medians(looks.compared(looks.sight()), len(cameras))
    shown = looks.pixels[np.isfinite(looks.pixels[..., 0]).any(axis=-1)]  # (views, points, 2)
    extent = float(np.median((np.nanmax(shown, axis=1) - np.nanmin(shown, axis=1)).max(axis=-1)))
    far = {}
    for index, name in enumerate(cameras):
        own = [distance / extent for pair, distance in apart.items() if index in pair]
        if own and (share := float(np.percentile(own, 50, method="lower"))) > _MOST_APART:
            far[name] = share
    if not far:
        return []
    return [
        f"the outlines of the masks of {listed(list(far), len(cameras))} lie {100 * np.median(list(far.values())):.0f} "
        "% of their size off the epipolar lines that touch the other views': they hold the subject in part, something "
        "else or another moment, or the cameras are not right"
    ]


def outlines(capture: Capture, instants: Sequence[Instant]) -> Looks | None:
    """Return the convex hulls of the masks as what the views have in common; None where there are none."""
    instants, names = in_order(instants), list(capture.cameras)
    pixels = np.full((len(instants), len(names), _CORNERS, 2), np.nan)
    cut = np.zeros(pixels.shape[:-1], bool)
    for row, instant in enumerate(instants):
        for view in instant.views:
            mask = capture.mask(view)
            if mask is None or not mask.any():
                continue
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            hull = cv2.convexHull(np.concatenate(contours)).reshape(-1, 2)
            hull = hull[:: len(hull) // _CORNERS + 1]
            column = names.index(view.camera)
            pixels[row, column, : len(hull)] = source_pixels(capture, view, hull + 0.5)
            cut[row, column, : len(hull)] = ((hull < 2) | (hull >= np.array(view.size) - 2)).any(axis=1)
    if not np.isfinite(pixels).any():
        return None
    return looks_of(capture, instants, "outlines of the masks", pixels, [], cut)
