"""Stages and their ledger: what has been run by the present recipe."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dkp.errors import InputError
from dkp.pipeline.stages import Stage, StageLedger, StageRecord, digest, to_do


def test_stages_after_one_that_is_not_done_are_forgotten():
    stages = [Stage(name, ["fit"], Path(name), "k") for name in ("a", "b", "c")]
    ledger = StageLedger(stages={stage.name: StageRecord("k", "dkp fit", 1.0, 1) for stage in stages})
    assert to_do(stages, ledger) == []
    changed = [stages[0], replace(stages[1], key="other"), stages[2]]
    assert to_do(changed, ledger) == changed[1:]
    assert list(ledger.stages) == ["a"]


def test_fingerprints_differ_for_different_values():
    assert digest({"a": 1, "b": (2,)}) == digest({"b": [2], "a": 1})
    assert digest([1]) != digest(["1"])


def test_a_ledger_that_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "stages.json"
    file.write_text(json.dumps({"stages": {"fit": {"wrong": 1}}, "begun": {}}))
    with pytest.raises(InputError, match=r"stages\.json: found TypeError, expected a ledger"):
        StageLedger.read(file)
