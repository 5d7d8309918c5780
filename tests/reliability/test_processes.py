"""Several processes, on one node or on two: the numbers of one process, and an end where one of them dies."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning.utilities import rank_zero_only

from dkp.cli import main

from ..conftest import write_plane
from .conftest import ADAPTED, CONFIGS, at_end_of_step, finish, small_run, start

FORKED = ["--trainer.devices", "2", "--trainer.strategy", "ddp_fork_find_unused_parameters_true"]
NODES = ["--trainer.devices", "1", "--trainer.num_nodes", "2", "--trainer.strategy", "ddp_find_unused_parameters_true"]


def options(workspace, name, *more):
    words = [
        *small_run(workspace, *ADAPTED, "debug/fast"),
        "--name",
        name,
        "--model.teacher",
        "null",
        "--data.num_workers",
        "0",
    ]
    words += ["--model.detector.init_args.norm", "group", "--trainer.accelerator", "cpu"]
    words += ["--trainer.sync_batchnorm", "true", "--trainer.devices", "2"]
    words += ["--trainer.strategy", "ddp_find_unused_parameters_true"]
    return [*words, "--trainer.log_every_n_steps", "1", *more]


def free_port() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def torchrun(rank: int, port: str) -> dict[str, str]:
    """What torchrun tells the process of a node when two nodes have one process each."""
    return {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2",
            "RANK": str(rank), "LOCAL_RANK": "0", "GROUP_RANK": str(rank), "LOCAL_WORLD_SIZE": "1"}  # fmt: skip


def slurm(rank: int, port: str) -> dict[str, str]:
    """What srun tells the process of a node: srun --nodes 2 --ntasks-per-node 1."""
    return {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "dkp",
            "SLURM_JOB_ID": port, "SLURM_NODELIST": "127.0.0.1", "SLURM_PROCID": str(rank), "SLURM_LOCALID": "0",
            "SLURM_NODEID": str(rank), "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}  # fmt: skip


def node(environment, words, die_at=None):
    """A process of a run over nodes; killed at a step, if one is given."""
    os.environ.update(environment)
    rank_zero_only.rank = int(environment.get("RANK", environment.get("SLURM_PROCID", 0)))  # read at import otherwise
    at_end_of_step(die_at)
    main(words)


def on_two_nodes(cluster, words, log: Path) -> None:
    port = free_port()
    processes = [start(node, cluster(rank, port), words, log=log.with_suffix(f".{rank}")) for rank in range(2)]
    for rank, process in enumerate(processes):
        assert finish(process) == 0, log.with_suffix(f".{rank}").read_text()[-3000:]


def metrics(run: Path) -> dict[str, float]:
    values = json.loads((run / "metrics.json").read_text())["metrics"]
    return {name: math.nan if value is None else value for name, value in values.items()}


def require_same(found, expected, tolerance=1e-4):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=tolerance, abs=1e-6, nan_ok=True), name


def is_shared(name: str) -> bool:
    """Whether a value of training is that of all processes: the loss, its terms, their weights and shares."""
    return name.count("/") == 1 or name.endswith(("/weight", "/valid_share"))


def weights(run: Path) -> torch.Tensor:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.flatten() for name, value in state.items() if name.startswith("detector.")])


@pytest.fixture(scope="module")
def alone(workspace):
    """A run of one process with batches of two instants and four labelled views."""
    more = ["--data.unlabelled_batch_size", "2", "--data.labelled_batch_size", "4", "--trainer.devices", "1"]
    words = options(workspace, "alone", *more, "--trainer.strategy", "auto")
    assert finish(start(main, ["fit", *words], log=workspace / "alone.log")) == 0
    return workspace / "runs" / "alone"


HALF = ["--data.unlabelled_batch_size", "1", "--data.labelled_batch_size", "2"]


@pytest.mark.parametrize("how", ["two processes", "torchrun on two nodes", "srun on two nodes"])
def test_training_over_processes_is_training_with_their_batches_together(workspace, alone, how):
    name = how.replace(" ", "-")
    log = workspace / f"{name}.log"
    if how == "two processes":
        words = ["fit", *options(workspace, name, *HALF, *FORKED)]
        assert finish(start(main, words, log=log)) == 0, log.read_text()[-3000:]
    else:
        on_two_nodes(torchrun if "torchrun" in how else slurm, ["fit", *options(workspace, name, *HALF, *NODES)], log)
    run = workspace / "runs" / name
    assert not (workspace / "runs" / f"{name}-2").exists()
    assert (weights(run) - weights(alone)).norm() < 1e-4 * weights(alone).norm()
    found, expected = (
        {name: value for name, value in metrics(folder).items() if not name.startswith("train/") or is_shared(name)}
        for folder in (run, alone)
    )
    # Which cells match best jumps with the last bit of a coordinate; pairs and percentiles rest on few matches.
    smooth = [name for name in expected if "epipolar" not in name and "matched" not in name and "/pair/" not in name]
    require_same({name: found[name] for name in smooth}, {name: expected[name] for name in smooth}, 1e-3)
    assert found["val/epipolar_mean_px"] == pytest.approx(expected["val/epipolar_mean_px"], rel=0.02)
    assert found.keys() == expected.keys()
    rows = [(run / "metrics.csv").read_text().splitlines() for run in (run, alone)]
    assert len(rows[0]) == len(rows[1])


@pytest.fixture(scope="module")
def small(workspace):
    """A capture with one instant to train on and two to test on."""
    write_plane(workspace / "small", frames=3)
    return workspace / "small"


def validate_test_and_predict(words):
    for command in ("validate", "test", "predict"):
        main([command, *words])


@pytest.mark.parametrize("place", ["small#train", "small#", "plane#"], ids=["1 instant", "3 instants", "8 instants"])
def test_evaluation_of_sets_of_any_size(workspace, alone, small, place):
    """Fewer instants than processes, one more, and as many for each; also predictions, which are the same files."""
    data, checkpoint = str(workspace / place), str(alone / "checkpoints" / "last.ckpt")
    title = place.replace("#", "-")
    more = ["--data.test", data, "--data.val", data, "--data.eval_batch_size", "1", "--ckpt_path", checkpoint]
    more += ["--trainer.limit_test_batches", "1.0", "--trainer.limit_val_batches", "1.0"]
    more += ["--model.metrics.reconstruction", "true"]

    names = [f"{title}-one", f"{title}-two"]
    strategies = [["--trainer.devices", "1", "--trainer.strategy", "auto"], FORKED]
    for name, strategy in zip(names, strategies, strict=True):
        log = workspace / f"{name}.log"
        words = options(workspace, name, *more, *strategy)
        assert finish(start(validate_test_and_predict, words, log=log)) == 0, log.read_text()[-3000:]
    one, two = (workspace / "runs" / name for name in names)
    for command in ("validate", "test"):
        require_same(metrics(two / command), metrics(one / command))
    files = [sorted(path.relative_to(run) for path in run.glob("predict/predictions/*/*.npz")) for run in (one, two)]
    assert files[0] == files[1]
    assert len(files[0]) == 3 * {"small#train": 1, "small#": 3, "plane#": 8}[place]
    for path in files[0]:
        with np.load(one / path) as expected, np.load(two / path) as found:
            for key in expected:
                np.testing.assert_allclose(found[key], expected[key], atol=1e-5, err_msg=f"{path} {key}")


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_run_with_a_reason(workspace, victim):
    port, name = free_port(), f"victim{victim}"
    words = ["fit", *options(workspace, name, *HALF, *NODES, "--trainer.max_steps", "100000")]
    words += ["--model.detector.init_args.norm", "batch"]
    logs = [workspace / f"{name}.{rank}" for rank in range(2)]
    processes = [
        start(node, torchrun(rank, port), words, 5 if rank == victim else None, log=logs[rank]) for rank in range(2)
    ]
    assert finish(processes[victim]) == -signal.SIGKILL
    begin = time.monotonic()
    assert finish(processes[1 - victim], timeout=60) == 1
    assert time.monotonic() - begin < 60
    text = logs[1 - victim].read_text()
    assert f"dkp: error: process {1 - victim} of 2 stopped at step" in text
    assert "because another process of the run has ended" in text
    if victim == 1:
        assert "trainer.sync_batchnorm is for GPUs" in text


# The real launchers, which start Python anew for every process


@pytest.mark.skipif("DKP_LAUNCHERS" not in os.environ, reason="DKP_LAUNCHERS is not set: start torchrun and ddp anew")
def test_torchrun_over_two_nodes(workspace, alone):
    port, environment = free_port(), os.environ | {"PYTHONPATH": str(CONFIGS.parent), "OMP_NUM_THREADS": "1"}
    words = ["-m", "dkp", "fit", *options(workspace, "launched", *HALF, *NODES)]
    nodes = []
    for rank in range(2):
        launcher = ["--nnodes", "2", "--node_rank", str(rank), "--nproc_per_node", "1"]
        launcher += ["--master_addr", "127.0.0.1", "--master_port", port]
        command = [sys.executable, "-m", "torch.distributed.run", *launcher, *words]
        with (workspace / f"launched.{rank}").open("w") as log:
            nodes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    for rank, process in enumerate(nodes):
        assert process.wait(900) == 0, (workspace / f"launched.{rank}").read_text()[-3000:]
    difference = weights(workspace / "runs" / "launched") - weights(alone)
    assert difference.norm() < 1e-4 * weights(alone).norm()


@pytest.mark.skipif("DKP_LAUNCHERS" not in os.environ, reason="DKP_LAUNCHERS is not set: start torchrun and ddp anew")
def test_a_killed_process_of_a_run_on_one_machine(workspace):
    """`dkp fit` starts the second process itself."""
    log = workspace / "started.log"
    words = ["fit", *options(workspace, "started", *HALF), "--trainer.devices", "2", "--trainer.max_steps", "100000"]
    words += ["--trainer.strategy", "ddp_find_unused_parameters_true", "--trainer.enable_model_summary", "false"]
    environment = os.environ | {"PYTHONPATH": str(CONFIGS.parent), "OMP_NUM_THREADS": "1"}
    with log.open("w") as stream:
        first = subprocess.Popen([sys.executable, "-m", "dkp", *words], stdout=stream, stderr=stream, env=environment)
    metrics_file, children = workspace / "runs" / "started" / "metrics.csv", Path(f"/proc/{first.pid}/task")
    end = time.monotonic() + 600
    while not (workspace / "runs" / "started" / "checkpoints" / "last.ckpt").is_file() and time.monotonic() < end:
        time.sleep(0.5)
    assert metrics_file.is_file()
    started = {int(word) for task in children.iterdir() for word in (task / "children").read_text().split()}
    (second,) = [pid for pid in started if "fit" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]
    os.kill(second, signal.SIGKILL)
    begin = time.monotonic()
    assert first.wait(60) != 0
    print(f"\nended {time.monotonic() - begin:.1f} s after the kill with status {first.returncode}")
    text = log.read_text()
    assert "another process of the run has ended" in text or "terminated with code -9" in text
