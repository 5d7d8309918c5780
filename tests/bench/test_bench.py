"""The bench: its problem, its ratios, its comparison, its files."""

import json

import numpy as np
import pytest
import torch

from dkp.bench import command
from dkp.bench.loss import alone, parse_sizes, slope, taken_by
from dkp.bench.memory import peak_memory
from dkp.bench.problem import NEAR_SHARE, Problem
from dkp.bench.ratios import compare, ratios
from dkp.bench.report import print_tables
from dkp.bench.timing import take_turns
from dkp.cli import main
from dkp.errors import InputError
from dkp.geometry import epipolar_distance
from dkp.losses.engines import compiling_refused

MACHINE = {"processor": "p", "cores": 1, "threads": 1, "torch": "2", "load": 0.0}


def test_alternatives_take_turns():
    order = []
    times = take_turns({"one": lambda: order.append(1), "two": lambda: order.append(2)}, repeats=3)
    assert order == [1, 2, 1, 2, 1, 2]
    assert times["one"].repeats == 3
    assert 0 <= times["one"].least <= times["one"].median
    long = take_turns({"one": lambda: None, "two": lambda: sum(range(10**6))}, repeats=9, budget=1e-3)
    assert long["one"].repeats == 9
    assert long["two"].repeats == 1


def test_peak_memory_counts_what_is_freed_again():
    def fill(megabytes: int) -> None:
        np.ones(megabytes * 2**17)

    fill(1)
    try:
        grown = peak_memory(lambda: fill(64))
    except InputError:
        pytest.skip("the system keeps no peak that can be reset")
    assert 60e6 < grown < 80e6


def test_the_problem_is_seen_by_two_cameras():
    problem = Problem.make(600)
    again = Problem.make(600)
    assert torch.equal(problem.field, again.field)
    distances = torch.cdist(problem.field[0], problem.other_field[0])
    assert (distances < 3 * problem.sigma).float().mean().item() == pytest.approx(NEAR_SHARE, rel=0.1)
    assert (problem.pixels > 0).all()
    assert (problem.pixels < 256).all()
    # Nearest neighbours on the surface lie near each other's epipolar lines.
    nearest = distances.argmin(1)
    other = problem.other_pixels[:, nearest]
    along = epipolar_distance(problem.pixels, other, problem.fundamental)[0]
    seen = distances.amin(1) < 0.03
    assert along[seen].median() < 3
    assert (
        along[seen].median()
        < 0.3 * epipolar_distance(problem.pixels, problem.other_pixels, problem.fundamental).median()
    )
    one, two = problem.run("tiled"), problem.run("dense")
    for found, expected in zip(one, two, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def run(engine: str, cells: int, seconds: float, memory: int | None = 10**6) -> dict[str, object]:
    return {"engine": engine, "cells": cells, "pairs": 1, "seconds": seconds, "memory_bytes": memory}


def test_ratios_grow_with_speed_and_are_compared_in_one_direction():
    runs = [run("dense", 1024, 1.0, 10**9), run("tiled", 1024, 0.1), run("fused", 1024, 0.02, None)]
    found = ratios({"loss": {"runs": runs}})
    assert found["tiled over dense at 1024"] == pytest.approx(10)
    assert found["fused over tiled at 1024"] == pytest.approx(5)
    assert found["dense memory over tiled at 1024"] == pytest.approx(20)  # megabytes are noise
    assert "dense memory over fused at 1024" not in found
    assert "dense over tiled at 1024" not in found
    assert compare({"a": 0.76, "b": 5.0}, {"a": 1.0, "b": 1.0, "c": 1.0}) == []
    assert compare({"a": 0.74}, {"a": 1.0}) == ["a is 0.74, committed 1"]


def test_slope_is_the_exponent():
    runs = [run("tiled", cells, 1e-9 * cells**2) for cells in (1024, 4096, 8192, 16384)]
    assert slope(runs, "tiled") == pytest.approx(2.0)
    assert slope(runs, "fused") is None


def test_sizes():
    assert parse_sizes("1024, 8192") == [1024, 8192]
    for text in ("", "1024,many", "1"):
        with pytest.raises(InputError, match="--sizes"):
            parse_sizes(text)


def test_large_problems_are_left_to_the_engines_that_can_do_them():
    sizes = [1024, 8192, 65536]
    assert taken_by("dense", sizes) == [1024, 8192]
    assert taken_by("dense", sizes, pairs=16) == [1024]
    assert taken_by("fused", sizes) == sizes


@pytest.mark.slow
def test_a_full_field_of_256_by_256_cells_takes_less_than_a_gigabyte():
    least = Problem.make(2)
    if compiling_refused(least.sides(), least.cost()) is not None:
        pytest.skip("nothing can be compiled")
    _, peaks = alone("fused", [4096, 65536])
    if not peaks:
        pytest.skip("the system keeps no peak that can be reset")
    assert peaks[65536] < 1e9
    assert peaks[4096] < 50e6  # one matrix of all pairs takes 67 MB


LOSS = {
    "first_call_seconds": {"dense": 0.1, "tiled": 0.1},
    "auto": {"1024": "tiled"},
    "runs": [
        {**run("dense", 1024, 1.0, 10**9), "median_seconds": 1.0, "repeats": 1, "error": 0.0},
        {**run("tiled", 1024, 0.1), "median_seconds": 0.2, "repeats": 1, "error": 1e-6},
    ],
    "sigma": {"1024": 0.05},
    "slope": {"dense": None, "tiled": None},
    "fused": "no compiler",
}


def test_the_command_writes_and_compares(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "bench_loss", lambda cells, repeats, pairs: LOSS)
    file = tmp_path / "deep" / "bench.json"
    main(["bench", "loss", "--sizes", "1024", "--json", str(file), "--plots", str(tmp_path / "plots")])
    held = json.loads(file.read_text())
    assert held["ratios"]["tiled over dense at 1024"] == pytest.approx(10)
    assert held["machine"]["threads"] >= 1
    assert (tmp_path / "plots" / "loss.png").stat().st_size > 1000
    main(["bench", "loss", "--check", str(file)])
    assert "2 ratios compared" in capsys.readouterr().out
    held["ratios"]["tiled over dense at 1024"] = 14.0
    file.write_text(json.dumps(held))
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "loss", "--check", str(file)])
    assert stopped.value.code == 1
    assert "tiled over dense at 1024 is 10, committed 14" in capsys.readouterr().err


