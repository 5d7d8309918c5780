"""Work on many things: the same results from this process, from others and from a cluster, and what goes wrong."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from dkp.cli import main
from dkp.errors import InputError
from dkp.synthetic import synthesize
from dkp.workers import Workers, WorkersLost, calls, cores


class Adder:
    """Adds; counts how often it was made in this process."""

    made = 0

    def __init__(self, number):
        Adder.made += 1
        self.number = number

    def __call__(self, item):
        if item < 0:
            raise InputError(f"{item} is negative")
        return self.number + item, Adder.made, torch.get_num_threads(), os.getpid()


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_order_from_one_thread_for_each_thing(count):
    Adder.made = 0
    with Workers(partial(Adder, 10), count) as workers:
        results = list(workers.map(list(range(9)), "adding", "number"))
    assert [value for value, *_ in results] == list(range(10, 19))
    assert {threads for _, _, threads, _ in results} == {1}
    assert {made for _, made, _, _ in results} == {1}
    processes = {process for *_, process in results}
    assert (processes == {os.getpid()}) == (count == 1)
    assert len(processes) <= count


@pytest.mark.parametrize("count", [1, 2])
def test_what_the_work_raises_is_raised_here(count):
    with Workers(partial(Adder, 10), count) as workers, pytest.raises(InputError, match="-1 is negative"):
        list(workers.map([1, -1, 2], "adding", "number"))


def test_a_single_thing_is_done_here():
    with Workers(calls, 2) as workers:
        assert list(workers.map([os.getpid], "asking", "process")) == [os.getpid()]


def test_a_process_that_is_killed_ends_the_work_with_a_sentence():
    with Workers(calls, 2) as workers, pytest.raises(WorkersLost, match="was killed or ran out of memory"):
        list(workers.map([partial(os._exit, 1), os.getpid], "asking", "process"))


def test_the_command_line_says_so_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    def lost(*_):
        raise WorkersLost("a process that worked has ended")

    monkeypatch.setattr(Workers, "map", lost)
    with pytest.raises(SystemExit) as stopped:
        main(["synthesize", str(tmp_path / "out"), "--subjects=1", "--frames=2", "--workers=1"])
    assert stopped.value.code == 1
    assert "dkp: error: a process that worked has ended" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "executor", "expected"),
    [
        (0, "local", "workers is 0, expected at least 1"),
        (1, "slurm", "executor is 'slurm', expected local or dask:ADDRESS"),
        (1, "dask", "expected local or dask:ADDRESS"),
    ],
)
def test_bad_arguments(count, executor, expected):
    with pytest.raises(InputError, match=expected):
        Workers(calls, count, executor)


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"expected dkp\[dask\]"), Workers(calls, 1, "dask:tcp://127.0.0.1:1"):
        pass


# A cluster


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        yield cluster


def slow_process(folder: Path, number: int) -> int:
    """Leave the id of this process in a file, and take a while."""
    (folder / f"{number}-{os.getpid()}").touch()
    time.sleep(0.3)
    return number


@pytest.mark.slow
def test_a_cluster_goes_on_where_a_worker_is_killed(cluster, tmp_path):
    """Every result is there, once and in order; the killed one's work is done again by another."""
    killed = None
    results = []
    with Workers(calls, None, f"dask:{cluster.scheduler_address}") as workers:
        for result in workers.map(
            [partial(slow_process, tmp_path, number) for number in range(12)], "asking", "process"
        ):
            results.append(result)
            if result == 2:
                killed = int(max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime).name.split("-")[1])
                os.kill(killed, signal.SIGKILL)
    assert results == list(range(12))
    processes = {int(path.name.split("-")[1]) for path in tmp_path.iterdir()}
    assert killed in processes
    assert len(processes) >= 2


@pytest.mark.slow
def test_a_cluster_with_a_killed_worker_renders_the_same_bytes(cluster, tmp_path, monkeypatch):
    options = {"subjects": 2, "frames": 8, "clip": 1, "cameras": 2, "size": 32, "seed": 5, "name": "x"}
    synthesize(tmp_path / "here", workers=1, **options)
    map_ = Workers.map

    def killing(self, items, title, unit):
        for number, result in enumerate(map_(self, items, title, unit)):
            if number == 3:
                worker = next(iter(cluster.workers.values()))
                os.kill(worker.pid, signal.SIGKILL)
            yield result

    monkeypatch.setattr(Workers, "map", killing)
    synthesize(tmp_path / "there", executor=f"dask:{cluster.scheduler_address}", **options)
    files = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "there") for path in (tmp_path / "there").rglob("*") if path.is_file()
    )
    for file in files:
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes(), file


def test_a_cluster_that_does_not_answer_is_named():
    pytest.importorskip("distributed")
    address = "dask:tcp://127.0.0.1:9"
    with pytest.raises(InputError, match=f"executor {address}: no scheduler answers"), Workers(calls, 1, address):
        pass
