"""Runs and what the command line does with them: options that count, the run's own checkpoint, starts that fail."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dkp.cli import main
from dkp.files import hold

from ..conftest import write_plane

RECIPE = """
name: tiny
root: {root}
source: {plane}
target: {plane}
surface: {plane}/surface.npz
size: 32
model:
  class_path: dkp.tasks.LabelledTask
  init_args:
    surface: ${{surface}}
    terms:
      labelled: {{class_path: dkp.losses.LabelledTerm, init_args: {{beta: "${{beta}}", scale: "${{scale}}"}}}}
    detector:
      class_path: dkp.models.Detector
      init_args: {{stride: "${{stride}}", width: 8, levels: 3, norm: batch}}
data:
  class_path: dkp.data.LabelledDataModule
  init_args:
    train: ${{source}}
    test: ${{target}}#test
    size: ${{size}}
    stride: ${{stride}}
    batch_size: 4
    steps_per_epoch: 2
    num_workers: 0
    hide_background: no
trainer:
  accelerator: cpu
  devices: 1
  max_steps: 2
  max_epochs: -1
  enable_progress_bar: false
  enable_model_summary: false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the captures `plane` and `other`, a recipe and a finished run."""
    folder = tmp_path_factory.mktemp("runs")
    write_plane(folder / "plane")
    write_plane(folder / "other", frames=5)
    (folder / "recipe.yaml").write_text(RECIPE.format(root=folder / "runs", plane=folder / "plane"))
    main(["fit", "--config", str(folder / "recipe.yaml")])
    return folder


@pytest.fixture
def run(folder, tmp_path):
    """A copy of the finished run."""
    return Path(shutil.copytree(folder / "runs" / "tiny", tmp_path / "tiny"))


def refused(capsys, words, status=2):
    """The one sentence with which a command line is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    assert stopped.value.code == status, captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("dkp: error: ")]
    return line


