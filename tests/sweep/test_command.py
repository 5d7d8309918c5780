"""`dkp sweep` with real fits: its table, its best configuration, and what it says when something is wrong."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dkp.cli import main
from dkp.sweep import command
from dkp.sweep.trial import Outcome

pytest.importorskip("optuna")
METRIC = "val/geodesic_median_cm"


def table(folder):
    with (folder / "trials.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_grid_of_real_fits(workspace, write_sweep, tmp_path, capsys):
    """The values reach the runs, the table has their metrics, and the best is the least of them."""
    root = tmp_path / "runs"  # no other test writes here
    shutil.copytree(workspace / "runs/teacher", root / "teacher")
    main(["sweep", str(write_sweep("real")), "--root", str(root), "--overrides", '["--trainer.max_steps=2"]'])
    printed = capsys.readouterr().out
    folder = root / "real"
    rows = table(folder)
    assert [row["state"] for row in rows] == ["done", "done"]
    for row, weight in zip(rows, (0.5, 4.0), strict=True):
        run = folder / f"trial-{int(row['trial']):03d}"
        config = yaml.safe_load((run / "config.yaml").read_text())
        used = config["model"]["init_args"]["terms"]["multiview"]["init_args"]["weight"]
        assert float(row["model.terms.multiview.weight"]) == used == weight
        assert config["trainer"]["max_steps"] == 2
        assert config["trainer"]["logger"] is True
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics["step"] == 2
        assert float(row[METRIC]) == metrics["metrics"][METRIC]
    best = min(rows, key=lambda row: float(row[METRIC]))
    assert (folder / "best.yaml").read_text() == (folder / f"trial-{int(best['trial']):03d}/config.yaml").read_text()
    assert f"--model.terms.multiview.weight={float(best['model.terms.multiview.weight'])}" in printed
    assert not (root / "wandb").exists()


@pytest.fixture
def outcomes(monkeypatch):
    """Trials end at once, with what a function makes of their options; their runs are noted."""
    started = []

    def use(function):
        def run_trial(runner, words, folder, metric, going_on):
            options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
            if words[0] == "resume":
                options = yaml.safe_load((folder / "config.yaml").read_text())
            else:
                folder.mkdir()
                (folder / "config.yaml").write_text(yaml.safe_dump(options))
            started.append(options)
            return function(options)

        monkeypatch.setattr(command, "run_trial", run_trial)
        return started

    return use


PLAN = {
    "method": "random",
    "run_cap": 5,
    "metric": {"name": "val/error"},
    "parameters": {"sigma": {"min": 0.0, "max": 1.0}, "size": {"value": 32}},
    "command": ["${env}", "${interpreter}", "-m", "dkp", "fit", "--root=elsewhere", "${args}"],
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tries.yaml").write_text(yaml.safe_dump(PLAN))
    return "tries.yaml"


def test_the_table_and_the_best(file, outcomes, capsys):
    started = outcomes(lambda options: Outcome(float(options["sigma"])))
    main(["sweep", file])
    rows = table(Path("runs/tries"))
    assert len(rows) == len(started) == 5
    assert [row["sigma"] for row in rows] == [options["sigma"] for options in started]
    assert [options["name"] for options in started] == [f"tries/trial-{index:03d}" for index in range(5)]
    assert {options["root"] for options in started} == {"runs"}
    assert {options["trainer.logger"] for options in started} == {"true"}
    best = min(rows, key=lambda row: float(row["val/error"]))
    assert yaml.safe_load(Path("runs/tries/best.yaml").read_text())["sigma"] == best["sigma"]
    assert f"best: trial {best['trial']}, --sigma={best['sigma']} --size=32" in capsys.readouterr().out


def test_it_goes_on_where_it_was_interrupted(file, outcomes, tmp_path):
    count = 0

    def interrupted(options):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return Outcome(float(options["sigma"]))

    outcomes(interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", file])
    assert stopped.value.code == 130
    assert len(table(Path("runs/tries"))) == 2
    main(["sweep", file])
    main(["sweep", file, "--name", "whole"])
    parts, whole = (table(Path("runs") / name) for name in ("tries", "whole"))
    assert [row["sigma"] for row in parts] == [row["sigma"] for row in whole]
    assert [row["trial"] for row in parts] == ["0", "1", "3", "4", "5"]


def test_more_trials_on_demand(file, outcomes):
    started = outcomes(lambda options: Outcome(1.0))
    main(["sweep", file, "--trials", "2"])
    main(["sweep", file, "--trials", "3"])
    assert len(started) == 3


def test_a_diverged_trial_is_a_line_of_the_table(file, outcomes, capsys):
    values = iter([Outcome(None, reason="status 1: labelled = nan"), *(Outcome(float(i)) for i in range(4, 0, -1))])
    outcomes(lambda _: next(values))
    main(["sweep", file])
    rows = table(Path("runs/tries"))
    assert [row["state"] for row in rows] == ["failed", "done", "done", "done", "done"]
    assert rows[0]["reason"] == "status 1: labelled = nan"
    assert "best: trial 4" in capsys.readouterr().out


def error_of(capsys, words):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_refused_options_end_the_sweep_at_its_first_trial(file, outcomes, capsys):
    started = outcomes(lambda _: Outcome(None, reason="status 2: no such option", refused=True))
    assert "trial 0 was refused (status 2: no such option)" in error_of(capsys, ["sweep", file])
    assert len(started) == 1


def test_a_refusal_after_success_is_a_failure(file, outcomes):
    values = iter([Outcome(1.0), Outcome(None, reason="status 2: no pairs", refused=True), *[Outcome(2.0)] * 3])
    outcomes(lambda _: next(values))
    main(["sweep", file])
    assert [row["state"] for row in table(Path("runs/tries"))] == ["done", "failed", "done", "done", "done"]


def test_without_any_value_there_is_no_best(file, outcomes, capsys):
    outcomes(lambda _: Outcome(None, reason="status 1: nan"))
    assert "none of 5 trials ended with a number; the last: status 1: nan" in error_of(capsys, ["sweep", file])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["none.yaml"], "none.yaml is not there, expected FILE: YAML file"),
        (["tries.yaml", "--trials", "0"], "trials is 0, expected at least 1"),
        (["tries.yaml", "--trials", "many"], "trials: Expected a"),
        (["endless.yaml"], "endless.yaml has no run_cap, expected one or --trials"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(words, expected, file, capsys):
    Path("endless.yaml").write_text(yaml.safe_dump({**PLAN, "run_cap": None}))
    assert expected in error_of(capsys, ["sweep", *words])


def test_without_optuna_it_says_what_to_install(file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "expected dkp[sweep] to be installed" in error_of(capsys, ["sweep", file])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_a_killed_sweep_loses_no_trial_that_had_ended(file):
    """`kill -9` in the middle of a trial that is a process of its own; the trial is gone on with, too."""
    stub = Path("stub")
    stub.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys, time\n"
        "if sys.argv[3] == 'resume':\n"
        "    run = pathlib.Path(sys.argv[4])\n"
        "else:\n"
        "    options = dict(word[2:].split('=', 1) for word in sys.argv[1:] if word.startswith('--'))\n"
        "    run = pathlib.Path(options['root'], options['name'])\n"
        "    run.mkdir(parents=True)\n"
        "    run.joinpath('config.yaml').write_text(options['sigma'])\n"
        "    time.sleep(60 if run.name == 'trial-002' else 0)\n"
        "value = float(run.joinpath('config.yaml').read_text())\n"
        "run.joinpath('metrics.json').write_text(json.dumps({'metrics': {'val/error': value}}))\n"
    )
    stub.chmod(0o755)
    code = (
        f"import sys; from dkp.cli import main; sys.executable = {str(stub.resolve())!r}; main(['sweep', 'tries.yaml'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [sys.executable, "-c", code]
    first = subprocess.Popen(words, env=environment, start_new_session=True)
    limit = time.monotonic() + 300
    while not Path("runs/tries/trial-002/config.yaml").exists() and time.monotonic() < limit and first.poll() is None:
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert len(table(Path("runs/tries"))) == 2
    subprocess.run(words, env=environment, check=True, timeout=300, capture_output=True)
    rows = table(Path("runs/tries"))
    assert [row["trial"] for row in rows] == ["0", "1", "3", "4", "5"]
    assert {row["state"] for row in rows} == {"done"}
    assert {row["val/error"] for row in rows} == {row["sigma"] for row in rows}
    assert not Path("runs/tries/trial-002").exists()
    assert Path("runs/tries/trial-003/config.yaml").read_text() == rows[2]["sigma"]
