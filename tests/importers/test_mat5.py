"""MATLAB's files of version 5, compared with what SciPy reads; damaged ones."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from dkp.errors import InputError
from dkp.importers.mat5 import Opaque, read_version_5
from dkp.importers.matfile import read_mat

MOUSE = Path(os.environ.get("DKP_DATA", "nowhere")) / "mouse"


def cell(*values):
    array = np.empty((len(values), 1), object)
    array[:, 0] = values
    return array


VALUES = {
    "double": np.arange(6.0).reshape(2, 3),
    "bytes": np.arange(3, dtype=np.uint8),
    "cube": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "yes": np.array([[True, False]]),
    "empty": np.zeros((0, 3)),
    "single": np.float32([[1.5]]),
    "large": np.array([[2**40]], np.int64),
}


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_what_scipy_reads(tmp_path, packed):
    scipy.io.savemat(tmp_path / "a.mat", VALUES, do_compression=packed)
    found, expected = read_version_5(tmp_path / "a.mat", list(VALUES)), scipy.io.loadmat(tmp_path / "a.mat")
    for name in VALUES:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].shape == expected[name].shape


@pytest.mark.parametrize("packed", [False, True])
def test_words_cells_and_structures(tmp_path, packed):
    inner = {"a": np.eye(2), "longer_name": "text", "cells": cell(1.0, "two")}
    content = {"word": "Käse", "cells": cell("one", inner, cell()), "one": inner, "other": np.zeros(3)}
    content["many"] = np.array([(1.0, 2.0), (3.0, 4.0)], [("x", object), ("y", object)])
    scipy.io.savemat(tmp_path / "a.mat", content, do_compression=packed)
    found = read_version_5(tmp_path / "a.mat", ["word", "cells", "one", "many"])
    assert found["word"] == "Käse"
    assert found["cells"][0] == "one"
    assert list(found["one"]) == ["a", "longer_name", "cells"]
    np.testing.assert_array_equal(found["one"]["a"], np.eye(2))
    assert found["cells"][1]["longer_name"] == "text"
    assert found["one"]["cells"][1] == "two"
    assert [[float(value.item()) for value in one.values()] for one in found["many"]] == [[1, 2], [3, 4]]


@pytest.mark.skipif(not MOUSE.is_dir(), reason="needs the folder mouse in DKP_DATA")
def test_files_of_matlab_are_what_scipy_reads():
    for path in sorted(MOUSE.rglob("*.mat")):
        expected = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")}
        for name, value in read_mat(path, list(expected)).items():
            np.testing.assert_array_equal(value, expected[name])


def test_lengths_are_not_believed(tmp_path):
    """SciPy 1.17 ends the process at the first of these: a small part that claims 17 bytes."""
    scipy.io.savemat(tmp_path / "a.mat", {"RDistort": np.ones((1, 2))})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    at = content.index(b"RDistort") + 8
    for tag in (b"\x09\x00\x11\x00", b"\x09\x00\x00\x00\xff\xff\xff\x7f", b"\x63\x00\x00\x00"):
        changed = content[:at] + tag + content[at + len(tag) :]
        (tmp_path / "a.mat").write_bytes(changed)
        with pytest.raises(InputError, match=r"a.mat is damaged \(.*expected a file of MATLAB"):
            read_version_5(tmp_path / "a.mat", ["RDistort"])


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files_give_values_or_one_sentence(tmp_path, packed):
    scipy.io.savemat(tmp_path / "a.mat", {**VALUES, "cells": cell("one", {"a": np.eye(3)})}, do_compression=packed)
    content = (tmp_path / "a.mat").read_bytes()
    rng, refused = random.Random(1), 0
    for _ in range(1500):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 3])):
            at = rng.randrange(126, len(changed))
            changed[at : at + rng.choice([0, 1, 4])] = rng.choice(
                [b"", b"\xff", b"\x00" * 4, bytes([rng.randrange(256)])]
            )
        (tmp_path / "a.mat").write_bytes(changed[: rng.choice([len(changed), rng.randrange(len(changed))])])
        try:
            found = read_version_5(tmp_path / "a.mat", ["double", "cells"])
        except InputError as error:
            refused += 1
            assert str(tmp_path / "a.mat") in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert isinstance(found["double"], np.ndarray | Opaque | str | list | dict)
    assert refused > 500
