"""Files that other programs read: meshes as PLY, an animated mesh as GLB, keypoints as CSV and TRC."""

import csv
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_FLOAT, _UNSIGNED, _BYTE = 5126, 5125, 5121  # component types of glTF
_PLY_TYPES = {"f": "float", "u": "uchar", "i": "int"}


def write_ply(
    path: Path, vertices: np.ndarray, faces: np.ndarray | None = None, extra: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write a binary PLY.

    Args:
        path: the file.
        vertices: (V, 3) [m].
        faces: (F, 3); None = points alone.
        extra: further properties (V,) of the vertices, such as red, green and blue uint8.
    """
    columns: dict[str, np.ndarray] = {name: vertices[:, axis].astype("<f4") for axis, name in enumerate("xyz")}
    columns |= {
        name: value if value.dtype == np.uint8 else value.astype("<f4") for name, value in (extra or {}).items()
    }
    table = np.empty(len(vertices), [(name, value.dtype) for name, value in columns.items()])
    for name, value in columns.items():
        table[name] = value
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property {_PLY_TYPES[value.dtype.kind]} {name}" for name, value in columns.items()]
    body = table.tobytes()
    if faces is not None:
        lines += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        rows = np.rec.fromarrays([np.full(len(faces), 3, np.uint8), *faces.astype("<i4").T])
        body += rows.tobytes()
    path.write_bytes("\n".join([*lines, "end_header\n"]).encode() + body)


def write_glb(
    path: Path,
    seconds: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    colour: np.ndarray,
    up: np.ndarray,
    notes: dict[str, Any],
) -> None:
    """Write a mesh that moves as a binary glTF 2.0: the first instant, and one morph target for each further one.

    The positions are those of the world, but for the node, which turns `up` to glTF's +y and holds the origin.

    Args:
        path: the file.
        seconds: (T,) [s], when the instants are.
        vertices: (T, V, 3) [m].
        faces: (F, 3).
        colour: (V, 3) uint8.
        up: (3,).
        notes: plain values, for the "extras".
    """
    origin = vertices[0].mean(0).round(3)
    local = (vertices - origin).astype("<f4")
    binary, views, accessors = bytearray(), [], []

    def add(
        values: np.ndarray, kind: str, target: int | None = None, bounds: bool = False, normalised: bool = False
    ) -> int:
        component = {"f": _FLOAT, "u": _BYTE if values.dtype.itemsize == 1 else _UNSIGNED}[values.dtype.kind]
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": values.nbytes})
        if target:
            views[-1]["target"] = target
        accessor: dict[str, Any] = {"bufferView": len(views) - 1, "componentType": component, "type": kind}
        accessor["count"] = values.size if kind == "SCALAR" else len(values)
        if bounds:
            accessor |= {"min": np.atleast_1d(values.min(0)).tolist(), "max": np.atleast_1d(values.max(0)).tolist()}
        if normalised:
            accessor["normalized"] = True
        binary.extend(values.tobytes())
        accessors.append(accessor)
        return len(accessors) - 1

    count = len(local)
    rgba = np.concatenate([colour, np.full_like(colour[:, :1], 255)], 1)
    primitive: dict[str, Any] = {
        "attributes": {
            "POSITION": add(local[0], "VEC3", 34962, bounds=True),
            "COLOR_0": add(rgba, "VEC4", 34962, normalised=True),
        },
        "indices": add(faces.astype("<u4").ravel(), "SCALAR", 34963),
        "material": 0,
    }
    mesh: dict[str, Any] = {"primitives": [primitive]}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "dkp"},
        "extras": notes,
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "surface", "matrix": _to_gltf(up, origin).T.ravel().tolist()}],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1}, "doubleSided": True}],
        "meshes": [mesh],
    }
    if count > 1:
        primitive["targets"] = [{"POSITION": add(one - local[0], "VEC3", 34962, bounds=True)} for one in local[1:]]
        mesh["weights"] = [0.0] * (count - 1)
        weights = np.eye(count, dtype="<f4")[:, 1:].ravel()
        sampler = {
            "input": add(seconds.astype("<f4"), "SCALAR", bounds=True),
            "output": add(weights, "SCALAR"),
            "interpolation": "LINEAR",
        }
        channel = {"sampler": 0, "target": {"node": 0, "path": "weights"}}
        document["animations"] = [{"samplers": [sampler], "channels": [channel]}]
    binary.extend(b"\0" * (-len(binary) % 4))
    document |= {"buffers": [{"byteLength": len(binary)}], "bufferViews": views, "accessors": accessors}
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0")
    path.write_bytes(head + chunks + binary)


def _to_gltf(up: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """(4, 4): the motion that moves local positions to their origin and turns up to +y."""
    side = np.eye(3)[np.abs(up).argmin()]
    right = np.cross(up, side)
    right /= np.linalg.norm(right)
    turn = np.stack([right, up, np.cross(right, up)])
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = turn, turn @ origin
    return result


def write_keypoints_csv(
    path: Path,
    frame: Sequence[str],
    sequence: Sequence[str],
    time: Sequence[int],
    names: Sequence[str],
    points: np.ndarray,
) -> None:
    """Write keypoints (T, J, 3) [m], a line each; those that were not found are left out."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["frame", "sequence", "time", "keypoint", "x", "y", "z"])
        for instant, joint in np.argwhere(np.isfinite(points).all(-1)):
            position = [f"{value:.5f}" for value in points[instant, joint]]
            writer.writerow([frame[instant], sequence[instant], time[instant], names[joint], *position])


def write_trc(path: Path, time: Sequence[int], names: Sequence[str], points: np.ndarray, fps: float) -> None:
    """Write the keypoints (T, J, 3) [m] of a take as a TRC file, as OpenSim reads it; those not found stay empty.

    Frames have the numbers `time` (T) of the capture, as in every other file.
    """
    head = [
        "DataRate",
        "CameraRate",
        "NumFrames",
        "NumMarkers",
        "Units",
        "OrigDataRate",
        "OrigDataStartFrame",
        "OrigNumFrames",
    ]
    rate = f"{fps:g}"
    lines = [["PathFileType", "4", "(X/Y/Z)", path.name], head]
    lines.append([rate, rate, str(len(points)), str(len(names)), "m", rate, str(time[0]), str(len(points))])
    lines.append(["Frame#", "Time", *(cell for name in names for cell in (name, "", ""))])
    lines.append(["", "", *(f"{axis}{number}" for number in range(1, len(names) + 1) for axis in "XYZ")])
    lines.append([])
    for index, row in zip(time, points.reshape(len(points), -1), strict=True):
        cells = ["" if np.isnan(value) else f"{value:.5f}" for value in row]
        lines.append([str(index), f"{(index - time[0]) / fps:.5f}", *cells])
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
