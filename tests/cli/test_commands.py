"""The command line on a tiny capture of a textured plane: whole runs, and errors in one sentence."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dkp.captures import CaptureWriter, DenseLabel
from dkp.cli import main
from dkp.cli.commands import explained
from dkp.geometry import Camera, pixel_grid
from dkp.sentences import did_you_mean, one_sentence
from dkp.surface import Surface

CONFIGS = Path(__file__).parents[2] / "configs"
SIZE, SIDE, FRAMES = 32, 0.4, 8


def write_plane_capture(path: Path) -> None:
    """A capture of a plane with dense labels: three cameras, six training and two test instants."""
    surface = Surface.plane(SIDE, SIDE, 0.05)
    cameras = {}
    for name, angle in (("a", -0.5), ("b", 0.0), ("c", 0.5)):
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        centre = torch.tensor([SIDE / 2, SIDE / 2, 0.0], dtype=rotation.dtype)
        cameras[name] = Camera.create(
            torch.tensor([[60.0, 0, SIZE / 2], [0, 60.0, SIZE / 2], [0, 0, 1]], dtype=rotation.dtype),
            rotation=rotation,
            translation=torch.tensor([0, 0, 1.0], dtype=rotation.dtype) - rotation @ centre,
            image_size=torch.tensor([SIZE, SIZE], dtype=rotation.dtype),
        )
    frames = [f"f{index}" for index in range(FRAMES)]
    writer = CaptureWriter(
        path, name="plane", surface=surface, cameras=cameras, splits={"train": frames[:6], "test": frames[6:]}
    )
    rng = np.random.default_rng(0)
    with writer:
        for time_index, frame in enumerate(frames):
            light = rng.uniform(0.6, 1.0)
            for name, camera in cameras.items():
                pixels = pixel_grid(SIZE, SIZE, dtype=torch.float64).reshape(-1, 2)
                near, far = (camera.unproject(pixels, torch.full((len(pixels),), z)).numpy() for z in (0.5, 2.0))
                share = near[:, 2] / (near[:, 2] - far[:, 2])
                points = near + share[:, None] * (far - near)
                inside = ((points[:, :2] >= 0) & (points[:, :2] <= SIDE)).all(1)
                face, barycentric, _ = surface.locate(points)
                label = DenseLabel(
                    np.where(inside, face, -1).astype(np.int32).reshape(SIZE, SIZE),
                    np.where(inside[:, None], barycentric, 0).astype(np.float32).reshape(SIZE, SIZE, 3),
                )
                colour = np.stack([points[:, 0] / SIDE, points[:, 1] / SIDE, np.sin(60 * points[:, 0]) ** 2], -1)
                image = np.where(inside[:, None], light * colour, 0.1).clip(0, 1).reshape(SIZE, SIZE, 3)
                writer.add_view(
                    frame,
                    name,
                    (255 * image).astype(np.uint8),
                    time=time_index,
                    label=label,
                    mask=inside.reshape(SIZE, SIZE),
                )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with the capture and a trained teacher in runs/teacher."""
    folder = tmp_path_factory.mktemp("workspace")
    write_plane_capture(folder / "plane")
    main(["fit", *arguments(folder, "teacher"), "--trainer.max_steps", "30"])
    return folder


def arguments(folder: Path, stage: str) -> list[str]:
    files = [f"board/{stage}", *(["unregistered"] if stage == "adapted" else []), "debug/fast"]
    words = [word for file in files for word in ("--config", str(CONFIGS / f"{file}.yaml"))]
    words += ["--data.val", str(folder / "plane#test")]
    words += ["--root", str(folder / "runs"), "--size", str(SIZE), "--sigma", "0.03", "--scale", "0.05"]
    words += ["--source", str(folder / "plane"), "--target", str(folder / "plane")]
    words += ["--surface", str(folder / "plane" / "surface.npz"), "--model.detector.init_args.width", "8"]
    words += ["--model.detector.init_args.levels", "3", "--trainer.enable_progress_bar", "false"]
    return [*words, "--data.augmentation.rotate", "10"]


