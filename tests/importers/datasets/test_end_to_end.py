"""From the files of a data set to the measured detectors: import, an epoch of teacher and of adaptation, test."""

import json

import pytest

from dkp.cli import main
from dkp.recipes import recipe_folder

from . import test_dannce, test_human36m, test_openmonkey, test_skipose

SMALL = [
    "--trainer.accelerator=cpu", "--trainer.max_steps=1", "--trainer.enable_progress_bar=false", "--size=32",
    "--data.num_workers=0", "--data.steps_per_epoch=1", "--model.detector.width=8", "--model.detector.levels=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A labelled capture of rendered people."""
    out = tmp_path_factory.mktemp("source") / "people"
    main(
        ["synthesize", str(out), "--subjects", "2", "--frames", "1", "--cameras", "3", "--size", "32", "--workers", "1"]
    )
    return out


JOINTS = (
    "nose left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip left_knee "
    "right_knee left_ankle"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write", "options"),
    [
        ("human36m", test_human36m.write, ["--masks", "false"]),
        ("skipose", test_skipose.write, []),
        ("openmonkey", test_openmonkey.write, ["--surface", "human"]),
        (
            "dannce",
            test_dannce.write,
            ["--surface", "human", "--names", "[Camera1, Camera2, Camera3]", "--layout", "keypoints.yaml"],
        ),
    ],
)
def test_from_files_to_a_measured_detector(labelled, tmp_path, monkeypatch, capsys, name, write, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keypoints.yaml").write_text("".join(f"{n}: {joint}\n" for n, joint in enumerate(JOINTS.split())))
    source, capture, root = write(tmp_path / "files"), tmp_path / name, tmp_path / "runs"
    main(["import", name, str(source), str(capture), "--size", "32", "--workers", "1", *options])
    main(["check", str(capture)])
    words = ["--source", str(labelled), "--target", str(capture), "--root", str(root), *SMALL]
    main(["fit", "--config", str(recipe_folder() / "person/teacher.yaml"), *words])
    optional = [f"--model.terms.{term}.optional=true" for term in ("distillation", "multiview", "consensus")]
    main(["fit", "--config", str(recipe_folder() / "person/adapted.yaml"), *words, *optional])  # it has learned nothing
    main(["test", str(root / "adapted"), "--model.metrics.threshold=0"])  # every cell may show a joint
    measured = json.loads((root / "adapted" / "test" / "metrics.json").read_text())["metrics"]
    assert measured["test/joints"] > 0
    assert "test/epipolar_median_px" in measured
    assert measured["test/joint/left_shoulder/cm"] > 0
    assert "left_shoulder" in capsys.readouterr().out  # the table of joints
