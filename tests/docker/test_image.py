"""The image, really built and really run, where an engine and a base image are named:

    DKP_IMAGE_BASE=NAME     base image, such as python:3.11-slim-bookworm
    DKP_IMAGE_ENGINE=NAME   docker, podman or buildah (the default)
    DKP_IMAGE_OPTIONS=...   further options of the engine's `build`
    DKP_IMAGE_LOG=FILE      keeps what was printed

With buildah, BUILDAH_ISOLATION=chroot needs neither a daemon nor namespaces.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = os.environ.get("DKP_IMAGE_ENGINE", "buildah")
BASE = os.environ.get("DKP_IMAGE_BASE")
IMAGE = "dkp:test"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.skipif(not BASE or shutil.which(ENGINE) is None, reason="DKP_IMAGE_BASE names no base image"),
]
SELECTION = "tests/geometry tests/sweep/test_plan.py tests/losses/test_multiview.py tests/captures/test_manifest.py"


@pytest.fixture(scope="module")
def log():
    """Keeps commands and what they print."""
    lines = []
    yield lines.append
    if os.environ.get("DKP_IMAGE_LOG"):
        Path(os.environ["DKP_IMAGE_LOG"]).write_text("".join(lines))


@pytest.fixture(scope="module")
def image(log):
    options = f"--build-arg BASE={BASE} {os.environ.get('DKP_IMAGE_OPTIONS', '')}"
    words = ["make", "docker-build", f"ENGINE={ENGINE}", "TORCH=cuda", f"IMAGE={IMAGE}", f"ARGS={options}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    sizes = subprocess.run([ENGINE, "images", IMAGE], capture_output=True, text=True, check=True)
    log(f"$ make docker-build ENGINE={ENGINE} TORCH=cuda IMAGE={IMAGE}\n$ {ENGINE} images {IMAGE}\n{sizes.stdout}")
    return IMAGE


@pytest.fixture(scope="module")
def run(image, log, tmp_path_factory):
    """Runs a command in the image as `make docker-train` does; runs/ and captures/ are in a folder of the test."""
    checkout = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "docker", checkout / "docker")

    def run(*words):
        script = ["bash", str(checkout / "docker" / "run.sh"), ENGINE, image, *words]
        environment = {name: value for name, value in os.environ.items() if name != "DKP_DATA"}
        done = subprocess.run(script, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        log(f"$ docker/run.sh {ENGINE} {image} {' '.join(words)}\n{done.stdout}")
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    run.checkout = checkout
    return run


def test_commands_answer_and_are_not_root(run):
    assert "usage: dkp COMMAND" in run("dkp", "--help")
    assert "make train" in run("make", "help")
    assert run("id", "-u").strip() != "0"
    assert run("python", "-c", "import dkp; print(dkp.__file__)").strip() == "/dkp/dkp/__init__.py"


def test_the_environment_is_complete(run):
    """`make` has nothing to install: its targets are those of a checkout."""
    assert "pip install" not in run("make", "--dry-run", "train", "test")


def test_a_detector_is_trained_on_rendered_captures(run):
    few = ["--subjects", "2", "--frames", "4", "--cameras", "3", "--size", "64"]
    for name, further in (("source", []), ("target", ["--domain", "target", "--seed", "1"])):
        run("dkp", "synthesize", f"captures/{name}", *few, *further)
    words = [word for file in ("people/teacher", "debug/fast") for word in ("--config", f"configs/{file}.yaml")]
    words += ["--data.val", "captures/target#test"]
    assert "val/geodesic_median_cm" in run("dkp", "fit", *words, "--trainer.enable_progress_bar=false")
    assert (run.checkout / "runs" / "teacher" / "checkpoints" / "last.ckpt").is_file()


def test_tests_pass_inside(run):
    assert " passed" in run("make", "test", f"ARGS=-q -p no:cacheprovider {SELECTION}")
