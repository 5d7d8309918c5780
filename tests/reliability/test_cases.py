"""Inputs that went wrong once, by command: folders beside the recordings, a far world, a folder nobody may write."""

import contextlib
import csv
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dkp.captures import Capture
from dkp.cli import main

from .conftest import ADAPTED, small_run

CASES = Path(os.environ.get("DKP_DATA", "nowhere")).parent / "cases"
needs_cases = pytest.mark.skipif(not (CASES / "_base").is_dir(), reason="needs the folder cases beside DKP_DATA")

OPENPOSE = ["--layout", "body_25"]
FEW = ["--subjects", "1", "--frames", "2", "--size", "32", "--cameras", "3", "--workers", "1"]
EXCHANGED = r"warning: cam2 and cam1 look exchanged: [\d.]+ px as given, [\d.]+ px exchanged"
MASKED = ["--masks", "CASE/masks"]
PATHS = json.dumps([f"{CASES}/_base/videos/cam{index}.mp4" for index in (1, 2, 3)])
POSES = json.dumps([f"{CASES}/_base/openpose/cam{index}_json" for index in (1, 2, 3)])
# Case -> options of the import; what the import says; what `dkp check` warns of, or nothing.
READ = {
    "_base": ([], "", None),
    "swap_noise": (OPENPOSE, "", EXCHANGED),
    "swap_noise_right": (OPENPOSE, "", None),
    "det_nanperson": (OPENPOSE, "", None),
    "pose2sim_names": (OPENPOSE, "", None),
    "anipose_names": ([*OPENPOSE, "--detections", POSES], "", None),
    "vid_webm": (OPENPOSE, "", None),
    "mask_inverted": (
        [*MASKED, "--boxes", "masks"],
        "are they inverted?",
        "warning: the masks of cam1, cam2, cam3 .* look inverted",
    ),
    "mask_01": (MASKED, "", None),
    "det_two": (OPENPOSE, "several people are seen in 12 of 12 frames", None),
    "det_huge": (OPENPOSE, "12 of 300 detected joints lie far outside of frames", None),
    "cal_bom": (OPENPOSE, "", None),
    "cal_unicode": ([*OPENPOSE, "--media", PATHS, "--detections", POSES], "", None),
    "cal_fisheye_str": (OPENPOSE, "", None),
}
REFUSED = {
    "anipose_names": ("has cam1_json, cam2_json, cam3_json for camera 'A', .* the paths in the order of the cameras"),
    "cal_unicode": "has cam1.mp4, cam2.mp4, cam3.mp4 for camera 'Küche', .* the paths in the order of the cameras",
    "vid_fps": "different frame rates .cam1 30, cam2 30, cam3 60 frames per second",
    "det_zero": "cam1_json has 12 files|cam1_json has 12 frames with 12 people, the highest confidence is 0;",
    "det_norm": "all 300 keypoints have coordinates from 0.25 to 0.81, which look like shares of the image's size",
}


def imported(case: str, out: Path, options: list[str]) -> list[str]:
    """The words that import a case; videos and detections are those of `_base` where it has none."""
    folder = CASES / case
    words = {"--detections": str(folder / "openpose"), "--masks": "none"}
    if not (folder / "openpose").is_dir():
        words["--detections"] = str(CASES / "_base" / "openpose")
    media = folder / "videos" if (folder / "videos").is_dir() else CASES / "_base" / "videos"
    words |= {key: value.replace("CASE", str(folder)) for key, value in batched(options)}
    start = ["import", "toml", str(folder / "calibration.toml"), words.pop("--media", str(media)), str(out)]
    return [*start, "--unit", "m", "--workers", "1", *(word for pair in words.items() for word in pair)]


def batched(options: list[str]) -> list[tuple[str, str]]:
    """Options in pairs of name and value."""
    return list(zip(options[::2], options[1::2], strict=True))


