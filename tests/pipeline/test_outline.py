"""A main job says what it makes, and where it is stopped what is kept and how to go on."""

import pytest

from dkp.captures import CaptureWriter
from dkp.errors import InputError
from dkp.pipeline import train
from dkp.pipeline.job import LEDGER
from dkp.pipeline.outline import kept
from dkp.pipeline.stages import StageLedger, StageRecord


def test_a_job_stopped_amid_rendering_says_what_it_would_make_and_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stopped(path, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("dkp.pipeline.captures.synthesize", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(seed=3, runs=str(tmp_path / "my runs"), captures=str(tmp_path), overrides=["--trainer.max_steps=5"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "this job makes, what is there already left out:"
    assert [line.split(":")[0].strip() for line in said[1:8]] == [
        "1. target", "2. source", "3. teacher", "4. registered", "5. subject",
            "6. control, adapted", "7. tests",
    ]  # fmt: skip
    assert said[-1] == (
        "dkp: stopped; nothing is kept, the capture that was being made will begin anew; go on with: dkp train "
        f"--seed 3 --runs '{tmp_path}/my runs' --captures {tmp_path} --overrides '[\"--trainer.max_steps=5\"]'"
    )


def test_a_teacher_that_is_none_is_said_before_anything_is_rendered(tmp_path):
    with pytest.raises(InputError, match=r"dkp ships no weights 'a.onnx', expected one of dog-small, human-small"):
        train(teacher="a.onnx", runs=str(tmp_path / "r"), captures=str(tmp_path / "c"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_what_has_ended_and_what_has_a_checkpoint(tmp_path):
    ledger = StageLedger(stages={"test teacher": StageRecord("a", "dkp test", 1.0, 1)})
    ledger.begun = {"control": "b", "adapted": "c"}
    ledger.write(tmp_path / LEDGER)
    (tmp_path / "control" / "checkpoints").mkdir(parents=True)
    (tmp_path / "control" / "checkpoints" / "last.ckpt").touch()
    assert kept(tmp_path, [tmp_path / "target", tmp_path / "source"]) == (
        f"stopped; {tmp_path}/target, {tmp_path}/source, stage test teacher are kept, control will go on from the last "
        "checkpoint, adapted will begin anew"
    )


def test_a_capture_that_is_interrupted_says_that_it_begins_anew(planes, tmp_path, caplog):
    with (
        pytest.raises(KeyboardInterrupt),
        CaptureWriter(tmp_path / "c", name="c", surface=planes / "mine" / "surface.npz", cameras={}),
    ):
        raise KeyboardInterrupt
    assert caplog.messages == [f"{tmp_path}/c was not finished: nothing of it is kept, the same command begins it anew"]
    assert list(tmp_path.iterdir()) == []
