"""A real `wandb sweep` and `wandb agent`, with a stand-in of their server on loopback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dkp.config_files import run_config

from .stand_in import ENTITY, PROJECT, SWEEP, StandIn

pytest.importorskip("wandb")
KEY = "0123456789abcdef" * 2 + "deadbeef"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_trials_of_a_sweep_of_weights_and_biases(workspace, write_sweep, tmp_path):
    file = write_sweep(
        further=["--trainer.logger.init_args.offline=false", "--name=wandb-trial"],
        parameters={"model.terms.multiview.weight": {"values": [0.5, 4.0]}, "sigma": {"values": [0.07]}},
    )
    with StandIn() as server:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | {
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": KEY,
            "WANDB_DIR": str(tmp_path),
            "WANDB_CONFIG_DIR": str(tmp_path),
            "WANDB_CACHE_DIR": str(tmp_path),
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_CONSOLE": "off",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        output = ""
        for words in (["sweep", str(file)], ["agent", f"{ENTITY}/{PROJECT}/{SWEEP}"]):
            command = [sys.executable, "-m", "wandb", *words]
            output += run_to_end(command, tmp_path, environment)

    assert server.sweep == {**yaml.safe_load(file.read_text()), "parameters": server.sweep["parameters"]}
    folders = sorted((workspace / "runs").glob("wandb-trial*"), key=lambda path: (len(path.name), path.name))
    assert len(folders) == len(server.runs) == 2
    for run, folder, weight in zip(("run0", "run1"), folders, (0.5, 4.0), strict=True):
        # The sweep's values have reached the run, and the server knows the whole configuration ...
        config = run_config(folder / "config.yaml")
        assert config["model"]["init_args"]["terms"]["multiview"]["init_args"]["weight"] == weight
        assert config["model"]["init_args"]["terms"]["multiview"]["init_args"]["sigma"] == 0.07
        assert server.runs[run]["model.terms.multiview.weight"]["value"] == weight
        assert server.runs[run]["model"]["value"]["init_args"]["terms"]["multiview"]["init_args"]["weight"] == weight
        # ... and the metric has come back to the server.
        metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
        values = [line["val/geodesic_median_cm"] for line in server.history[run] if "val/geodesic_median_cm" in line]
        assert len(values) == 2
        assert values[-1] == pytest.approx(metrics["val/geodesic_median_cm"])
        assert server.exits[run] == 0
    assert_nowhere(KEY, output, tmp_path, *folders)


def run_to_end(command, folder, environment) -> str:
    """What a command prints, which must end well; its own processes do not outlive it."""
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=540)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, output[-3000:]
    return output


def assert_nowhere(key, output, *folders):
    """A key is neither printed nor in any file."""
    assert key not in output
    for folder in folders:
        for path in folder.rglob("*"):
            assert not path.is_file() or key.encode() not in path.read_bytes(), path
