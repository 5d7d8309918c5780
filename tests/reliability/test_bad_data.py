"""Captures with bad files: they are left out and counted, and the rest gives the numbers of a capture without them."""

import csv
import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dkp.captures import Capture, DenseLabel
from dkp.captures.labels import write_dense_label
from dkp.cli import main

from .conftest import ADAPTED, at_end_of_step, finish, small_run, start

STEPS, EPOCH = 6, 3
SOAK = float(os.environ.get("DKP_SOAK", "0"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def spoil_label(capture, view) -> None:
    dense = capture.label(view)
    weights = np.where(dense.foreground[..., None], np.nan, 0).astype(np.float32)
    write_dense_label(capture.path / view.label, DenseLabel(dense.face, weights))


FAULTS = {
    "image cut": lambda capture, view: cut(capture.path / view.image),
    "image empty": lambda capture, view: (capture.path / view.image).write_bytes(b""),
    "image gone": lambda capture, view: (capture.path / view.image).unlink(),
    "mask cut": lambda capture, view: cut(capture.path / view.mask),
    "label cut": lambda capture, view: cut(capture.path / view.label),
    "label not a number": spoil_label,
}


def faulty_and_clean(source: Path, folder: Path, faults: dict[tuple[str, str], str]) -> tuple[Path, Path]:
    """A copy of a capture with faults at some (frame, camera), and a copy that never had what is bad.

    Where labels are not read, in the unlabelled part of training, a view with a bad label is as good as another; the
    clean copy has it without a label. Of the other views it has nothing.
    """
    faulty, clean = folder / "faulty", folder / "clean"
    for copy in (faulty, clean):
        shutil.copytree(source, copy)
    capture = Capture.open(faulty)
    for view in capture.views:
        if (view.frame, view.camera) in faults:
            FAULTS[faults[view.frame, view.camera]](capture, view)
    left = []
    for row in map(json.loads, (clean / "views.jsonl").read_text().splitlines()):
        fault = faults.get((row["frame"], row["camera"]), "")
        if fault.startswith("label") and row["frame"] < "f6":
            left.append(row | {"label": None})
        elif not fault:
            left.append(row)
    (clean / "views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in left))
    manifest, frames = json.loads((clean / "capture.json").read_text()), {row["frame"] for row in left}
    manifest["splits"] = {
        name: [frame for frame in split if frame in frames] for name, split in manifest["splits"].items()
    }
    (clean / "capture.json").write_text(json.dumps(manifest))
    return faulty, clean


def options(capture: Path, root: Path, name: str) -> list[str]:
    words = small_run(capture.parent, *ADAPTED)
    words += ["--root", str(root), "--name", name, "--model.teacher", "null", "--source", str(capture)]
    words += [
        "--target",
        str(capture),
        "--data.val",
        f"{capture}#test",
        "--surface",
        str(capture / "surface.npz"),
        "--data.num_workers",
        "0",
    ]
    words += ["--trainer.max_steps", str(STEPS), "--data.steps_per_epoch", str(EPOCH)]
    return [*words, "--trainer.log_every_n_steps", "1", "--trainer.enable_model_summary", "false"]


def fit_and_test(capture: Path, root: Path, name: str, kill_at: int | None = None, resumed: bool = False) -> None:
    run = root / name
    at_end_of_step(kill_at)
    main(["resume", str(run)] if resumed else ["fit", *options(capture, root, name)])
    main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")])


def results(run: Path) -> tuple[torch.Tensor, dict[str, float | None]]:
    """Weights and metrics of testing; no number on the way was none, but consistency where no pair of views is left."""
    with (run / "metrics.csv").open() as file:
        values = [(name, float(value)) for row in csv.DictReader(file) for name, value in row.items() if value]
    undefined = {name for name, value in values if not math.isfinite(value)}
    assert all(name.startswith("val/") and ("epipolar" in name or "matched" in name) for name in undefined), undefined
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
    return torch.cat([value.flatten().float() for value in state.values()]), json.loads(
        (run / "test" / "metrics.json").read_text()
    )["metrics"]


def require_same_as_clean(
    source: Path, folder: Path, faults: dict[tuple[str, str], str], kill_at: int | None, timeout: float = 300
) -> None:
    """Train and test on both copies, the faulty one with a kill on the way; weights and metrics are the same.

    A process that takes longer than the timeout [s] counts as one that hangs.
    """
    faulty, clean = faulty_and_clean(source, folder, faults)
    log = folder / "faulty.log"
    if kill_at is not None:
        assert finish(start(fit_and_test, faulty, folder, "a", kill_at, log=log), timeout) == -signal.SIGKILL
    process = start(fit_and_test, faulty, folder, "a", None, kill_at is not None, log=log)
    assert finish(process, timeout) == 0, log.read_text()
    assert finish(start(fit_and_test, clean, folder, "b", log=folder / "clean.log"), timeout) == 0
    (weights, measured), (expected_weights, expected) = results(folder / "a"), results(folder / "b")
    assert torch.equal(weights, expected_weights)
    assert measured == expected
    train = sum(int(frame[1:]) < 6 for frame, _ in faults)
    for split, count, total in (("train", train, 18), ("test", len(faults) - train, 6)):
        counted = f"skipped {count} of {total} views that cannot be used" in log.read_text()
        assert counted == (count > 0), (split, faults)


def test_faults_of_every_kind_change_nothing_for_the_rest(workspace, tmp_path):
    """Bad files, a camera that drops out in the middle, an instant left with one view, an instant left with none."""
    faults = {("f0", "a"): "image cut", ("f1", "b"): "label not a number", ("f2", "a"): "mask cut"}
    faults |= {("f2", "b"): "image gone", ("f3", "c"): "label cut", ("f4", "c"): "image gone"}
    faults |= {("f5", "c"): "image empty", ("f6", "b"): "image cut"}
    faults |= {("f7", "a"): "image gone", ("f7", "b"): "image cut", ("f7", "c"): "image empty"}
    require_same_as_clean(workspace / "plane", tmp_path, faults, kill_at=None)


def test_a_fault_is_an_error_where_that_is_asked_for(workspace, tmp_path):
    faulty, _ = faulty_and_clean(workspace / "plane", tmp_path, {("f1", "b"): "image cut"})
    log = tmp_path / "log"
    words = [*options(faulty, tmp_path, "strict"), "--data.on_bad", "raise"]
    assert finish(start(main, ["fit", *words], log=log)) == 2
    (message,) = [line for line in log.read_text().splitlines() if line.startswith("dkp: error: ")]
    assert "expected an image" in message
    assert "data.on_bad skip" in message


@pytest.mark.skipif(not SOAK, reason="DKP_SOAK is not set: for how many minutes faults are injected")
@pytest.mark.timeout(60 * SOAK + 7200)
def test_soak(workspace, tmp_path):
    """Random faults in random views and a kill at a random step, again and again."""
    rng = np.random.default_rng(0)
    begin, cycles, count = time.monotonic(), 0, dict.fromkeys(FAULTS, 0)
    views = [(view.frame, view.camera) for view in Capture.open(workspace / "plane").views]
    while time.monotonic() - begin < 60 * SOAK:
        chosen = rng.choice(len(views), rng.integers(1, 9), replace=False)
        faults = {views[index]: str(rng.choice(list(FAULTS))) for index in chosen}
        folder = tmp_path / str(cycles)
        folder.mkdir()
        require_same_as_clean(workspace / "plane", folder, faults, int(rng.integers(1, STEPS)), 1800)
        shutil.rmtree(folder)
        cycles += 1
        for fault in faults.values():
            count[fault] += 1
        minutes = (time.monotonic() - begin) / 60
        print(f"\n{cycles} rounds in {minutes:.1f} minutes, a kill in each; {sum(count.values())} faults: {count}")
