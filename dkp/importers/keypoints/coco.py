"""One JSON file for a camera: COCO's annotations and results (AlphaPose, ViTPose), or MMPose's of a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dkp.captures.arrays import parse_json, shown
from dkp.errors import InputError
from dkp.importers.keypoints.detections import Detections, collect
from dkp.importers.keypoints.openpose import number_in, read_instances, triples

_Frames = Iterator[tuple[int, str, list[np.ndarray]]]


def read_json_file(path: Path) -> Detections:
    """Read COCO's ``images`` and ``annotations``, a list of its results, or ``instance_info`` of MMPose.

    A frame's number is the last number in the image's file name; of MMPose its ``frame_id``.

    Raises:
        InputError: the file cannot be read or is none of these.
    """
    try:
        data = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}), expected a JSON file of keypoints") from error
    if isinstance(data, Mapping) and "instance_info" in data:
        return collect(path, _mmpose(path, data["instance_info"]), _mmpose_names(data.get("meta_info")))
    if isinstance(data, Mapping) and "annotations" in data and "images" in data:
        images = {_key(one, "id", f"{path}: images"): one for one in _list(data["images"], f"{path}: images")}
        numbers = {key: number_in(_stem(one.get("file_name")), f"{path}: image {key}") for key, one in images.items()}
        found = _list(data["annotations"], f"{path}: annotations")
        return collect(path, _coco(path, found, numbers), _coco_names(path, data.get("categories"), found))
    if isinstance(data, list) and all(isinstance(one, Mapping) and "image_id" in one for one in data):
        keys = {_key(one, "image_id", str(path)) for one in data}
        return collect(path, _coco(path, data, {key: number_in(_stem(str(key)), f"{path}: {key}") for key in keys}))
    raise InputError(
        f"{path} is {shown(data)}, expected images and annotations of COCO, a list of its results, or instance_info of "
        "MMPose; of OpenPose, name the folder"
    )


def _coco(path: Path, annotations: list[Any], numbers: Mapping[Any, int]) -> _Frames:
    people: dict[Any, list[np.ndarray]] = {key: [] for key in numbers}
    for index, one in enumerate(annotations):
        where = f"{path}: annotations[{index}]"
        key = _key(one, "image_id", where)
        if key not in people:
            raise InputError(f"{where}: image_id is {shown(key)}, expected the id of an image")
        if one.get("keypoints"):
            person = triples(one["keypoints"], f"{where}: keypoints")
            person[:, 2] = np.minimum(person[:, 2], 1.0)  # COCO's visibility: 0 not labelled, 1 hidden, 2 seen
            people[key].append(person)
    for key, number in sorted(numbers.items(), key=lambda item: item[1]):
        yield number, f"{path}: image {key}", people[key]


def _coco_names(path: Path, categories: Any, annotations: list[Any]) -> tuple[str, ...] | None:
    used = {one.get("category_id") for one in annotations if one.get("keypoints")}
    named = [
        one["keypoints"]
        for one in _list(categories or [], f"{path}: categories")
        if isinstance(one, Mapping) and one.get("keypoints") and (not used or one.get("id") in used)
    ]
    if any(names != named[0] or not _are_words(names) for names in named):
        raise InputError(f"{path}: categories have keypoints {shown(named)}, expected one list of names")
    return tuple(named[0]) if named else None


def _mmpose(path: Path, frames: Any) -> _Frames:
    for index, one in enumerate(_list(frames, f"{path}: instance_info")):
        where = f"{path}: instance_info[{index}]"
        number = _key(one, "frame_id", where)
        if not isinstance(number, int):
            raise InputError(f"{where}: frame_id is {shown(number)}, expected a whole number")
        yield number, where, read_instances(one.get("instances"), f"{where}: instances")


def _mmpose_names(meta: Any) -> tuple[str, ...] | None:
    names = meta.get("keypoint_id2name") if isinstance(meta, Mapping) else None
    if not isinstance(names, Mapping) or not all(str(index) in names for index in range(len(names))):
        return None
    ordered = [names[str(index)] for index in range(len(names))]
    return tuple(ordered) if ordered and _are_words(ordered) else None


def _are_words(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _stem(name: Any) -> str:
    return PurePosixPath(name).stem if isinstance(name, str) else ""


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise InputError(f"{where} is {shown(value)}, expected a list of objects")
    return value


def _key(entry: Any, key: str, where: str) -> Any:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{where}: {key} is {shown(value)}, expected a number or a name")
    return value
