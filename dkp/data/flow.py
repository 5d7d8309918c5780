"""Where the pixels of a view go in the next frame of the same camera: by the known surface, or by optical flow."""

from typing import Literal

import cv2
import numpy as np

from dkp.captures import DenseLabel
from dkp.captures.images import in_threads
from dkp.data.augmentation import map_points, warp_image
from dkp.data.cells import cell_centres, sample_dense
from dkp.data.columns import Columns
from dkp.data.reading import ViewReader
from dkp.data.squares import fit
from dkp.data.stored import StoredImages
from dkp.errors import InputError

NextFrame = Literal["no", "truth", "flow"]

ROUND_TRIP = 1.0
"""Greatest disagreement [px] of the flow forth and back at a pixel that counts as seen in both frames."""


def add_next_views(
    columns: Columns, reader: ViewReader, images: StoredImages, kind: NextFrame, chunk: int, threads: int | None
) -> None:
    """Find the views of the next time step, and compute and store the flow to them.

    Args:
        columns: where it is stored, as `NextViews.of` finds it.
        reader: reads the labels again, as they are before they are resized ("truth").
        images: the views; next views are looked for there.
        kind: "truth" or "flow".
        chunk: flows that are held in memory at a time.
        threads: as for `CaptureImages`.

    Raises:
        InputError: there is no pair of consecutive views, or "truth" lacks labels or posed surfaces.
    """
    index_of = {(view.sequence, view.time, view.camera): index for index, view in enumerate(images.views)}
    after = np.asarray([index_of.get((v.sequence, v.time + 1, v.camera), -1) for v in images.views])
    if kind == "truth":
        for index, view in enumerate(images.views):
            if after[index] >= 0 and view.label is None:
                raise InputError(f"{images.name}: view {view.frame} of {view.camera} has no dense label for its flow")
    pairs = [(index, int(other)) for index, other in enumerate(after) if other >= 0]
    if not pairs:
        raise InputError(f"{images.name} has no two views of one camera at consecutive times, which flow needs")
    truth: dict[str, np.ndarray] = {}

    def one(pair: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        index, other = pair
        label = reader.label(images.views[index]) if kind == "truth" else None
        if label is not None:
            return surface_flow(images, index, other, label, truth[images.frame[other]])
        return optical_flow(images, index, other)

    square = (images.side, images.side)
    columns.begin("next_view", (), np.int64)
    columns.begin("next_row", (), np.int64)
    columns.begin("flow", (*square, 2), np.float16)
    columns.begin("flow_valid", square, bool)
    row = np.full(len(after), -1)
    row[[index for index, _ in pairs]] = np.arange(len(pairs))
    columns.extend("next_view", after)
    columns.extend("next_row", row)
    for start in range(0, len(pairs), chunk):
        some = pairs[start : start + chunk]
        if kind == "truth":
            truth = {frame: posed(reader, images, frame) for frame in {images.frame[other] for _, other in some}}
        for flow, valid in in_threads(one, some, threads):
            columns.append("flow", flow.astype(np.float16))
            columns.append("flow_valid", valid)


def posed(reader: ViewReader, images: StoredImages, frame: str) -> np.ndarray:
    """Return the posed surface (V, 3) [m] of an instant, which has to be known."""
    vertices = reader.truth(frame)
    if vertices is None:
        raise InputError(f"{images.name}: truth/{frame}.npz is missing, which the flow of the surface needs")
    return vertices


def surface_flow(
    images: StoredImages, index: int, other: int, label: DenseLabel, vertices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Flow of the labelled surface points to where the next frame's posed surface puts them.

    Args:
        images: in memory.
        index: the view.
        other: its next view.
        label: dense label of the view, of any resolution.
        vertices: (V, 3) [m] posed surface at the next view's time.

    Returns:
        flow (S, S, 2) [px] and valid (S, S).
    """
    side = images.side
    height, width = label.face.shape
    scale = fit((width, height), side)
    nearest = np.floor(map_points(np.linalg.inv(scale), cell_centres(side, 1))).astype(np.intp)
    column, row = nearest[..., 0], nearest[..., 1]
    inside = (column < width) & (row < height)
    column, row = column.clip(0, width - 1), row.clip(0, height - 1)
    valid = label.foreground[row, column] & inside
    flow = np.zeros((side, side, 2))
    if not valid.any():
        return flow, valid
    source = map_points(scale, np.stack([column, row], axis=-1)[valid] + 0.5)
    face, barycentric = label.face[row, column][valid], label.barycentric[row, column][valid]
    points = (vertices[images.surface.faces[face]] * barycentric[..., None]).sum(axis=1)
    local = points @ images.rotation[other].T + images.translation[other]
    target = map_points(images.intrinsics[other], local[:, :2] / np.maximum(local[:, 2:], 1e-6))
    flow[valid] = target - source
    seen = local[:, 2] > 0
    after = images.label(other)
    if after is not None:
        there = sample_dense(after, target, images.gap)
        coordinate = images.surface.coordinates(face, barycentric)
        seen &= there.foreground & (np.abs(there.coordinate - coordinate).max(axis=-1) < images.gap)
    else:
        seen &= ((target >= 0) & (target < side)).all(axis=-1)
    valid[valid] = seen
    return flow, valid


def optical_flow(images: StoredImages, index: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    """Optical flow (DIS) to the next view, after the difference of the two crops is taken out.

    Returns:
        flow (S, S, 2) [px] and valid (S, S): inside the next view, and confirmed by the flow back.
    """
    side = images.side
    turn = images.rotation[other] @ images.rotation[index].T
    crop = images.intrinsics[other] @ turn @ np.linalg.inv(images.intrinsics[index])
    crop /= crop[2, 2]
    first = cv2.cvtColor(images.images[index], cv2.COLOR_RGB2GRAY)
    second = cv2.cvtColor(images.images[other], cv2.COLOR_RGB2GRAY)
    second = np.ascontiguousarray(warp_image(second, np.linalg.inv(crop), side))
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start = np.zeros((side, side, 2), np.float32)
    forth = method.calc(first, second, start.copy())
    back = method.calc(second, first, start.copy())
    centres = cell_centres(side, 1)
    moved = centres + forth
    x, y = (moved[..., 0] - 0.5).astype(np.float32), (moved[..., 1] - 0.5).astype(np.float32)
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1e3, 1e3, 0, 0))
    target = map_points(crop, moved)
    valid = (np.abs(forth + returned).max(axis=-1) < ROUND_TRIP) & ((target >= 0) & (target < side)).all(axis=-1)
    mask = images.mask(index)
    if mask is not None:
        valid &= mask
    return target - centres, valid


def flow_at(flow: np.ndarray, valid: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read a flow at sub-pixel positions, by the nearest pixel.

    Args:
        flow: (S, S, 2) [px].
        valid: (S, S) bool.
        pixels: (..., 2) [px].

    Returns:
        (..., 2) [px] and (...) bool, False outside.
    """
    side = flow.shape[0]
    index = np.floor(pixels).astype(np.intp)
    inside = ((index >= 0) & (index < side)).all(axis=-1)
    index = index.clip(0, side - 1)
    return flow[index[..., 1], index[..., 0]].astype(np.float64), valid[index[..., 1], index[..., 0]] & inside
