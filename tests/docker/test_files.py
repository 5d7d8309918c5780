"""The files of the container: what they promise, and the commands that the script gives to an engine."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(instruction, its words), with continued lines put together and comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def test_the_image_has_no_root_and_no_health_check():
    last = instructions()
    users = [words for name, words in last if name == "USER"]
    assert users == ["${UID}"]
    assert ("ARG", "UID=1000") in last
    assert "HEALTHCHECK" not in {name for name, _ in last}


def test_the_versions_are_the_tested_ones():
    (install,) = [words for name, words in instructions() if name == "RUN" and "--requirements" in words]
    assert "--constraints constraints.txt" in install
    tools = [words for name, words in instructions() if name == "RUN" and "pip install" in words and "uv==" in words]
    assert len(tools) == 1
    (version,) = [
        words.removeprefix("UV=") for name, words in instructions() if name == "ARG" and words.startswith("UV=")
    ]
    assert f"uv=={version}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_a_change_of_the_code_makes_small_layers_only():
    """Code is copied after the environment, whose layer depends on two files alone."""
    stages = DOCKERFILE.split("\nFROM ")
    dependencies = next(stage for stage in stages if "AS dependencies" in stage)
    assert re.findall(r"^COPY (.*)$", dependencies, re.MULTILINE) == ["pyproject.toml constraints.txt ./"]
    final = stages[-1]
    assert final.index("COPY --from=dependencies /opt/venv") < final.index("dkp dkp\n")


def test_everything_that_is_copied_is_let_in_and_nothing_else():
    let_in = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert let_in[0] == "*"
    copied = set()
    for name, words in instructions():
        if name == "COPY" and "--from" not in words:
            copied |= {word for word in words.split()[:-1] if not word.startswith("--")}
    assert copied == {line[1:] for line in let_in if line.startswith("!")}
    assert all((ROOT / path).exists() for path in copied)


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(ROOT / "docker" / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_services_mount_captures_runs_and_data_and_reserve_graphics_cards():
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    assert services["train"]["command"] == ["make", "train"]
    targets = [
        volume.rsplit(":", 1)[0] if volume.endswith(":ro") else volume for volume in services["train"]["volumes"]
    ]
    assert {target.rsplit(":", 1)[1] for target in targets} == {"/dkp/runs", "/dkp/captures", "/data"}
    assert services["train"]["cap_drop"] == ["ALL"]
    gpu = services["train-gpu"]
    assert gpu["extends"] == "train"
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert (ROOT / "docker" / gpu.get("build", {}).get("context", "..") / "pyproject.toml").exists()


ENGINE = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done >> "$(dirname "$0")/asked"
echo ---- >> "$(dirname "$0")/asked"
[ "$1" = from ] && echo made-container
case "$*" in *fails*) exit 3 ;; esac
exit 0
"""


@pytest.fixture
def ask(tmp_path):
    """Runs docker/run.sh with a stand-in of an engine; returns its status and the calls of the engine."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "docker", checkout / "docker")

    def ask(name, *words, **environment):
        engine = tmp_path / name
        engine.write_text(ENGINE)
        engine.chmod(0o755)
        (tmp_path / "asked").unlink(missing_ok=True)
        script = checkout / "docker" / "run.sh"
        search = {"PATH": "/usr/local/bin:/usr/bin:/bin", **environment}
        done = subprocess.run(["bash", script, engine, "dkp:cpu", *words], env=search, capture_output=True, text=True)
        calls = (tmp_path / "asked").read_text().split("----\n")[:-1]
        return done.returncode, [call.splitlines() for call in calls]

    return ask


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_container_is_run_without_rights_and_with_its_folders(engine, ask, tmp_path):
    status, (call,) = ask(engine, "make", "train", "ARGS=a b", GPUS="all", DKP_DATA="/some/data")
    assert status == 0
    checkout = tmp_path / "checkout"
    assert call[:2] == ["run", "--rm"]
    assert {"--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(call)
    assert f"{checkout}/runs:/dkp/runs" in call
    assert f"{checkout}/captures:/dkp/captures" in call
    assert "/some/data:/data:ro" in call
    assert call[call.index("--gpus") + 1] == "all"
    assert call[-4:] == ["dkp:cpu", "make", "train", "ARGS=a b"]
    assert (checkout / "runs").is_dir()


def test_buildah_makes_a_container_and_takes_it_away(ask):
    status, calls = ask("buildah", "dkp", "--help")
    assert status == 0
    assert [call[0] for call in calls] == ["from", "run", "rm"]
    assert calls[1][-4:] == ["made-container", "--", "dkp", "--help"]
    assert calls[2] == ["rm", "made-container"]


@pytest.mark.parametrize("engine", ["docker", "buildah"])
def test_the_status_of_the_command_is_that_of_the_script(engine, ask):
    assert ask(engine, "fails")[0] == 3
