"""The main job from end to end, on a plane that a small network learns in seconds."""

import json
import math

import cv2
import pytest
import yaml

from dkp.captures import Capture
from dkp.cli import main
from dkp.pipeline.job import DETECTORS, JOINT_KEYS, SUMMARY_KEYS

from ..importers.test_fields import iuv_of

OVERRIDES = [
    "--size=32",
    "--model.init_args.detector.init_args.width=8",
    "--model.init_args.detector.init_args.levels=3",
    "--trainer.max_steps=60",
    "--data.init_args.steps_per_epoch=30",
    "--data.init_args.num_workers=0",
    "--trainer.enable_progress_bar=false",
]


@pytest.fixture(scope="module")
def job(planes, tmp_path_factory):
    """The arguments of a main job whose teacher is a folder of IUV images, which has run once, and its folder."""
    runs = tmp_path_factory.mktemp("runs")
    capture = Capture.open(planes / "mine")
    for view in capture.views:
        path = runs / "iuv" / view.frame / f"{view.camera}_iuv.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), iuv_of(capture, view))
    words = ["train", "--capture", str(planes / "mine"), "--teacher", str(runs / "iuv"), "--runs", str(runs)]
    words += ["--captures", str(runs / "captures"), "--accelerator", "cpu", "--seed", "3", "--overrides"]
    main([*words, json.dumps(OVERRIDES)])
    return words, runs / "train-mine-seed3"


@pytest.mark.slow
def test_the_table_has_every_detector_and_the_trivial_field(job):
    summary = json.loads((job[1] / "summary.json").read_text())
    assert list(summary) == ["teacher", "control", "adapted", "trivial"]
    keys = [key for key in SUMMARY_KEYS if key not in {*JOINT_KEYS, "mask_iou"}]  # labels, no joints
    assert all(list(column) == keys for column in summary.values())
    for name in DETECTORS:
        assert all(math.isfinite(summary[name][key]) for key in keys)
    trivial = summary["trivial"]
    assert trivial["geodesic_median_cm"] is None
    assert trivial["epipolar_median_px"] > 0
    lines = (job[1] / "summary.md").read_text().splitlines()
    assert lines[0] == "| | teacher | control | adapted | trivial |"
    assert len(lines) == 2 + len(keys)
    assert "geodesic error" in (job[1] / "report.html").read_text()


@pytest.mark.slow
def test_the_detectors_have_learned(job):
    """Points of the 40 cm plane drawn at random are 20 cm apart, the middle is 15 cm from them."""
    summary = json.loads((job[1] / "summary.json").read_text())
    assert all(summary[name]["geodesic_median_cm"] < 5 for name in DETECTORS)
    assert all(summary[name]["coverage"] > 0.8 for name in DETECTORS)


@pytest.mark.slow
def test_every_stage_leaves_its_files(job):
    folder = job[1]
    for name in DETECTORS:
        config = yaml.safe_load((folder / name / "config.yaml").read_text())
        assert (config["name"], config["size"], config["seed_everything"]) == (name, 32, 3)
        assert config["source"] == f"{folder.parent}/captures/mine-by-iuv#train"
        assert "train/labelled" in (folder / name / "metrics.csv").read_text().splitlines()[0]
        assert json.loads((folder / name / "metrics.json").read_text())["step"] == 60
        assert json.loads((folder / name / "test" / "metrics.json").read_text())["stage"] == "test"
        assert (folder / name / "checkpoints" / "last.ckpt").is_file()
    adapted = (folder / "adapted" / "metrics.json").read_text()
    assert json.loads(adapted)["metrics"]["train/multiview/valid_share"] > 0
    commands = (folder / "commands.txt").read_text().splitlines()
    assert [line.split()[:2] for line in commands] == [["dkp", "fit"]] * 3 + [["dkp", "test"]] * 3
    assert {path.name for path in folder.glob("*.log")} == {
        *(f"{name}.log" for name in DETECTORS),
        *(f"test-{name}.log" for name in DETECTORS),
    }


@pytest.mark.slow
def test_the_figure_shows_labels_and_three_fields(job):
    figure = cv2.imread(str(job[1] / "fields.png"))
    assert figure is not None
    assert min(figure.shape[:2]) > 300
    assert figure.std() > 10


@pytest.mark.slow
def test_a_second_job_moves_the_first_aside_and_says_what_failed(job, capsys):
    words, folder = job
    before = (folder / "summary.json").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        main([*words, json.dumps(["--trainer.max_step=3"])])
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("dkp: error: teacher ended with status 2; the end of ")
    assert message.endswith("trainer.max_step is not an option of pytorch_lightning.Trainer (did you mean max_steps?)")
    assert (folder.with_name(f"{folder.name}.1") / "summary.json").read_bytes() == before
    assert not (folder / "summary.json").exists()
    assert (folder / "teacher.log").is_file()