def error_of(capsys, words, status=2):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(words)
    captured = capsys.readouterr()
    assert stopped.value.code == status
    lines = [line for line in captured.err.splitlines() if line.startswith("dkp: error: ")]
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


# Whole runs


def test_a_run_folder_holds_config_checkpoints_and_metrics(workspace):
    folder = workspace / "runs" / "teacher"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["size"] == SIZE
    assert config["data"]["init_args"]["size"] == "${size}"
    resolved = yaml.safe_load((folder / "config.resolved.yaml").read_text())
    assert resolved["size"] == resolved["data"]["init_args"]["size"] == SIZE
    assert {"best.ckpt", "last.ckpt"} <= {path.name for path in (folder / "checkpoints").iterdir()}
    assert "train/labelled" in (folder / "metrics.csv").read_text().splitlines()[0]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["stage"] == "fit"
    assert metrics["step"] == 30
    assert metrics["metrics"]["val/coverage"] >= 0
    assert Path(metrics["best"]).name == "best.ckpt"


def test_adapting_testing_and_predicting(workspace, capsys):
    adapted = arguments(workspace, "adapted")
    main(["fit", *adapted])
    folder = workspace / "runs" / "adapted"
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    for name in ("labelled", "multiview", "distillation"):
        assert metrics[f"train/{name}/valid_share"] > 0

    checkpoint = str(folder / "checkpoints" / "last.ckpt")
    saved = str(folder / "config.yaml")
    capsys.readouterr()
    main(["test", "--config", saved, "--ckpt_path", checkpoint])
    printed = capsys.readouterr().out
    assert "geodesic error, median [cm]" in printed
    assert "/pair/" not in printed
    tested = json.loads((folder / "test" / "metrics.json").read_text())
    assert tested["stage"] == "test"
    assert tested["metrics"]["test/trivial/epipolar_median_px"] >= 0
    assert tested["metrics"]["test/pair/a-b/epipolar_median_px"] >= 0
    main(["validate", "--config", saved, "--ckpt_path", checkpoint])
    assert (folder / "validate" / "metrics.json").is_file()

    main(["predict", "--config", saved, "--ckpt_path", checkpoint])
    files = sorted((folder / "predict" / "predictions").glob("*/*.npz"))
    assert [f"{path.parent.name}/{path.stem}" for path in files] == [f"f{i}/{c}" for i in (6, 7) for c in "abc"]
    with np.load(files[0]) as arrays:
        assert arrays["foreground"].shape == (SIZE // 2, SIZE // 2)
        assert arrays["coordinate"].shape == (SIZE // 2, SIZE // 2, 3)
        background = arrays["foreground"] <= 0.5
        assert (arrays["vertex"][background] == -1).all()
        assert (arrays["vertex"][~background] >= 0).all()
        assert arrays["stride"] == 2
        np.testing.assert_allclose(arrays["intrinsics"][0, 0], 60.0, rtol=1e-5)


def test_an_existing_run_is_never_overwritten(workspace):
    before = (workspace / "runs" / "teacher" / "metrics.json").read_bytes()
    main(["fit", *arguments(workspace, "teacher"), "--trainer.max_steps", "2"])
    assert (workspace / "runs" / "teacher" / "metrics.json").read_bytes() == before
    assert json.loads((workspace / "runs" / "teacher-2" / "metrics.json").read_text())["step"] == 2


def test_resuming_continues_steps_and_optimiser(workspace):
    words = [*arguments(workspace, "control"), "--model.schedule", "constant"]
    main(["fit", *words, "--name", "whole", "--trainer.max_steps", "6"])
    main(["fit", *words, "--name", "half", "--trainer.max_steps", "4"])
    checkpoint = str(workspace / "runs" / "half" / "checkpoints" / "last.ckpt")
    main(["fit", *words, "--name", "rest", "--trainer.max_steps", "6", "--ckpt_path", checkpoint])
    whole, rest = (
        torch.load(workspace / "runs" / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "rest")
    )
    assert whole["global_step"] == rest["global_step"] == 6
    assert {entry["step"].item() for entry in rest["optimizer_states"][0]["state"].values()} == {6.0}
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(rest["state_dict"][name], value, msg=name)


def test_two_processes_train_and_evaluate_every_view_once(workspace):
    words = [*arguments(workspace, "adapted"), "--name", "two", "--trainer.max_steps", "2"]
    words += ["--trainer.devices", "2", "--trainer.strategy", "ddp_fork_find_unused_parameters_true"]
    words += ["--trainer.limit_val_batches", "1.0", "--data.eval_batch_size", "1"]
    single = [*arguments(workspace, "adapted"), "--name", "one", "--trainer.limit_val_batches", "1.0"]
    main(["fit", *words])
    runs = sorted(path.name for path in (workspace / "runs").iterdir() if path.name.startswith("two"))
    assert runs == ["two"]
    folder = workspace / "runs" / "two"
    assert (folder / "config.yaml").is_file()
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    both = json.loads((folder / "metrics.json").read_text())["metrics"]
    checkpoint = str(folder / "checkpoints" / "last.ckpt")
    main(["validate", *single, "--ckpt_path", checkpoint])
    alone = json.loads((workspace / "runs" / "one" / "validate" / "metrics.json").read_text())["metrics"]
    for name, value in alone.items():
        assert both[name] == pytest.approx(value, rel=1e-4, nan_ok=True), name


# Errors


def test_divergence_ends_with_status_1_and_names_the_term(workspace, capsys):
    words = [*arguments(workspace, "teacher"), "--name", "diverged", "--model.learning_rate", "1e30"]
    words += ["--model.schedule", "constant"]
    message = error_of(capsys, ["fit", *words], status=1)
    assert "step" in message
    assert "labelled = nan" in message or "labelled = inf" in message


def test_a_term_that_never_fires_ends_with_status_2(workspace, capsys):
    words = [*arguments(workspace, "adapted"), "--name", "silent", "--data.pairing.min_angle", "100"]
    assert "model.terms.multiview.weight" in error_of(capsys, ["fit", *words, "--model.on_silent", "raise"])
    with pytest.warns(UserWarning, match=r"model\.terms\.multiview\.weight"):
        main(["fit", *words])


BAD_OPTIONS = [
    (["--model.terms.multiview.wieght", "3"], "model.terms.wieght is not an option of dkp.losses.MultiviewTerm"),
    (["--model.terms.multiview.wieght", "3"], "did you mean weight?"),
    (["--model.terms.multiviw.weight", "3"], "no term multiviw (did you mean multiview?)"),
    (["--model.learning_rat", "3"], "model.learning_rat is not an option of dkp.tasks.SemiSupervisedTask"),
    (["--model.learning_rate", "fast"], "model.learning_rate: Expected a <class 'float'>. Got value: fast"),
    (["--model.detector.init_args.strid", "4"], "model.detector.strid is not an option of dkp.models.Detector"),
    (
        ["--trainer.max_stepps", "4"],
        "trainer.max_stepps is not an option of pytorch_lightning.Trainer (did you mean max_steps?)",
    ),
    (["--trainer.accelerator", "abacus"], "abacus"),
    (["--data.unlabelled", "nowhere"], "nowhere"),
    (["--model.teacher", "nowhere.ckpt"], "nowhere.ckpt"),
    (["--model.terms.multiview.weight", "-1"], "model.terms.multiview.weight is -1.0 where 0 or more is expected"),
    (["--model.terms.multiview.sigma", "wide"], "model.terms.sigma: Expected a <class 'float'>. Got value: wide"),
    (["--model.detector.init_args.encoder", "no_such_net"], "no_such_net"),
    (["--data.size", "33"], "33"),
    (["--model.surface", "human"], "model.surface is human"),
    (["--ckpt_path", "nowhere.ckpt"], "ckpt_path nowhere.ckpt does not exist"),
    (["--config", "nowhere.yaml"], "--config nowhere.yaml does not exist"),
]


@pytest.mark.parametrize(("words", "expected"), BAD_OPTIONS, ids=lambda value: str(value[0]) if value else "")
def test_bad_options_end_in_one_sentence(workspace, capsys, words, expected):
    message = error_of(capsys, ["fit", *arguments(workspace, "adapted"), "--name", "bad", *words])
    assert expected in message


BAD_FILES = [
    ("a: [1,", "not YAML"),
    ("- 1\n- 2", "list where keys with values are expected"),
    (
        "trainer: {max_epochz: 3}",
        "trainer.max_epochz is not an option of pytorch_lightning.Trainer (did you mean max_e",
    ),
    ("sizze: 3", "sizze is not an option of this command"),
    ("clip: ${sze}", "clip: Interpolation key 'sze' not found"),
    ("model: {init_args: {detectr: 1}}", "model.detectr is not an option of dkp.tasks.SemiSupervisedTask"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_FILES)
def test_bad_files_end_in_one_sentence(workspace, capsys, tmp_path, text, expected):
    (tmp_path / "bad.yaml").write_text(text)
    words = ["fit", *arguments(workspace, "adapted"), "--config", str(tmp_path / "bad.yaml")]
    words += ["--name", "bad_file"]
    assert expected in error_of(capsys, words)
    assert not (workspace / "runs" / "bad_file").exists()


def test_unknown_commands_list_the_known_ones(capsys):
    assert "expected one of fit, resume" in error_of(capsys, ["fitt"])
    assert "expected one of recording, --list, board" in error_of(capsys, ["import", "bord"])
    assert "needs one of recording, --list, board" in error_of(capsys, ["import"])


# Other commands


def test_help_is_quick_and_lists_every_command():
    least = math.inf
    for _ in range(3):  # one alone may be hit by other work
        before = os.times()
        done = subprocess.run([sys.executable, "-m", "dkp", "--help"], capture_output=True, text=True, check=True)
        after = os.times()
        least = min(least, after.children_user + after.children_system - before.children_user - before.children_system)
    assert least < 2.0
    for name in (
        "train",
        "fit",
        "validate",
        "test",
        "predict",
        "pseudo-label",
        "check",
        "import recording",
        "import board",
        "synthesize",
    ):
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"  {name} "))
        assert line.strip().endswith(".")


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out.startswith("dkp 0.")


def test_check_prints_the_report_and_refuses_what_is_no_capture(workspace, capsys, tmp_path):
    main(["check", str(workspace / "plane")])
    assert "a" in capsys.readouterr().out
    main(["check", str(workspace / "plane"), "--json"])
    assert json.loads(capsys.readouterr().out)
    assert str(tmp_path) in error_of(capsys, ["check", str(tmp_path)])


def test_the_list_of_camera_files_is_printed(capsys):
    main(["import", "--list"])
    assert "kalibr" in capsys.readouterr().out


def test_required_keywords_stay_options(capsys):
    assert "export has no --out OUT" in error_of(capsys, ["export", "human-small"])
    assert "instants" in error_of(capsys, ["check", ".", "--instants", "many"])


MISTAKES = [
    (["pseudo-label", "a", "b", "c", "--trainer.precision", "32-true"], "--trainer.precision is not an option of dkp"),
    (["import", "recording", ".", "b", "c", "--unit", "m", "--detection", "X"], "did you mean --detections?"),
    (["import", "toml", ".", "b", "c", "--on-bat", "skip"], "did you mean --on-bad?"),
    (["import", "toml", ".", "b", "c", "--splits", "{train:", "0:8}"], "--splits {train: ends before its brackets do"),
    (["import", "toml", ".", "b", "c", "--cameras", "a,b"], """cameras: expected a list, such as '["a", "b"]'"""),
    (
        ["import", "toml", ".", "b", "c", "--splits", "a=:8"],
        """splits: expected keys with values, such as '{"a": "b"}'""",
    ),
    (["check", "a", "b"], "found the word 'b'"),
    (["fit", "--sizee", "3"], "--sizee is not an option of dkp fit (did you mean --size?)"),
    (["resume"], "dkp resume needs words after it, expected dkp resume RUN"),
    (["test"], "dkp test needs words after it, expected dkp test RUN"),
]


@pytest.mark.parametrize(("words", "expected"), MISTAKES, ids=lambda value: " ".join(value)[-20:])
def test_mistakes_are_named_by_what_they_are(capsys, words, expected):
    assert expected in error_of(capsys, words)


@pytest.mark.parametrize("option", ["--on-bad", "--on_bad"])
def test_hyphens_and_underscores_are_the_same(capsys, option):
    assert "on_bad" in error_of(capsys, ["import", "toml", ".", "b", "c", "--unit", "m", option, "never"])


def heed_interrupts():
    """A background job of a shell ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_interrupt_ends_with_status_130(workspace):
    words = [*arguments(workspace, "teacher"), "--name", "interrupted"]
    words += ["--trainer.max_steps", "100000", "--data.steps_per_epoch", "100000", "--trainer.log_every_n_steps", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dkp", "fit", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=heed_interrupts,
    )
    table = workspace / "runs" / "interrupted" / "metrics.csv"
    limit = time.monotonic() + 120
    while not (table.is_file() and table.stat().st_size) and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err[-2000:]
    assert err.strip().splitlines()[-1] == "dkp: error: interrupted"


NAP = """
import subprocess, sys, types
from dkp.cli import commands

def nap():
    child = subprocess.Popen(["sleep", "300"])
    try:
        print(child.pid, flush=True)
        child.wait()
    finally:
        child.terminate()
        child.wait()

module, name = commands.FUNCTIONS["weights"].split(":")
sys.modules[module] = types.SimpleNamespace(**{name: nap})
commands.main(["weights"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_command_that_is_ended_ends_what_it_has_started():
    process = subprocess.Popen([sys.executable, "-c", NAP], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (143, "dkp: error: ended by SIGTERM")
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


# The pieces


def test_one_sentence_finds_key_and_reason_in_a_tree():
    message = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'A'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'dkp.tasks.LabelledTask':
        Parser key "detector":
          Expected a <class 'int'>. Got value: x
    - Expected a <class 'NoneType'>
  Given value type: <class 'dict'>"""
    assert one_sentence(message) == "model.detector: Expected a <class 'int'>. Got value: x"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "human-small"], "dkp export has no --out OUT, expected dkp export CKPT_PATH --out OUT [OPTIONS]"),
        (
            ["import", "recording", "a.toml", "x"],
            "recording has no OUT, expected dkp import recording CALIBRATION MEDIA OUT",
        ),
        (["import", "recordings"], "unknown kind 'recordings' (did you mean recording?)"),
    ],
)
def test_what_is_missing_is_named_as_it_is_typed(capsys, words, said):
    with pytest.raises(SystemExit):
        main(words)
    assert said in capsys.readouterr().err


def test_one_sentence_keeps_plain_messages():
    assert one_sentence("the following arguments are required: out") == "the following arguments are required: out"


def test_a_full_disk_is_one_sentence():
    said = ("what is to be written does not fit on the disk (No space left on device)", 2)
    assert explained(OSError(errno.ENOSPC, "No space left on device")) == said


def test_did_you_mean_only_what_is_close():
    assert did_you_mean("dkp.models.Detector", "widht") == " (did you mean width?)"
    assert did_you_mean("dkp.models.Detector", "zzz") == ""
    assert did_you_mean("dkp.no.Such", "width") == ""
