"""The recipes of shipped detectors parse, belong together, and take a name for a checkpoint."""

from pathlib import Path

import pytest
import yaml

from dkp.cli import main
from dkp.runs.lightning import without_shipped
from dkp.weights import names

RECIPES = Path(__file__).parents[2] / "configs" / "human-small"


def parsed(capsys, command, *words):
    with pytest.raises(SystemExit) as stopped:
        main([command, *words, "--print_config"])
    captured = capsys.readouterr()
    assert stopped.value.code in (None, 0), captured.err
    return yaml.safe_load(captured.out)


def test_second_stage_goes_on_from_the_first_at_the_size_of_use(capsys):
    first = parsed(capsys, "fit", f"--config={RECIPES / 'weights.yaml'}", "--root=elsewhere")
    second = parsed(capsys, "fit", f"--config={RECIPES / 'weights-fine.yaml'}", "--root=elsewhere")
    evaluation = parsed(capsys, "test", f"--config={RECIPES / 'evaluate.yaml'}")
    assert second["model"]["init_args"]["initial_weights"] == f"elsewhere/{first['name']}/checkpoints/last.ckpt"
    assert second["model"]["init_args"]["detector"] == first["model"]["init_args"]["detector"]
    assert second["data"]["init_args"]["size"] == evaluation["data"]["init_args"]["size"] == 128
    assert second["data"]["init_args"]["augmentation"]["mirror"] == 0.5


def test_other_checkpoints_are_left_alone(tmp_path, monkeypatch):
    words = ["--config", "a.yaml", "--ckpt_path", "runs/last.ckpt"]
    assert without_shipped(words) == (words, {})
    assert without_shipped(["--ckpt_path=best"]) == (["--ckpt_path=best"], {})
    for name in names():
        (tmp_path / name).write_text("a file of that name comes first")
        monkeypatch.chdir(tmp_path)
        assert without_shipped(["--ckpt_path", name]) == (["--ckpt_path", name], {})
