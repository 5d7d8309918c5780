"""Cameras of COLMAP: a folder with ``cameras`` and ``images``, as text or binary.

An image is a camera of the rig; where each folder of images is a camera that stands still, the folder is. Quaternion
and translation are world to camera; pixel centres are at integer + 0.5, as here. The unit is whatever came of the
reconstruction. Layout of the binary files: COLMAP's documentation, "Output format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from dkp.captures.arrays import image_size, number_array, shown
from dkp.captures.rig import camera_arrays, camera_size
from dkp.errors import InputError
from dkp.files import write_text
from dkp.geometry import Camera
from dkp.importers.cameras import parts
from dkp.importers.cameras.documents import read_bytes, read_text
from dkp.importers.cameras.lens import plain_cameras
from dkp.importers.cameras.parts import NamedCamera

_PARAMETERS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
}
_NUMBERED = (
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV", "FOV",
    "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE", "RAD_TAN_THIN_PRISM_FISHEYE",
)  # fmt: skip
"""Models in the order of their numbers in the binary files."""
_COUNTS = {"FOV": 5, "THIN_PRISM_FISHEYE": 12, "RAD_TAN_THIN_PRISM_FISHEYE": 16} | {
    model: len(keys.split()) for model, keys in _PARAMETERS.items()
}

Inner = tuple[str, tuple[int, int], list[float]]
"""Model, width and height, parameters."""
Row = tuple[str, list[float], int]
"""Name of the image, quaternion and translation, number of the camera."""
_STILL = np.radians(1.0), 0.02
"""Turn [rad] and way, as a share of the rig's size, by which the poses of a camera that stands still may differ."""


def read_colmap(path: Path, metres: float) -> Iterator[NamedCamera]:
    """Read the rig of a reconstruction, with the names of its images.

    Args:
        path: the folder of the two files, or a folder with ``sparse/0`` or ``0`` in it, or one of the two files.
        metres: per unit.
    """
    folder = _folder(path) or (path if path.is_dir() else path.parent)
    kind = "bin" if (folder / "images.bin").is_file() else "txt"
    inner_file, image_file = folder / f"cameras.{kind}", folder / f"images.{kind}"
    inner = dict((_binary_cameras if kind == "bin" else _text_cameras)(inner_file))
    rows = sorted((_binary_images if kind == "bin" else _text_images)(image_file), key=lambda row: row[0])
    rows = _one_a_camera(rows) or rows
    names = parts.image_names([name for name, _, _ in rows], f"{image_file}: the names of the images")
    for name, (file, pose, number) in zip(names, rows, strict=True):
        if number not in inner:
            raise InputError(f"{image_file}: {file} has the camera {number}, expected one that {inner_file.name} has")
        turn = number_array(pose[:4], (4,), f"{image_file}: {file}: quaternion")
        if not 0.99 < np.linalg.norm(turn) < 1.01:
            raise InputError(f"{image_file}: {file}: quaternion is {shown(pose[:4])}, expected one of length 1")
        camera = _camera(
            *inner[number],
            Rotation.from_quat(np.roll(turn, -1)).as_matrix(),
            number_array(pose[4:], (3,), f"{image_file}: {file}: translation") * metres,
            f"{inner_file}: camera {number}",
        )
        yield name, camera


def _one_a_camera(rows: Sequence[Row]) -> list[Row]:
    """Return one image of each folder, under the folder's name, where folders are cameras that stand still.

    So they are if the images of each folder have one camera and nearly one pose. Of several the first is taken.
    """
    folders: dict[str, list[Row]] = {}
    for row in rows:
        folders.setdefault(row[0].replace("\\", "/").rpartition("/")[0], []).append(row)
    if "" in folders or not 2 <= len(folders) < len(rows):
        return []
    turns = {name: Rotation.from_quat([np.roll(pose[:4], -1) for _, pose, _ in own]) for name, own in folders.items()}
    centres = {
        name: -turns[name].inv().apply(np.array([pose[4:] for _, pose, _ in own])) for name, own in folders.items()
    }
    size = np.ptp(np.concatenate(list(centres.values())), axis=0).max()
    for name, own in folders.items():
        turned = (turns[name] * turns[name][0].inv()).magnitude().max()
        moved = np.linalg.norm(centres[name] - centres[name][0], axis=1).max()
        if len({number for _, _, number in own}) > 1 or turned > _STILL[0] or moved > _STILL[1] * size:
            return []
    return [(f"{name}/{Path(name).name}", *own[0][1:]) for name, own in folders.items()]


def _camera(
    model: str,
    size: tuple[int, int],
    values: Sequence[float],
    rotation: np.ndarray,
    translation: np.ndarray,
    where: str,
) -> Camera:
    if model not in _PARAMETERS:
        raise InputError(f"{where} has the model {model}, expected one of {', '.join(_PARAMETERS)}")
    keys = _PARAMETERS[model].split()
    if len(values) != len(keys):
        raise InputError(f"{where} has {len(values)} parameters, expected {_PARAMETERS[model]} of the model {model}")
    given = dict(zip(keys, number_array(list(values), (len(keys),), where).tolist(), strict=True))
    focal = [given.get(key, given.get("f", 0.0)) for key in ("fx", "fy")]
    fisheye = model.endswith("FISHEYE")
    order = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    lens = parts.coefficients([given.get(key, 0.0) for key in order], where, fisheye)
    intrinsics = parts.focal_matrix([*focal, given["cx"], given["cy"]], where)
    return parts.make_camera(intrinsics, rotation, translation, lens, size, shift=0.0)


