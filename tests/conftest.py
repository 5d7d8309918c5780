"""Tiny captures of a coloured plane on a surface of their own, and a stand-in for the processes of stages."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dkp.captures import CaptureWriter, DenseLabel
from dkp.geometry import Camera, pixel_grid
from dkp.surface import Surface

from .scene import Scene

if "PYTEST_XDIST_WORKER" in os.environ:  # tests run beside each other: each takes one core, and so does what it starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {usable[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(usable)]})

# Some tests fork, and threads of OpenMP do not live through a fork: a pool must never begin. Those of tests/reliability
# do not mind: they start processes from a server that has done nothing yet.
torch.set_num_threads(1)

SIZE, SIDE = 32, 0.4


def camera_at(angle: float) -> Camera:
    """A camera at one metre from the middle of the plane, turned about its vertical [rad]."""
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], dtype=torch.float64)
    centre = torch.tensor([SIDE / 2, SIDE / 2, 0.0], dtype=torch.float64)
    return Camera.create(
        torch.tensor([[60.0, 0, SIZE / 2], [0, 60.0, SIZE / 2], [0, 0, 1]], dtype=torch.float64),
        rotation=rotation,
        translation=torch.tensor([0, 0, 1.0], dtype=torch.float64) - rotation @ centre,
        image_size=torch.tensor([SIZE, SIZE], dtype=torch.float64),
    )


def write_plane(
    path: Path, *, side: float = SIDE, frames: int = 8, split: bool = True, labels: bool = True, seed: int = 0
) -> Path:
    """A capture of a plane in three views; the last two instants are for testing."""
    surface = Surface.plane(side, side, side / 8)
    cameras = {name: camera_at(angle) for name, angle in (("a", -0.5), ("b", 0.0), ("c", 0.5))}
    names = [f"f{index}" for index in range(frames)]
    splits = {"train": names[:-2], "test": names[-2:]} if split else {}
    rng = np.random.default_rng(seed)
    with CaptureWriter(path, name=path.name, surface=surface, cameras=cameras, splits=splits) as writer:
        for time, frame in enumerate(names):
            light = rng.uniform(0.6, 1.0)
            for name, camera in cameras.items():
                pixels = pixel_grid(SIZE, SIZE, dtype=torch.float64).reshape(-1, 2)
                near, far = (camera.unproject(pixels, torch.full((len(pixels),), z)).numpy() for z in (0.5, 2.0))
                points = near + (near[:, 2] / (near[:, 2] - far[:, 2]))[:, None] * (far - near)
                inside = ((points[:, :2] >= 0) & (points[:, :2] <= side)).all(1)
                face, barycentric, _ = surface.locate(points)
                label = DenseLabel(
                    np.where(inside, face, -1).astype(np.int32).reshape(SIZE, SIZE),
                    np.where(inside[:, None], barycentric, 0).astype(np.float32).reshape(SIZE, SIZE, 3),
                )
                colour = np.stack([points[:, 0] / side, points[:, 1] / side, np.full(len(points), 0.8)], -1)
                image = np.where(inside[:, None], light * colour, 0.05).clip(0, 1).reshape(SIZE, SIZE, 3)
                writer.add_view(
                    frame,
                    name,
                    (255 * image).astype(np.uint8),
                    time=time,
                    label=label if labels else None,
                    mask=inside.reshape(SIZE, SIZE),
                )
    return path


@pytest.fixture(scope="session")
def planes(tmp_path_factory) -> Path:
    """A folder with the captures `labelled` and `mine` of the same plane, and `wide`, an undivided one, of another."""
    folder = tmp_path_factory.mktemp("planes")
    write_plane(folder / "labelled", seed=1)
    write_plane(folder / "mine")
    write_plane(folder / "wide", side=0.5, frames=2, split=False, labels=False)
    return folder


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """A folder with captures of blank images on the human surface: `masked`, `bare`, and `joints` with one joint."""
    folder = tmp_path_factory.mktemp("people")
    cameras = {"a": camera_at(-0.5), "b": camera_at(0.5)}
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    for name in ("masked", "bare", "joints"):
        with CaptureWriter(folder / name, name=name, surface="human", cameras=cameras, splits={}) as writer:
            for camera in cameras:
                writer.add_view(
                    "f0",
                    camera,
                    blank,
                    time=0,
                    mask=np.ones((SIZE, SIZE), bool) if name == "masked" else None,
                    joints={"nose": (16.0, 16.0, 1.0)} if name == "joints" else None,
                )
    return folder


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    """Builds a scene with other angles, sizes or lenses."""
    return Scene


STAND_IN = """#!{python}
import json, os, sys, time
from pathlib import Path
words = dict(word[2:].split("=", 1) for word in sys.argv[4:] if "=" in word)
kind, log = sys.argv[3], Path({log!r})
with log.open("a") as stream:
    stream.write(f"begin {{kind}} {{words.get('root', '')}} {{os.environ['OMP_NUM_THREADS']}}\\n")
time.sleep({seconds})
if kind == "fit":
    configs = [Path(word).stem for word in sys.argv if word.startswith("--config=")]
    run = Path(words["root"]) / words.get("name", configs[0] if configs else "")
    run.mkdir(parents=True)
    if {broken!r} in str(run):
        print("all is lost", file=sys.stderr)
        raise SystemExit(3)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    (run / "config.yaml").write_text("trainer: {{max_steps: 60}}")
elif kind == "resume":
    (Path(sys.argv[4]) / "checkpoints" / "last.ckpt").touch()
elif kind == "pseudo-label":
    Path(words["out"]).mkdir()
else:
    folder = Path(words["ckpt_path"]).parents[1] / "test"
    folder.mkdir()
    metrics = {{"test/iou": 0.5, "test/trivial/iou": None, "test/pair/a-b/epipolar_median_px": 1.0}}
    (folder / "metrics.json").write_text(json.dumps({{"metrics": metrics}}))
with log.open("a") as stream:
    stream.write(f"end {{kind}} {{words.get('root', '')}}\\n")
"""


@pytest.fixture
def log(tmp_path) -> Path:
    """What the stand-in has begun and ended."""
    return tmp_path / "log.txt"


@pytest.fixture
def fake(tmp_path, monkeypatch, log):
    """Makes `dkp` a script that writes what the commands write; some of its fits may fail."""
    python, script = sys.executable, tmp_path / "python"

    def make(broken="no such folder", seconds=0.0):
        script.write_text(STAND_IN.format(python=python, log=str(log), broken=broken, seconds=seconds))
        script.chmod(0o755)

    make()
    monkeypatch.setattr("dkp.pipeline.runner.sys.executable", str(script))
    return make
