"""The scripts of docs/examples run."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dkp.inference.export import export
from dkp.synthetic.synthesis import synthesize

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


def test_the_example_finds_a_pixel_in_space(tmp_path):
    capture = synthesize(str(tmp_path / "two"), subjects=1, frames=2, cameras=4, clip=2, seed=3, workers=1)
    truth = capture.truth(capture.views[0].frame)
    pixel, _ = capture.camera(capture.views[0]).project(torch.from_numpy(truth).mean(0, keepdim=True))
    said = run("pixel_to_space.py", capture.path, capture.views[0].camera, *pixel[0].tolist())
    place = np.array(said.split("[")[1].split("]")[0].split(), float)
    assert np.linalg.norm(truth - place, axis=1).min() < 0.2
    assert "shows no body" in run("pixel_to_space.py", capture.path, capture.views[0].camera, 1, 1)


def test_the_example_needs_only_onnx_runtime(picture, tmp_path):
    pytest.importorskip("onnxruntime")
    export("human-small", out=tmp_path / "human.onnx")
    crop = tmp_path / "crop.png"
    cv2.imwrite(str(crop), cv2.imread(str(picture[0]))[:160, :160])
    assert "cells show the human" in run("run_onnx.py", tmp_path / "human.onnx", crop)
    text = (EXAMPLES / "run_onnx.py").read_text()
    assert "import dkp" not in text
    assert "torch" not in text.split('"""')[2]
