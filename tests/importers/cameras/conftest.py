"""One rig, written as every program writes it."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from scipy.spatial.transform import Rotation

SIZE = (640, 480)


@dataclass
class Rig:
    """Three cameras in OpenCV's conventions (the first pixel's centre at 0), in metres; the first is the world."""

    matrix: np.ndarray = field(default_factory=lambda: np.array([[500.0, 0, 317.25], [0, 510, 241.5], [0, 0, 1]]))
    lens: tuple[float, ...] = (-0.2, 0.1, 0.001, -0.002)
    fisheye: bool = False
    vectors: tuple = ((0.0, 0.0, 0.0), (0.3, -0.8, 0.2), (-0.1, 0.9, 0.05))
    translations: tuple = ((0.0, 0.0, 0.0), (0.8, -0.2, 0.3), (-0.9, 0.1, 0.4))

    def poses(self):
        """(3, 3) and (3,) of each camera."""
        return [
            (cv2.Rodrigues(np.array(v))[0], np.array(t)) for v, t in zip(self.vectors, self.translations, strict=True)
        ]

    def pixels(self, points: np.ndarray) -> list[np.ndarray]:
        """Where OpenCV sees points (N, 3): (N, 2) a camera, half a pixel on."""
        found = []
        for vector, translation in zip(self.vectors, self.translations, strict=True):
            pose = np.array(vector), np.array(translation)
            if self.fisheye:
                pixels, _ = cv2.fisheye.projectPoints(points[None], *pose, self.matrix, np.array(self.lens))
            else:
                pixels, _ = cv2.projectPoints(points, *pose, self.matrix, np.array(self.lens))
            found.append(pixels.reshape(-1, 2) + 0.5)
        return found


def as_toml(rig: Rig, folder: Path) -> Path:
    tables = []
    for i, (vector, t) in enumerate(zip(rig.vectors, rig.translations, strict=True)):
        table = f'[cam_{i}]\nname = "c{i}"\nsize = [640, 480]\nmatrix = {rig.matrix.tolist()}\n'
        table += f"distortions = {list(rig.lens)}\nrotation = {list(vector)}\n"
        table += f"translation = {[1000 * x for x in t]}\nfisheye = {str(rig.fisheye).lower()}\n"
        tables.append(table)
    (folder / "calibration.toml").write_text("\n".join(tables))
    return folder / "calibration.toml"


def yaml_matrix(name: str, array) -> str:
    array = np.atleast_2d(array)
    data = ", ".join(f"{x:.17g}" for x in array.ravel())
    return f"{name}: !!opencv-matrix\n   rows: {len(array)}\n   cols: {array.shape[1]}\n   dt: d\n   data: [ {data} ]\n"


def as_opencv(rig: Rig, folder: Path) -> Path:
    names = "%YAML:1.0\n---\nnames:\n" + "".join(f'   - "{i:02d}"\n' for i in range(3))
    inner, outer = names, names
    for i, (rotation, t) in enumerate(rig.poses()):
        inner += yaml_matrix(f"K_{i:02d}", rig.matrix) + yaml_matrix(f"dist_{i:02d}", rig.lens)
        inner += f"H_{i:02d}: 480\nW_{i:02d}: 640\n"
        outer += yaml_matrix(f"R_{i:02d}", np.array(rig.vectors[i])[:, None]) + yaml_matrix(f"Rot_{i:02d}", rotation)
        outer += yaml_matrix(f"T_{i:02d}", t[:, None])
    (folder / "intri.yml").write_text(inner)
    (folder / "extri.yml").write_text(outer)
    return folder


def colmap_camera(rig: Rig) -> tuple[str, int, list[float]]:
    fx, fy, cx, cy = rig.matrix[0, 0], rig.matrix[1, 1], rig.matrix[0, 2] + 0.5, rig.matrix[1, 2] + 0.5
    lens = list(rig.lens)
    if rig.fisheye:
        return "OPENCV_FISHEYE", 5, [fx, fy, cx, cy, *lens]
    if len(lens) > 4:
        return "FULL_OPENCV", 6, [fx, fy, cx, cy, *lens, *[0.0] * (8 - len(lens))]
    return "OPENCV", 4, [fx, fy, cx, cy, *lens]


def as_colmap_text(rig: Rig, folder: Path) -> Path:
    model, _, values = colmap_camera(rig)
    (folder / "cameras.txt").write_text(f"# cameras\n7 {model} 640 480 {' '.join(map(repr, map(float, values)))}\n")
    lines = ["# images"]
    for i, (rotation, t) in enumerate(rig.poses()):
        x, y, z, w = Rotation.from_matrix(rotation).as_quat()
        numbers = " ".join(repr(float(n)) for n in (w, x, y, z, *t))
        lines += [f"{i + 1} {numbers} 7 shots/c {i}.jpg", "" if i else "1.0 2.0 -1 3.0 4.0 17"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder


def as_colmap_binary(rig: Rig, folder: Path) -> Path:
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    _, number, values = colmap_camera(rig)
    content = struct.pack("<Q", 1) + struct.pack("<iiQQ", 7, number, *SIZE) + struct.pack(f"<{len(values)}d", *values)
    (model / "cameras.bin").write_bytes(content)
    content = struct.pack("<Q", 3)
    for i, (rotation, t) in enumerate(rig.poses()):
        x, y, z, w = Rotation.from_matrix(rotation).as_quat()
        content += struct.pack("<I7dI", i + 1, w, x, y, z, *t, 7) + f"c{i}.jpg".encode() + b"\0"
        content += struct.pack("<Q", i) + struct.pack("<ddq", 1.0, 2.0, -1) * i
    (model / "images.bin").write_bytes(content)
    return folder


def as_transforms(rig: Rig, folder: Path) -> Path:
    keys = ("k1", "k2", "k3", "k4") if rig.fisheye else ("k1", "k2", "p1", "p2", "k3")
    top = {
        "fl_x": rig.matrix[0, 0],
        "fl_y": rig.matrix[1, 1],
        "w": 640,
        "h": 480,
        **dict(zip(keys, rig.lens, strict=False)),
    }
    top |= {"cx": rig.matrix[0, 2] + 0.5, "camera_model": "OPENCV_FISHEYE" if rig.fisheye else "OPENCV"}
    frames = []
    for i, (rotation, t) in enumerate(rig.poses()):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ t
        pose[:, 1:3] *= -1
        entry = {"file_path": f"./c{i}/0001.png", "transform_matrix": pose.tolist(), "cy": rig.matrix[1, 2] + 0.5}
        frames.append(entry)
    (folder / "transforms.json").write_text(json.dumps({**top, "frames": frames}))
    return folder / "transforms.json"


def as_kalibr(rig: Rig, folder: Path) -> Path:
    text, before = "", np.eye(4)
    for i, (rotation, t) in enumerate(rig.poses()):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, t
        inner = rig.matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        text += f"cam{i}:\n  cam_overlaps: []\n  camera_model: pinhole\n  intrinsics: {inner}\n"
        text += (
            f"  distortion_model: {'equidistant' if rig.fisheye else 'radtan'}\n  distortion_coeffs: {list(rig.lens)}\n"
        )
        text += f"  resolution: [640, 480]\n  rostopic: /cam{i}/image_raw\n"
        if i:
            step = (pose @ np.linalg.inv(before)).tolist()
            text += "  T_cn_cnm1:\n" + "".join(f"  - {row}\n" for row in step)
        before = pose
    (folder / "camchain.yaml").write_text(text)
    return folder / "camchain.yaml"


def as_panoptic(rig: Rig, folder: Path) -> Path:
    cameras = []
    for i, (rotation, t) in enumerate(rig.poses()):
        entry = {"name": f"00_{i:02d}", "type": "hd", "resolution": [640, 480], "panel": 0, "node": i}
        entry |= {"K": rig.matrix.tolist(), "distCoef": [*rig.lens, 0.0][:5], "R": rotation.tolist()}
        cameras.append(entry | {"t": (100 * t)[:, None].tolist()})
    (folder / "calibration_171204_pose1.json").write_text(json.dumps({"calibDataSource": "x", "cameras": cameras}))
    return folder / "calibration_171204_pose1.json"


def as_human36m(rig: Rig, folder: Path) -> Path:
    names = ("54138969", "55011271", "58860488")
    inner = {"calibration_matrix": rig.matrix.tolist(), "distortion": [*rig.lens, 0.0][:5]}
    poses = {
        name: {"R": rotation.tolist(), "t": (1000 * t)[:, None].tolist()}
        for name, (rotation, t) in zip(names, rig.poses(), strict=True)
    }
    content = {"extrinsics": {"S1": poses}, "intrinsics": dict.fromkeys(names, inner)}
    (folder / "camera-parameters.json").write_text(json.dumps(content))
    return folder / "camera-parameters.json"


def as_human36m_xml(rig: Rig, folder: Path) -> Path:
    """The rig of subject S1; the others, and a fourth camera, are zero."""
    numbers = np.zeros(300)
    k1, k2, p1, p2, k3 = (*rig.lens, 0.0)[:5]
    for i, (rotation, t) in enumerate([*rig.poses(), rig.poses()[0]]):
        angles = Rotation.from_matrix(rotation).as_euler("XYZ")
        numbers[66 * i : 66 * i + 6] = [*angles, *(-rotation.T @ t * 1000)]
        inner = [rig.matrix[0, 0], rig.matrix[1, 1], rig.matrix[0, 2], rig.matrix[1, 2], k1, k2, k3, p1, p2]
        numbers[264 + 9 * i : 273 + 9 * i] = inner
    words = " ".join(repr(float(n)) for n in numbers)
    (folder / "metadata.xml").write_text(f"<?xml version='1.0'?><metadata><mapping/><w0>[{words}]</w0></metadata>")
    return folder / "metadata.xml"


def as_qualisys(rig: Rig, folder: Path) -> Path:
    elements = ""
    k1, k2, p1, p2, k3 = (*rig.lens, 0.0)[:5]
    for i, (rotation, t) in enumerate(rig.poses()):
        turn, centre = np.diag([1, -1, -1]) @ rotation, -rotation.T @ t * 1000
        entries = " ".join(f'r{r + 1}{c + 1}="{turn[r, c]!r}"' for r in range(3) for c in range(3)).replace(
            "np.float64", ""
        )
        elements += f'<camera serial="{100 + i}"><fov_video left="0" top="0" right="639" bottom="479"/><transform '
        elements += entries.replace("(", "").replace(")", "")
        elements += "".join(f' {axis}="{float(value)!r}"' for axis, value in zip("xyz", centre, strict=True)) + "/>"
        inner = {"focalLengthU": rig.matrix[0, 0] * 64, "focalLengthV": rig.matrix[1, 1] * 64}
        inner |= {"centerPointU": rig.matrix[0, 2] * 64, "centerPointV": rig.matrix[1, 2] * 64}
        inner |= {"radialDistortion1": k1, "radialDistortion2": k2, "radialDistortion3": k3}
        inner |= {"tangentalDistortion1": p1, "tangentalDistortion2": p2}
        elements += (
            "<intrinsic " + " ".join(f'{key}="{float(value)!r}"' for key, value in inner.items()) + "/></camera>"
        )
    (folder / "rig.qca.txt").write_text(
        f"<?xml version='1.0'?><calibration><cameras>{elements}</cameras></calibration>"
    )
    return folder / "rig.qca.txt"


def matlab_camera(rig: Rig, index: int) -> dict[str, np.ndarray]:
    rotation, t = rig.poses()[index]
    matrix = rig.matrix + np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]])
    k1, k2, p1, p2, *k3 = rig.lens
    inner = {"K": matrix.T, "RDistort": np.array([[k1, k2, *k3]]), "TDistort": np.array([[p1, p2]])}
    return inner | {"r": rotation.T, "t": 1000 * t[None]}


def as_dannce(rig: Rig, folder: Path) -> Path:
    for i in range(3):
        scipy.io.savemat(folder / f"hires_cam{i + 1}_params.mat", matlab_camera(rig, i), do_compression=i == 1)
    return folder


def as_dannce_project(rig: Rig, folder: Path) -> Path:
    params, names = np.empty((3, 1), object), np.empty((3, 1), object)
    for i in range(3):
        params[i, 0], names[i, 0] = matlab_camera(rig, i), f"Camera{i + 1}"
    scipy.io.savemat(folder / "label3d_dannce.mat", {"params": params, "camnames": names, "labelData": np.zeros(3)})
    return folder / "label3d_dannce.mat"


def as_dannce_hdf5(rig: Rig, folder: Path) -> Path:
    """As MATLAB writes version 7.3: arrays turned round, cells as references."""
    with h5py.File(folder / "label3d_dannce.mat", "w", userblock_size=512) as file:
        params = file.create_dataset("params", (1, 3), h5py.ref_dtype)
        names = file.create_dataset("camnames", (1, 3), h5py.ref_dtype)
        for i in range(3):
            group = file.create_group(f"#refs#/p{i}")
            for key, value in matlab_camera(rig, i).items():
                group[key] = value.T
            file[f"#refs#/n{i}"] = np.array([[ord(c)] for c in f"Camera{i + 1}"], np.uint16)
            file[f"#refs#/n{i}"].attrs["MATLAB_class"] = np.bytes_("char")
            params[0, i], names[0, i] = group.ref, file[f"#refs#/n{i}"].ref
    return folder / "label3d_dannce.mat"


WRITERS = {
    "toml": as_toml,
    "opencv": as_opencv,
    "colmap": as_colmap_text,
    "colmap binary": as_colmap_binary,
    "transforms": as_transforms,
    "kalibr": as_kalibr,
    "panoptic": as_panoptic,
    "human36m": as_human36m,
    "human36m xml": as_human36m_xml,
    "qualisys": as_qualisys,
    "dannce": as_dannce,
    "dannce project": as_dannce_project,
    "dannce hdf5": as_dannce_hdf5,
}
"""Layout -> what writes it; the first word is the format's name."""
UNITS = {"toml": "mm", "opencv": "m", "colmap": "m", "transforms": "m"}
"""Of the layouts that do not say it."""


@pytest.fixture(scope="session")
def make_rig():
    """A rig in OpenCV's conventions, with its lens as wanted."""
    return Rig


@pytest.fixture(scope="session")
def write_rig(tmp_path_factory):
    """Writes a rig in a layout; returns its path and the unit that has to be said."""

    def write(layout: str, rig: Rig | None = None) -> tuple[Path, str | None]:
        path = WRITERS[layout](rig or Rig(), tmp_path_factory.mktemp("rig"))
        return path, UNITS.get(layout.split()[0])

    return write
