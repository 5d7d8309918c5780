"""Metrics in two processes: one harness for all of them."""

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torchmetrics import Metric

from dkp.surface import Surface

Batch = tuple[Any, ...]


@pytest.fixture(scope="session")
def ball() -> Surface:
    """A sphere of radius 0.5 m, whose geodesics are known."""
    rings, sectors, radius = 20, 32, 0.5
    polar = np.pi * np.arange(1, rings) / rings
    turn = 2 * np.pi * np.arange(sectors) / sectors
    ring = np.stack(
        [
            np.outer(np.sin(polar), np.cos(turn)),
            np.outer(np.sin(polar), np.sin(turn)),
            np.outer(np.cos(polar), turn**0),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = radius * np.concatenate([[[0.0, 0.0, 1.0]], ring, [[0.0, 0.0, -1.0]]])
    here, faces = np.arange(sectors), []
    ahead = (here + 1) % sectors
    faces.append(np.stack([0 * here, 1 + here, 1 + ahead], axis=1))
    for row in range(rings - 2):
        top, low = 1 + row * sectors, 1 + (row + 1) * sectors
        faces.append(np.stack([top + here, low + here, low + ahead], axis=1))
        faces.append(np.stack([top + here, low + ahead, top + ahead], axis=1))
    last, end = 1 + (rings - 2) * sectors, len(vertices) - 1
    faces.append(np.stack([last + here, 0 * here + end, last + ahead], axis=1))
    joined = np.concatenate(faces)
    return Surface("ball", vertices, joined, np.ones(len(joined)), np.zeros((len(joined), 3, 2)), ["ball"])


def _work(rank: int, store: str, make: Callable[[], Metric], shares: Sequence[Sequence[Batch]], pipe: Any) -> None:
    try:
        torch.set_num_threads(1)
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
        )
        metric = make()
        for batch in shares[rank]:
            metric.update(*batch)
        pipe.send({name: value.tolist() for name, value in metric.compute().items()})
        distributed.barrier()
        distributed.destroy_process_group()
    except BaseException:
        pipe.send(traceback.format_exc())


@pytest.fixture
def assert_same_in_two_processes(tmp_path):
    """Asserts that a metric updated in turn by two gloo processes has the value of one process that saw everything.

    The batches are dealt out in turn, so that an odd number gives one process more; and once all to the first process,
    so that the other sees nothing.
    """
    context = multiprocessing.get_context("fork")

    def check(make: Callable[[], Metric], batches: Sequence[Batch]) -> None:
        assert len(batches) % 2 == 1, "an even number of batches does not test uneven shares"
        single = make()
        for batch in batches:
            single.update(*batch)
        expected = {name: value.tolist() for name, value in single.compute().items()}
        assert any(value == value for value in expected.values())
        for name, shares in {"dealt": (batches[0::2], batches[1::2]), "idle": (batches, [])}.items():
            pipes, processes = [], []
            for rank in range(2):
                here, there = context.Pipe(duplex=False)
                arguments = (rank, str(tmp_path / name), make, shares, there)
                process = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                pipes.append(here)
                processes.append(process)
            for process, pipe in zip(processes, pipes, strict=True):
                found = pipe.recv() if pipe.poll(90) else "no answer within 90 s"
                assert isinstance(found, dict), found
                assert found == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True), name
                process.join(10)

    return check