def test_a_file_that_no_bench_wrote_is_refused_before_measuring(tmp_path, capsys):
    file = tmp_path / "other.json"
    file.write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "loss", "--check", str(file)])
    assert stopped.value.code == 2
    assert "expected a file that dkp bench --json wrote" in capsys.readouterr().err


def test_prediction_is_measured_side_by_side(capsys):
    from dkp.bench.predict import bench_predict

    speeds = bench_predict(2, compiled=False)
    assert set(speeds) - {"onnx"} == {"eager"}
    found = ratios({"predict": {**speeds, "compiled": 2 * speeds["eager"]}})
    assert found["prediction compiled over eager"] == pytest.approx(2)
    print_tables({"machine": MACHINE, "load_after": 0.0, "predict": {"eager": 10.0, "onnx": 25.0}})
    assert "prediction onnx: 25 images a second, 2.50 times eager" in capsys.readouterr().out


def test_reconstruction_is_measured_in_instants(capsys):
    from dkp.bench.reconstruct import bench_reconstruct

    speeds = bench_reconstruct(1)
    assert 1 / speeds["whole"] == pytest.approx(1 / speeds["detector"] + 1 / speeds["surfaces"])
    print_tables({"machine": MACHINE, "load_after": 0.0, "reconstruct": speeds})
    assert f"reconstruction, surfaces: {speeds['surfaces']:.3g} instants a second" in capsys.readouterr().out


@pytest.mark.slow
def test_the_pipeline_is_measured_in_parts():
    from dkp.bench.pipeline import bench_pipeline

    result = bench_pipeline(repeats=5)  # the least of five: one alone may be hit by other work
    step = result["step"]
    assert step["whole"] > step["network"] > 0
    assert 0 < step["loss_share"] < 1
    assert 0 <= step["waiting_share"] < 1
    assert all(value > 0 for part in ("renderer", "opening", "loader", "import") for value in result[part].values())
