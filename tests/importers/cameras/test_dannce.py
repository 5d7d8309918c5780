"""Cameras of DANNCE: a real project, and files that are not what they should be."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from dkp.errors import InputError
from dkp.importers import mat5
from dkp.importers.cameras.registry import read_cameras

MOUSE = Path(os.environ.get("DKP_DATA", "nowhere")) / "mouse"


@pytest.mark.skipif(not MOUSE.is_dir(), reason="needs the folder mouse in DKP_DATA")
def test_the_labels_of_a_real_project_are_reprojections_of_its_points():
    cameras = read_cameras(MOUSE / "calibration")
    assert list(cameras) == ["cam1", "cam2", "cam3", "cam4", "cam5"]
    for name, camera in cameras.items():
        labels = scipy.io.loadmat(MOUSE / "labels" / f"{name}_labels.mat")
        points = torch.from_numpy(labels["data_3d"].reshape(-1, 3) / 1000)
        pixels, depth = camera.project(points)
        known = torch.isfinite(points).all(1).numpy()
        assert known.sum() > 200
        assert (depth[known] > 0.5).all()
        expected = labels["data_2d"].reshape(-1, 2)[known] - 0.5  # MATLAB's first pixel is at 1
        np.testing.assert_allclose(pixels.numpy()[known], expected, atol=1e-6, rtol=0)


def params(folder, **changes):
    values = {"K": np.array([[500.0, 0, 0], [0, 500, 0], [320, 240, 1]]), "RDistort": np.zeros((1, 2))}
    values |= {"TDistort": np.zeros((1, 2), np.uint8), "r": np.eye(3), "t": np.zeros((1, 3)), **changes}
    for name in ("cam1", "cam2", "cam10"):
        scipy.io.savemat(folder / f"{name}_params.mat", {key: one for key, one in values.items() if one is not None})
    return folder


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"K": np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])},
            r"cam1_params.mat: K transposed is .*transp",
        ),
        ({"K": np.full((3, 3), np.nan)}, r"K is .*, expected 3x3 finite numbers"),
        ({"K": "text"}, "K is no array of numbers"),
        ({"K": np.array([{"a": 1}], object)}, "K is no array of numbers"),
        ({"r": 2 * np.eye(3)}, "r has determinant 8"),
        ({"r": None}, "has no array 'r', expected K, RDistort, TDistort, r, t"),
        ({"t": np.zeros((1, 2))}, "t is .*, expected 3 finite numbers"),
        ({"RDistort": np.zeros((1, 4))}, r"RDistort and TDistort are .*, expected k1 k2 .k3. and p1 p2"),
    ],
)
def test_bad_arrays_are_named(changes, match, tmp_path):
    with pytest.raises(InputError, match=match):
        read_cameras(params(tmp_path, **changes))


def test_names_are_in_the_order_of_their_numbers(tmp_path):
    assert list(read_cameras(params(tmp_path) / "cam2_params.mat")) == ["cam1", "cam2", "cam10"]


@pytest.mark.parametrize("kind", [3, 16, 17])
def test_objects_and_functions_are_not_read(kind, tmp_path):
    """The class of an array in the file is made that of an object, of a function, of something opaque."""
    path = params(tmp_path) / "cam1_params.mat"
    content = bytearray(path.read_bytes())
    assert content[144] == 6  # of the first array, K: double
    content[144] = kind
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cam1_params\.mat"):
        read_cameras(tmp_path)


def test_a_part_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mat5, "_LARGEST", 2**20)
    params(tmp_path)
    content = (tmp_path / "cam1_params.mat").read_bytes()
    body = zlib.compress(bytes(2**21))
    (tmp_path / "cam1_params.mat").write_bytes(content[:128] + struct.pack("<II", 15, len(body)) + body)
    with pytest.raises(InputError, match=r"is damaged .a part unpacks to more than 1048576 bytes"):
        read_cameras(tmp_path)