@needs_cases
@pytest.mark.parametrize("case", READ)
def test_cases_that_are_read(case, tmp_path, capsys, caplog):
    options, said, warned = READ[case]
    main(imported(case, tmp_path / "c", options))
    assert said in caplog.text
    main(["check", str(tmp_path / "c")])
    report = capsys.readouterr().out
    warnings = [line for line in report.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == (warned is not None), warnings
    assert not warned or re.match(warned, warnings[0]), warnings
    if "noise" not in case:
        assert re.search(r"all pairs +joints +\d+ +0\.00 +0\.00 +0\.00 +0\.00", report)
    assert len(Capture.open(tmp_path / "c").views) == 36


@needs_cases
@pytest.mark.parametrize("case", REFUSED)
def test_cases_that_are_refused(case, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(imported(case, tmp_path / "c", OPENPOSE))
    assert stopped.value.code == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert re.search(REFUSED[case], sentence), sentence
    assert list(tmp_path.iterdir()) == []


@needs_cases
@pytest.mark.slow
def test_a_far_world_trains_as_a_near_one(tmp_path, capsys):
    """Six steps by command, of which the multiview term finds as many pairs and the same loss."""
    far, near = CASES / "far_5e+06", tmp_path / "near"
    shutil.copytree(far, near)
    capture = json.loads((near / "capture.json").read_text())
    rig = capture["cameras"]
    rotations, translations = (np.array([camera[key] for camera in rig]) for key in ("rotation", "translation"))
    origin = -np.einsum("cij,ci->cj", rotations, translations).mean(axis=0)
    assert np.linalg.norm(origin) > 4e6
    for camera, rotation, translation in zip(rig, rotations, translations, strict=True):
        camera["translation"] = (translation + rotation @ origin).tolist()
    (near / "capture.json").write_text(json.dumps(capture))
    main(["check", str(far), "--strict"])
    main(["synthesize", str(tmp_path / "source"), *FEW])
    fitted(tmp_path, "teacher", near, 1, "board/teacher")
    losses = [multiview(fitted(tmp_path, name, path, 6, *ADAPTED)) for name, path in (("far", far), ("near", near))]
    assert losses[0].shape == (6, 2)
    assert np.all(losses[0] > 0)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def fitted(root: Path, name: str, target: Path, steps: int, *files: str) -> Path:
    """Train some steps by command; the run's folder."""
    words = small_run(root, *files)
    words += ["--name", name, "--source", str(root / "source"), "--target", str(target), "--surface", "human"]
    words += ["--test", f"{root / 'source'}#", "--data.val", "null", "--trainer.max_steps", str(steps)]
    main(["fit", *words, "--trainer.log_every_n_steps", "1", "--data.num_workers", "0"])
    return root / "runs" / name


def multiview(run: Path) -> np.ndarray:
    """(steps, 2): the multiview term and its share of valid cells at each step."""
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    found = [[row.get("train/multiview"), row.get("train/multiview/valid_share")] for row in rows]
    return np.array([values for values in found if all(values)], np.float64)


@pytest.mark.parametrize("command", ["fit", "synthesize"])
def test_a_folder_that_may_not_be_written(command, workspace, capsys):
    """The user may read everything but write nowhere, as root never is: one sentence with the path and the reason."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(workspace / "plane", folder / "plane")
        words = ["fit", *small_run(folder, "board/teacher"), "--trainer.max_steps", "1", "--data.num_workers", "0"]
        words += ["--root", "{}"]
        if command == "synthesize":
            words = ["synthesize", "{}/c", *FEW]
        main([word.replace("{}", str(folder / "open")) for word in words])  # and import all that it needs
        (folder / "runs").mkdir(mode=0o555)
        capsys.readouterr()
        with nobody(), pytest.raises(SystemExit) as stopped:
            main([word.replace("{}", str(folder / "runs")) for word in words])
        assert stopped.value.code == 2
        (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dkp: error: ")]
        assert str(folder / "runs") in sentence
        assert "Permission denied" in sentence
        assert list((folder / "runs").iterdir()) == []


@contextlib.contextmanager
def nobody():
    """Be a user without any right, where this process is root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
