"""What `dkp predict` is about: files, a run or a capture, and the words that the Lightning command gets of it."""

import pytest

from dkp.captures import Capture
from dkp.cli import main
from dkp.errors import InputError
from dkp.runs.options import capture_words, predicts_media, run_first, with_underscores


@pytest.fixture
def folders(tmp_path):
    for name, file in (("capture", "capture.json"), ("run", "config.yaml"), ("photos", "a.png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    return tmp_path


@pytest.mark.parametrize(("name", "media"), [("photos", True), ("clip.mp4", True), ("run", False), ("--config", False)])
def test_files_are_told_from_runs_and_options(folders, name, media):
    words = [name if name.startswith("-") else str(folders / name), "--out", "x"]
    assert predicts_media(words) is media
    assert capture_words(words) == words


def test_a_capture_is_for_the_shipped_detector_of_its_surface_unless_another_is_named(folders, people, planes):
    capture, run = str(people / "bare"), str(folders / "run")
    shipped = ["--target", f"{capture}#", "--ckpt_path", "human-small", "--name", "bare"]
    assert capture_words([capture]) == shipped
    assert capture_words([capture, "--ckpt-path", "human-small"]) == shipped
    assert capture_words([f"{capture}#test"])[1] == f"{capture}#test"
    assert capture_words([capture, "--config", "x.yaml", "--name", "y"]) == [
        "--target", f"{capture}#", "--config", "x.yaml", "--name", "y",
    ]  # fmt: skip
    with pytest.raises(InputError, match="--out is for images and videos"):
        capture_words([capture, "--out", "x"])
    for option in (["--ckpt-path", run], [f"--ckpt_path={run}"]):
        words = run_first(with_underscores(capture_words([capture, *option, "--root", "y"])))
        assert words == [run, "--data.predict", f"{capture}#", "--root", "y"]
        assert not predicts_media(words)
    with pytest.raises(InputError, match="ships no detector for its surface, plane, expected --ckpt-path"):
        capture_words([str(planes / "mine")])


def test_a_capture_of_people_is_predicted_by_name(people, tmp_path):
    main(["predict", str(people / "masked"), "--root", str(tmp_path), "--trainer.enable_progress_bar", "false"])
    names = sorted(path.name for path in tmp_path.rglob("*.npz"))
    assert names == sorted(f"{view.camera}.npz" for view in Capture.open(people / "masked").views)
    assert (tmp_path / "masked" / "predict").is_dir()


def test_a_detector_of_another_surface_predicts_nothing(people, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["predict", str(people / "masked"), "--ckpt-path", "dog-small", "--root", str(tmp_path)])
    assert "model.surface is dog with 6382 vertices where the capture's surface, human" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.npz"))


def test_a_detector_is_a_run_a_checkpoint_of_one_or_in_the_box(tmp_path):
    rest = ["--target", "captures/mine"]
    assert run_first(["--ckpt_path", "human-small", *rest]) == ["--ckpt_path", "human-small", *rest]
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(InputError, match="lies in no run"):
        run_first([f"--ckpt_path={file}", *rest])
    (tmp_path / "run" / "config.yaml").touch()
    assert run_first([f"--ckpt_path={file}", *rest]) == [str(tmp_path / "run"), f"--ckpt_path={file}", *rest]
    assert run_first([*rest, f"--ckpt_path={tmp_path / 'run'}"]) == [str(tmp_path / "run"), *rest]
    with pytest.raises(InputError, match="ckpt_path runs/x is not there, expected the folder of a run"):
        run_first(["--ckpt_path", "runs/x", *rest])
    for given in (["--ckpt_path=a.onnx", *rest], ["--config=a.yaml", "--ckpt_path", "a.onnx"]):
        with pytest.raises(
            InputError, match=r"ckpt_path is a\.onnx, an exported detector, which `dkp predict` takes for "
        ):
            run_first(given)
    with pytest.raises(InputError, match="no detector is named, expected RUN, --ckpt-path NAME"):
        run_first(rest)
    for given in ([str(tmp_path), "--ckpt_path", "best"], ["--config=a.yaml", "--ckpt_path", str(file)]):
        assert run_first(given) == given  # the run or the recipe is named already