def _text_cameras(path: Path) -> Iterator[tuple[int, Inner]]:
    for number, line in enumerate(read_text(path, "the cameras of COLMAP").splitlines(), start=1):
        words = line.split()
        if words and not line.startswith("#"):
            where = f"{path}:{number}"
            identity, width, height, *values = _numbers([words[0], *words[2:]], 3, where)
            yield int(identity), (words[1], image_size([width, height], where), values)


def _text_images(path: Path) -> Iterator[tuple[str, list[float], int]]:
    lines = enumerate(read_text(path, "the images of COLMAP").split("\n"), start=1)
    for number, line in lines:
        words = line.split(maxsplit=9)
        if words and not line.startswith("#"):
            if len(words) != 10:
                raise InputError(
                    f"{path}:{number} is {shown(line)}, expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
                )
            values = _numbers(words[:9], 9, f"{path}:{number}")
            yield words[9].strip(), values[1:8], int(values[8])
            at, points = next(lines, (number, ""))
            if len(points.split()) % 3:
                raise InputError(f"{path}:{at} is {shown(points)}, expected the points of {words[9]}, or an empty line")


def _numbers(words: Sequence[str], least: int, where: str) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) < least or not np.isfinite(numbers).all():
        raise InputError(f"{where} is {shown(' '.join(words))}, expected {least} numbers or more")
    return numbers


class _Bytes:
    """Numbers of a binary file, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = read_bytes(path, "a binary file of COLMAP")
        self.at = 0

    def take(self, form: str) -> tuple[int | float, ...]:
        start = self.at
        self.skip(struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{form}", self.content, start)

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.content):
            raise InputError(f"{self.path} ends after {len(self.content)} bytes within an entry, expected a whole file")

    def word(self) -> str:
        end = self.content.find(b"\0", self.at)
        found, self.at = self.content[self.at : max(end, self.at)], end + 1
        try:
            if end >= 0:
                return found.decode()
        except UnicodeDecodeError:
            pass
        raise InputError(f"{self.path} has the name {shown(found)} at byte {self.at}, expected text in UTF-8")


def _binary_cameras(path: Path) -> Iterator[tuple[int, Inner]]:
    content = _Bytes(path)
    for _ in range(int(content.take("Q")[0])):
        number, kind, width, height = content.take("iiQQ")
        where = f"{path}: camera {number}"
        if not 0 <= kind < len(_NUMBERED):
            raise InputError(f"{where} has the model number {kind}, expected 0 to {len(_NUMBERED) - 1}")
        model = _NUMBERED[int(kind)]
        yield int(number), (model, image_size([width, height], where), list(content.take(f"{_COUNTS[model]}d")))


def _binary_images(path: Path) -> Iterator[tuple[str, list[float], int]]:
    content = _Bytes(path)
    for _ in range(int(content.take("Q")[0])):
        _, *pose, number = content.take("I7dI")
        name = content.word()
        (points,) = content.take("Q")
        content.skip(24 * int(points))
        yield name, pose, int(number)


def _folder(path: Path) -> Path | None:
    """Return the folder of the files that a path names, or None; what lacks one of them is told when it is read."""
    if not path.is_dir() and path.stem not in ("cameras", "images"):
        return None
    for holds in (all, any):
        for folder in (path, path / "sparse" / "0", path / "0") if path.is_dir() else (path.parent,):
            for kind in ("bin", "txt"):
                if holds((folder / f"{file}.{kind}").is_file() for file in ("cameras", "images")):
                    return folder
    return None


def is_colmap(path: Path, text: str) -> bool:
    """Whether the two files are in a folder or in ``sparse/0`` below it, or a path is one of them."""
    return _folder(path) is not None


def write_colmap_cameras(folder: str | Path, cameras: Mapping[str, Camera]) -> None:
    """Write a rig as text files of COLMAP, in metres, with an image ``NAME.png`` for each camera.

    Raises:
        InputError: a lens or a skew that COLMAP does not have, or a file cannot be written.
    """
    folder = Path(folder)
    inner = ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]"]
    images = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of points"]
    for number, (name, camera) in enumerate(plain_cameras(cameras, "COLMAP").items(), start=1):
        values = camera_arrays(camera)
        matrix, lens = values["intrinsics"], values["distortion"]
        if matrix[0, 1]:
            raise InputError(f"the camera {name!r} has the skew {matrix[0, 1]:g}, expected 0: COLMAP has none")
        model = "FULL_OPENCV" if lens[4] else "OPENCV"
        numbers = [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], *lens[:4]]
        numbers += [lens[4], 0.0, 0.0, 0.0] if lens[4] else []
        inner.append(
            " ".join([f"{number} {model}", *map(str, camera_size(camera)), *(repr(float(n)) for n in numbers)])
        )
        turn = np.roll(Rotation.from_matrix(values["rotation"]).as_quat(), 1)
        pose = " ".join(repr(float(n)) for n in (*turn, *values["translation"]))
        images += [f"{number} {pose} {number} {name}.png", ""]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}), expected a folder to write to") from error
    for file, lines in (("cameras", inner), ("images", images), ("points3D", ["# no points"])):
        write_text(folder / f"{file}.txt", "\n".join(lines) + "\n")
