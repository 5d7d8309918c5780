"""Forward and backward pass of the expected epipolar distance, every engine beside the others."""

import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from dkp.bench.memory import peak_memory
from dkp.bench.problem import Problem
from dkp.bench.timing import take_turns
from dkp.errors import InputError
from dkp.losses.engines import Engine, compiling_refused, find_engine

ENGINES: tuple[Engine, ...] = ("dense", "tiled", "fused")
LIMITS: dict[Engine, int] = {"dense": 2**26, "tiled": 2**28}
"""Pairs of cells up to which an engine is measured: "dense" would need tens of gigabytes for more, "tiled" minutes."""

BUDGET = 2.0
"""An engine is left out of further rounds at a size once it has taken so much time [s]."""

WARM_CELLS = 512


def bench_loss(sizes: Sequence[int], repeats: int = 5, pairs: int = 1) -> dict[str, Any]:
    """Measure time, error and, for one pair, peak memory of each engine at each size.

    Returns:
        "first_call_seconds" of each engine (compiling, or loading what was compiled before); "auto", the engine that
        "auto" takes by size; "runs", a list with "engine", "cells", "pairs", "seconds" (least), "median_seconds",
        "repeats", "memory_bytes" and "error", the greatest relative difference of values and gradients to the first
        engine that is measured at that size (see `LIMITS`); "sigma" by size; "slope" by engine, the exponent in time ~
        N^slope over the sizes from 4096; and "fused", empty or why nothing could be compiled.
    """
    runs: list[dict[str, Any]] = []
    sigma: dict[str, float] = {}
    auto: dict[str, str] = {}
    least = Problem.make(2)
    refused = compiling_refused(least.sides(), least.cost())
    engines = [engine for engine in ENGINES if engine != "fused" or refused is None]
    found_alone = {engine: alone(engine, taken_by(engine, sizes) if pairs == 1 else []) for engine in engines}
    for cells in sizes:
        problem = Problem.make(cells, pairs)
        sigma[str(cells)] = problem.sigma
        auto[str(cells)] = find_engine("auto", problem.sides(), problem.cost())
        taking = [engine for engine in engines if cells in taken_by(engine, sizes, pairs)]
        reference: list[torch.Tensor] | None = None
        errors: dict[str, float] = {}
        for engine in taking:
            found = problem.run(engine)
            reference = reference or found
            both = zip(found, reference, strict=True)
            errors[engine] = max(float((one - two).abs().max() / two.abs().max()) for one, two in both)
        del reference
        times = take_turns({engine: partial(problem.run, engine) for engine in taking}, repeats, BUDGET)
        for engine in taking:
            runs.append(
                {
                    "engine": engine,
                    "cells": cells,
                    "pairs": pairs,
                    "seconds": times[engine].least,
                    "median_seconds": times[engine].median,
                    "repeats": times[engine].repeats,
                    "memory_bytes": found_alone[engine][1].get(cells),
                    "error": errors[engine],
                }
            )
    return {
        "first_call_seconds": {engine: first for engine, (first, _) in found_alone.items()},
        "auto": auto,
        "runs": runs,
        "sigma": sigma,
        "slope": {engine: slope(runs, engine) for engine in engines},
        "fused": refused or "",
    }


def taken_by(engine: Engine, sizes: Sequence[int], pairs: int = 1) -> list[int]:
    """List the sizes that an engine is measured at."""
    return [cells for cells in sizes if pairs * cells**2 <= LIMITS.get(engine, pairs * cells**2)]


def alone(engine: Engine, sizes: Sequence[int]) -> tuple[float, dict[int, int]]:
    """Time of an engine's first call [s], and peak memory of a pass by size [bytes], in a process of its own.

    The peaks are empty where they cannot be measured; without the sizes that the process did not survive.
    """
    command = [sys.executable, "-m", "dkp.bench.loss", engine, *map(str, sorted(sizes))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        done.check_returncode()
    first, *peaks = done.stdout.split()
    return float(first), {int(cells): int(peak) for cells, peak in zip(peaks[::2], peaks[1::2], strict=True)}


def slope(runs: Sequence[dict[str, Any]], engine: str, least: int = 4096) -> float | None:
    """Exponent of time over cells for an engine; None for fewer than two sizes."""
    points = [(run["cells"], run["seconds"]) for run in runs if run["engine"] == engine and run["cells"] >= least]
    if len(points) < 2:
        return None
    cells, seconds = np.log(np.asarray(points)).T
    return float(np.polyfit(cells, seconds, 1)[0])


def parse_sizes(text: str) -> list[int]:
    """Sizes "1024,8192" as numbers.

    Raises:
        InputError: One is no number of at least two.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdigit() and int(word) >= 2 for word in words):
        raise InputError(f"--sizes is {text!r}, expected numbers of cells such as 1024,8192")
    return [int(word) for word in words]


if __name__ == "__main__":
    chosen: Any = sys.argv[1]
    warm = Problem.make(WARM_CELLS)
    begun = time.perf_counter()
    warm.run(chosen)
    print(time.perf_counter() - begun, flush=True)
    for number in map(int, sys.argv[2:]):
        large = Problem.make(number)
        print(number, peak_memory(partial(large.run, chosen)), flush=True)