def contents(folder):
    """Every file below a folder and its bytes."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Options with a saved configuration


def test_a_saved_configuration_keeps_references_and_has_their_values_beside(folder):
    saved, resolved = (
        yaml.safe_load((folder / "runs" / "tiny" / name).read_text())
        for name in ("config.yaml", "config.resolved.yaml")
    )
    assert saved["data"]["init_args"]["test"] == "${target}#test"
    assert resolved["data"]["init_args"]["test"] == f"{folder / 'plane'}#test"
    assert saved["data"]["init_args"]["hide_background"] == resolved["data"]["init_args"]["hide_background"] == "no"


def test_a_target_counts_with_a_saved_configuration(folder, run):
    main(["test", str(run)])
    main(["test", "--config", str(run / "config.yaml"), "--target", str(folder / "other")])
    both = [json.loads((run / name / "metrics.json").read_text())["metrics"] for name in ("test", "test-2")]
    assert both[0]["test/coverage"] != both[1]["test/coverage"] or both[0] != both[1]
    resolved = yaml.safe_load((run / "test-2" / "config.resolved.yaml").read_text())
    assert resolved["data"]["init_args"]["test"] == f"{folder / 'other'}#test"


@pytest.mark.parametrize("command", ["test", "predict", "validate"])
def test_a_target_that_does_not_exist_is_missed_and_nothing_is_left(run, capsys, command):
    before = contents(run)
    key = ["--data.val=${target}#test"] if command == "validate" else []
    assert "DOES_NOT_EXIST" in refused(capsys, [command, run, "--target", "DOES_NOT_EXIST", *key])
    assert contents(run) == before
    assert not (run / command).exists()


@pytest.mark.parametrize(
    ("option", "value", "key"),
    [
        ("source", "elsewhere", "data.init_args.train"),
        ("size", "48", "data.init_args.size"),
        ("stride", "4", "model.init_args.detector.init_args.stride"),
        ("surface", "human", "model.init_args.surface"),
        ("beta", "0.5", "model.init_args.terms.labelled.init_args.beta"),
        ("scale", "0.7", "model.init_args.terms.labelled.init_args.scale"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
def test_shared_options_count_with_a_saved_configuration(run, capsys, command, option, value, key):
    words = [command, "--config", str(run / "config.yaml"), f"--{option}", value, "--print-config"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert not stopped.value.code
    content = yaml.safe_load(capsys.readouterr().out)
    for part in key.split("."):
        content = content[part]
    assert str(content) == value


@pytest.mark.parametrize("option", ["target", "size", "sigma", "surface"])
@pytest.mark.parametrize("command", ["fit", "test", "resume"])
def test_shared_options_are_refused_where_references_were_replaced(run, capsys, command, option):
    """As in the configurations that earlier releases saved."""
    shutil.copy(run / "config.resolved.yaml", run / "config.yaml")
    before = contents(run)
    words = [run] if command == "resume" else ["--config", run / "config.yaml"]
    message = refused(capsys, [command, *words, f"--{option}", "7"])
    assert f"--{option} 7 would change nothing" in message
    assert contents(run) == before


def test_a_value_of_no_use_is_said(folder, capsys):
    with pytest.warns(UserWarning, match="--sigma: nothing in this configuration uses it"), pytest.raises(SystemExit):
        main(["fit", "--config", str(folder / "recipe.yaml"), "--sigma", "1", "--source", "nowhere"])


def test_a_run_that_another_process_trains_is_not_gone_on_with(run, capsys, monkeypatch):
    monkeypatch.setattr("dkp.files.time.sleep", lambda seconds: None)
    before = (run / "metrics.csv").read_bytes()
    held = hold(run)
    assert f"{run} is in use by another dkp" in refused(capsys, ["resume", run, "--trainer.max_steps", "4"])
    os.close(held)
    assert (run / "metrics.csv").read_bytes() == before
    main(["resume", str(run), "--trainer.max_steps", "4"])
    assert json.loads((run / "metrics.json").read_text())["step"] == 4


def test_names_are_refused_by_resume(run, capsys):
    before = contents(run)
    assert "--name other would change nothing" in refused(capsys, ["resume", run, "--name", "other"])
    assert contents(run) == before


def test_callbacks_of_several_files_add_up(folder, run, tmp_path, capsys):
    layers = {
        "average": "{class_path: dkp.callbacks.DetectorAverage, init_args: {decay: 0.9}}",
        "snapshots": "{class_path: dkp.callbacks.DetectorSnapshots}",
        "slower": "{class_path: dkp.callbacks.DetectorAverage, init_args: {decay: 0.99}}",
    }
    words = ["fit", "--config", str(folder / "recipe.yaml")]
    for name, text in layers.items():
        (tmp_path / f"{name}.yaml").write_text(f"trainer: {{callbacks: [{text}]}}")
        words += ["--config", str(tmp_path / f"{name}.yaml")]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*words, "--print-config"])
    callbacks = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    assert sorted(one["class_path"].rpartition(".")[2] for one in callbacks) == ["DetectorAverage", "DetectorSnapshots"]
    assert {one["init_args"].get("decay") for one in callbacks} == {0.99, None}


# The run's own checkpoint


def test_a_run_is_evaluated_with_its_own_checkpoint(run):
    main(["predict", str(run)])
    main(["predict", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")])
    main(["predict", str(run), "--ckpt-path", "best"])
    files = [sorted((run / name).rglob("*.npz")) for name in ("predict", "predict-2", "predict-3")]
    assert [len(one) for one in files] == [6, 6, 6]
    for path, *others in zip(*files, strict=True):
        with np.load(path) as expected:
            for other in others:
                with np.load(other) as found:
                    np.testing.assert_array_equal(found["coordinate"], expected["coordinate"])


@pytest.mark.parametrize("command", ["test", "predict"])
def test_random_weights_are_never_evaluated(folder, run, capsys, command):
    message = refused(capsys, [command, "--config", folder / "recipe.yaml", "--root", run / "none"])
    assert f"dkp {command} has no trained weights" in message
    (run / "checkpoints" / "last.ckpt").unlink()
    assert "last.ckpt does not exist" in refused(capsys, [command, run])
    assert not (run / "none").exists()
    assert not (run / command).exists()


def test_several_captures_of_one_name_keep_every_view(folder, run):
    copy = run / "copy" / "plane"
    shutil.copytree(folder / "plane", copy)
    main(["predict", str(run), "--data.predict", f"[{folder / 'plane'},{copy}]"])
    out = run / "predict" / "predictions"
    written = sorted(path.relative_to(out) for path in out.rglob("*.npz"))
    assert len(written) == 12
    assert {path.parts[0] for path in written} == {"plane", "plane-2"}
    assert not list(run.rglob("*.partial"))


# Checkpoints that do not fit

OTHERS = [
    (["--model.detector.width", "16"], "width 8", "width 16"),
    (["--model.detector.levels", "4"], "levels 3", "levels 4"),
    (["--model.detector.representation", "charts"], "representation embedding", "representation charts"),
]


@pytest.mark.parametrize(("words", "held", "described"), OTHERS)
@pytest.mark.parametrize("command", ["fit", "test", "resume"])
def test_a_checkpoint_of_another_detector_is_refused(folder, run, capsys, command, words, held, described):
    before, checkpoint = contents(run), run / "checkpoints" / "last.ckpt"
    begin = {
        "fit": ["fit", "--config", folder / "recipe.yaml", "--root", run / "new", "--ckpt_path", checkpoint],
        "test": ["test", run],
        "resume": ["resume", run, "--trainer.max_steps", "4"],
    }[command]
    message = refused(capsys, [*begin, *words])
    assert str(checkpoint.parent) in message
    assert held in message.partition("where the configuration describes")[0]
    assert described in message.partition("where the configuration describes")[2]
    assert contents(run) == before
    assert not (run / "new").exists()


def test_a_run_that_is_cut_below_its_checkpoint_is_not_complete(run, capsys):
    before = contents(run)
    assert "has 2 steps" in refused(capsys, ["resume", run, "--trainer.max_steps", "1"])
    assert contents(run) == before


def test_files_that_are_no_checkpoints_are_refused(folder, run, capsys):
    (run / "other.ckpt").write_bytes(b"no checkpoint")
    torch.save({"a": torch.zeros(1)}, run / "weights.ckpt")
    for name in ("other.ckpt", "weights.ckpt"):
        assert f"{name} is no checkpoint" in refused(capsys, ["test", run, "--ckpt_path", run / name])


# Starts that fail


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--trainer.max_stepps", "5"], "max_stepps"),
        (["--data.train", "nowhere"], "nowhere"),
        (["--trainer.max_steps", "4", "--data.train", "nowhere"], "nowhere"),
    ],
)
def test_resuming_with_a_mistake_changes_nothing(run, capsys, words, expected):
    (run / "checkpoints" / "old.partial").write_text("half")
    before = contents(run)
    assert expected in refused(capsys, ["resume", run, *words])
    assert contents(run) == before


@pytest.mark.parametrize("command", ["resume", "test"])
def test_a_run_of_another_version_says_so(run, capsys, command):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("    learning_rate:", "    pace:"))
    before = contents(run)
    message = refused(capsys, [command, run, *(["--trainer.max_steps", "4"] if command == "resume" else [])])
    assert f"{config}: " in message
    assert "model.pace is not an option of dkp.tasks." in message
    assert "another version of dkp has written the run" in message
    assert contents(run) == before


def test_a_run_with_options_of_terms_that_went_can_be_tested_but_not_resumed(run, capsys):
    for name in ("config.yaml", "config.resolved.yaml"):
        config = run / name
        text = config.read_text().replace("          weight:", "          uv_beta: 0.05\n          weight:")
        assert "uv_beta" in text
        config.write_text(text)
    message = refused(capsys, ["resume", run, "--trainer.max_steps", "4"])
    assert "uv_beta" in message
    assert "another version of dkp has written the run" in message
    main(["test", str(run)])
    assert (run / "test" / "metrics.json").is_file()


def test_what_was_half_written_is_gone_when_a_run_goes_on(run):
    (run / "checkpoints" / "last.ckpt.partial").write_text("half")
    main(["resume", str(run), "--trainer.max_steps", "4"])
    assert not list(run.rglob("*.partial"))
    assert json.loads((run / "metrics.json").read_text())["step"] == 4


def test_predictions_that_were_half_written_are_gone_at_the_next_start(run):
    torn = run / "predict" / "predictions" / "f0" / "a.npz.partial"
    living = run / "predict-2" / "predictions" / "f0" / "a.npz.partial"
    for path in (torn, living):
        path.parent.mkdir(parents=True)
        path.write_text("half")
    held = hold(living.parents[1])
    main(["predict", str(run)])
    os.close(held)
    assert list(run.rglob("*.partial")) == [living]
    assert list((run / "predict-3").rglob("*.npz"))


@pytest.mark.parametrize("words", [["--source", "nowhere"], ["--size", "33"], ["--trainer.accelerator", "abacus"]])
def test_a_start_that_fails_leaves_no_folder(folder, tmp_path, capsys, words):
    refused(capsys, ["fit", "--config", folder / "recipe.yaml", "--root", tmp_path / "a" / "b", *words])
    assert not list(tmp_path.iterdir())


# Messages


def test_a_configuration_in_another_encoding_is_refused(tmp_path, capsys):
    path = tmp_path / "latin.yaml"
    path.write_bytes("# eins\nname: käse\n".encode("latin-1"))
    assert f"--config {path}, line 2: not UTF-8" in refused(capsys, ["fit", "--config", path])


def test_a_folder_as_data_is_refused(folder, capsys):
    message = refused(capsys, ["fit", "--config", folder / "recipe.yaml", "--data", folder / "plane"])
    assert "--target" in message
    assert f"--data {folder / 'plane'} is a folder" in message


def test_runs_say_nothing_that_a_user_can_do_nothing_about(run, recwarn, caplog, capsys):
    main(["resume", str(run), "--trainer.max_steps", "4", "--trainer.enable_progress_bar", "true"])
    said = capsys.readouterr()
    text = said.out + said.err + caplog.text + " ".join(str(warning.message) for warning in recwarn)
    noise = ("weights_only", "Total length of", "LeafSpec", "/-2", "v_num", "Be aware that", "is not empty")
    for words in (*noise, "Seed set to", "TPU available", "is not among the metrics"):
        assert words not in text


def test_a_run_that_is_not_there_is_named(tmp_path, capsys):
    for command in ("test", "resume"):
        message = refused(capsys, [command, tmp_path / "none"])
        assert f"{tmp_path / 'none'} is not there, expected the folder of a run" in message
    assert "has no config.yaml, expected the folder of a run" in refused(capsys, ["test", tmp_path])
    (tmp_path / "capture.json").touch()
    assert f"is a capture, expected the folder of a run, or --ckpt-path NAME --target {tmp_path}" in refused(
        capsys, ["test", tmp_path]
    )


def test_labels_of_the_target_that_are_not_there_say_what_makes_them(folder, tmp_path, capsys):
    recipe = Path(__file__).parents[2] / "configs" / "people" / "adapted.yaml"
    words = ["fit", f"--config={recipe}", f"--root={tmp_path}", f"--source={folder / 'plane'}"]
    message = refused(capsys, words)
    assert f"{tmp_path / 'registered'} is not there" in message
    assert f"`dkp pseudo-label --out {tmp_path / 'registered'}`" in message
    assert not list(tmp_path.iterdir())


def test_a_run_shorter_than_the_interval_of_the_log_has_its_metrics_too(folder, run):
    assert "step" in (run / "metrics.csv").read_text().splitlines()[0]
    assert len((run / "metrics.csv").read_text().splitlines()) > 1
