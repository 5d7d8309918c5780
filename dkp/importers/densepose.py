"""Files of DensePose: what detectron2's `apply_net dump` saves, and where its charts lie on a body model's mesh."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from dkp.errors import InputError
from dkp.importers.matfile import read_mat

PARTS = 24
_RESULTS = ("DensePoseChartResult", "DensePoseChartResultWithConfidences")
_KEYS = ("file_name", "scores", "pred_boxes_XYXY", "pred_densepose")
_LARGEST = 2**16  # px of a box


class _Result:
    """Stands in for detectron2's class: it only takes the values that were saved."""

    labels: Any
    uv: Any


@dataclass(frozen=True)
class Instance:
    """What DensePose says of one person.

    Attributes:
        part: (h, w) 0..24 within the box.
        uv: (h, w, 2) in [0, 1].
        corner: (2,) x and y of the box's upper left pixel.
        score: of the detector.
    """

    part: np.ndarray
    uv: np.ndarray
    corner: tuple[int, int]
    score: float

    def spread(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return part (H, W) and uv (H, W, 2) of an image of a size (width, height); what lies outside goes."""
        part, uv = np.zeros(size[::-1], np.int64), np.zeros((*size[::-1], 2))
        x, y = self.corner
        height, width = self.part.shape
        rows = slice(max(y, 0), max(0, min(y + height, size[1])))
        columns = slice(max(x, 0), max(0, min(x + width, size[0])))
        inside = (slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x))
        if rows.start < rows.stop and columns.start < columns.stop:
            part[rows, columns], uv[rows, columns] = self.part[inside], self.uv[inside]
        return part, uv


def read_dump(path: str | Path) -> dict[tuple[str, str], Instance]:
    """Read a dump, of every image the person of the highest score; nothing in the file is run.

    Returns:
        Folder and stem of the image's name -> person.

    Raises:
        InputError: the file is damaged, holds anything but tensors and DensePose's results, or lacks a value.
    """
    allowed: list[Any] = [
        (_Result, f"densepose.structures.{module}{name}") for name in _RESULTS for module in ("chart_result.", "")
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            entries = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive raises many kinds of error
        asked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {asked[1]}" if asked else "it is damaged, or holds more than tensors"
        raise InputError(
            f"{path} is not read ({what}), expected a dump of DensePose's apply_net: a list of tensors and results"
        ) from error
    if not isinstance(entries, list) or not all(isinstance(one, dict) and set(_KEYS) <= one.keys() for one in entries):
        raise InputError(f"{path} is no list of entries with {', '.join(_KEYS)}, expected a dump of apply_net")
    found_people = {}
    for number, entry in enumerate(entries):
        where = f"{path}: entry {number}"
        scores, boxes = _numbers(entry["scores"], 1, where), _numbers(entry["pred_boxes_XYXY"], 2, where)
        people = entry["pred_densepose"]
        if boxes.shape != (len(scores), 4) or not isinstance(people, list | tuple) or len(people) != len(scores):
            raise InputError(
                f"{where} has {len(scores)} scores and boxes of shape {boxes.shape}, expected as many of all"
            )
        if len(scores):
            best = int(scores.argmax())
            name = PurePosixPath(str(entry["file_name"]).replace("\\", "/"))
            found_people[name.parent.name, name.stem] = _instance(people[best], boxes[best], float(scores[best]), where)
    return found_people


def _instance(result: Any, box: np.ndarray, score: float, where: str) -> Instance:
    part = _numbers(getattr(result, "labels", None), 2, f"{where}: labels")
    uv = _numbers(getattr(result, "uv", None), 3, f"{where}: uv")
    if uv.shape != (2, *part.shape) or part.min(initial=0) < 0 or part.max(initial=0) > PARTS:
        raise InputError(
            f"{where} has labels of shape {part.shape} up to {part.max(initial=0)} and uv {uv.shape}, "
            f"expected (h, w) of 0 to {PARTS} and (2, h, w)"
        )
    if np.abs(box).max() > _LARGEST:
        raise InputError(f"{where} has the box {box.tolist()}, expected pixels")
    return Instance(part.astype(np.int64), uv.transpose(1, 2, 0).clip(0, 1), (int(box[0]), int(box[1])), score)


def _numbers(value: Any, dimensions: int, where: str) -> np.ndarray:
    if not isinstance(value, torch.Tensor) or value.ndim != dimensions:
        raise InputError(f"{where} has {type(value).__name__}, expected a tensor of {dimensions} dimensions")
    array = value.to(torch.float64).numpy()
    if not np.isfinite(array).all():
        raise InputError(f"{where} has values that are not finite, expected numbers")
    return array


def read_densepose_charts(path: Path) -> dict[str, np.ndarray]:
    """Read `UV_Processed.mat`, which the DensePose project publishes.

    Returns:
        ``part`` (N,), ``uv`` (N, 2) and ``vertex`` (N,) of the body model's mesh, from 0.

    Raises:
        InputError: an array is missing or does not fit the others.
    """
    names = ("All_U_norm", "All_V_norm", "All_FaceIndices", "All_Faces", "All_vertices")
    u, v, part, faces, vertex = read_mat(path, names).values()
    u, v, part, vertex = (array.ravel() for array in (u, v, part, vertex))
    if not len(u) == len(v) == len(vertex) > 0 or faces.ndim != 2 or faces.shape != (len(part), 3):
        raise InputError(
            f"{path}: {', '.join(names)} have {len(u)}, {len(v)}, {len(part)}, {faces.shape}, {len(vertex)} entries, "
            "expected one for each chart vertex, and a part and three vertices for each face"
        )
    for name, array, most in (
        ("All_Faces", faces, len(u)),
        ("All_FaceIndices", part, PARTS),
        ("All_vertices", vertex, 2**31),
    ):
        if not (
            np.isfinite(array).all() and (array == np.round(array)).all() and 1 <= array.min() <= array.max() <= most
        ):
            raise InputError(
                f"{path}: {name} goes from {array.min()} to {array.max()}, expected whole numbers 1 to {most}"
            )
    own = np.zeros(len(u), np.int64)
    own[faces.astype(np.int64) - 1] = part.astype(np.int64)[:, None]
    used = own > 0
    return {"part": own[used], "uv": np.stack([u, v], -1)[used], "vertex": vertex.astype(np.int64)[used] - 1}
