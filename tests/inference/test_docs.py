"""The scripts of docs/examples run."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dkp.inference.export import export

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run(name: str, *words: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """What predict_picture.py draws, and what it says."""
    path = tmp_path_factory.mktemp("picture") / "people.png"
    return path, run("predict_picture.py", path, 160)


def test_the_picture_is_made_and_the_fields_are_near_the_truth(picture):
    path, said = picture
    image = cv2.imread(str(path))
    assert image.shape == (320, 640, 3)
    off = [float(line.split("off by ")[1].split(" cm")[0]) for line in said.splitlines()]
    assert len(off) == 4
    assert np.median(off) < 15


def test_the_example_looks_a_pixel_up(picture, tmp_path):
    crop = tmp_path / "crop.png"
    cv2.imwrite(str(crop), cv2.imread(str(picture[0]))[:160, :160])
    said = [run("look_up.py", crop, *pixel) for pixel in ((54, 75), (1, 1))]
    assert "shows vertex" in said[0]
    assert "shows no body" in said[1]


def test_the_example_needs_only_onnx_runtime(picture, tmp_path):
    pytest.importorskip("onnxruntime")
    export("human-small", out=tmp_path / "human.onnx")
    crop = tmp_path / "crop.png"
    cv2.imwrite(str(crop), cv2.imread(str(picture[0]))[:160, :160])
    assert "cells show the human" in run("run_onnx.py", tmp_path / "human.onnx", crop)
    text = (EXAMPLES / "run_onnx.py").read_text()
    assert "import dkp" not in text
    assert "torch" not in text.split('"""')[2]
