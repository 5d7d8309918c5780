"""`dkp pseudo-label` with a tiny detector, and the retraining on what it writes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dkp.captures import Capture, CaptureWriter, DenseLabel
from dkp.cli import main
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.pipeline.pseudo_labels import pseudo_label, target_of
from dkp.surface import Surface
from dkp.synthetic.rasteriser import rasterise

CONFIGS = Path(__file__).parents[2] / "configs"
SIDE, SIZE = 0.4, 32


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A labelled capture of a plane, whose colours are its coordinates, and a detector trained on it."""
    folder = tmp_path_factory.mktemp("bootstrapping")
    surface = Surface.plane(SIDE, SIDE, 0.05)
    cameras = {}
    for name, angle in (("a", -0.5), ("b", 0.0), ("c", 0.5)):
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        cameras[name] = Camera.create(
            torch.tensor([[60.0, 0, SIZE / 2], [0, 60.0, SIZE / 2], [0, 0, 1]], dtype=torch.float64),
            rotation,
            np.array([0, 0, 1.0]) - rotation @ [SIDE / 2, SIDE / 2, 0],
            image_size=torch.tensor([SIZE, SIZE]),
        )
    frames = [f"f{number}" for number in range(4)]
    splits = {"train": frames[:3], "test": frames[3:]}
    with CaptureWriter(folder / "plane", name="plane", surface=surface, cameras=cameras, splits=splits) as writer:
        for time, frame in enumerate(frames):
            for name, camera in cameras.items():
                local = surface.vertices @ camera.rotation.numpy().T + camera.translation.numpy()
                seen = rasterise(local, surface.faces, camera.intrinsics.numpy(), SIZE, SIZE)
                shown = seen.face >= 0
                image = np.full((SIZE, SIZE, 3), 20.0)
                place = surface.coordinates(seen.face[shown], seen.barycentric[shown]) / SIDE
                image[shown] = 55 + 50 * time + 100 * np.stack([place[:, 0], place[:, 1], 1 - place[:, 0]], 1) / 2
                label = DenseLabel(seen.face, np.where(shown[..., None], seen.barycentric, 0).astype(np.float32))
                writer.add_view(frame, name, image.astype(np.uint8), time=time, label=label)
    main(["fit", *words(folder, "teacher"), "--trainer.max_steps", "60", "--model.learning_rate", "5e-3"])
    return folder


def words(folder, name):
    files = [CONFIGS / "board" / "teacher.yaml", CONFIGS / "debug" / "fast.yaml"]
    result = [word for file in files for word in ("--config", str(file))] + ["--name", name]
    result += ["--data.val", str(folder / "plane#test")]
    result += ["--root", str(folder / "runs"), "--size", str(SIZE), "--scale", "0.05", "--beta", "0.02"]
    result += ["--source", str(folder / "plane"), "--target", str(folder / "plane")]
    result += ["--surface", str(folder / "plane" / "surface.npz"), "--model.detector.init_args.width", "8"]
    result += ["--model.detector.init_args.levels", "3", "--trainer.enable_progress_bar", "false"]
    return [*result, "--data.augmentation.rotate", "0", "--data.augmentation.geometric", "0"]


def detector(folder, name="teacher"):
    run = folder / "runs" / name
    return ["--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]


def test_registration(workspace, capsys):
    """The whole board at once, from the command line, and the retraining on it."""
    out = workspace / "runs" / "registered"
    options = ["--method", "registration", "--points", "200", "--registration.nodes", "40"]
    options += ["--registration.stiffness_final", "10", "--least-agreement", "0.1"]
    main(["pseudo-label", *detector(workspace), "--out", str(out), *options])
    assert "dkp: wrote" in capsys.readouterr().out
    written = Capture.open(out)
    assert written.splits["train"]
    assert "registration" in written.source
    assert any(view.points for view in written.views)
    with pytest.raises(SystemExit):
        main(
            [
                "pseudo-label",
                *detector(workspace),
                "--out",
                str(out),
                *options,
                "--least-agreement",
                "1",
                "--overwrite",
                "true",
            ]
        )
    assert "agrees with a registered surface" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["pseudo-label", *detector(workspace), "--out", str(out), "--least-agreement", "2", "--overwrite", "true"])
    assert "least_agreement is 2.0" in capsys.readouterr().err
    assert Capture.open(out).splits == written.splits, "a failure leaves what was there"


def test_rounds(workspace, capsys):
    """Label, retrain, label again: each command takes what the one before it wrote."""
    options = ["--min-views", "2", "--sigma", "0.03", "--threshold", "0.15", "--points", "200"]
    main(["pseudo-label", *detector(workspace), "--out", str(workspace / "runs" / "pseudo"), *options])
    assert "dkp: wrote" in capsys.readouterr().out
    written = Capture.open(workspace / "runs" / "pseudo")
    assert written.splits == {"train": ["f0", "f1", "f2"]}
    assert len(written.views) == 9
    assert any(view.points for view in written.views)
    assert not any(view.label for view in written.views), "labels of the target must not leak"
    assert not (workspace / "runs" / "teacher" / "predict").exists()

    train = f"[{workspace / 'plane'},{workspace / 'runs' / 'pseudo'}]"
    start = str(workspace / "runs" / "teacher" / "checkpoints" / "last.ckpt")
    main(["fit", *words(workspace, "bootstrapping"), "--data.train", train, "--model.initial_weights", start])
    config = yaml.safe_load((workspace / "runs" / "bootstrapping" / "config.yaml").read_text())
    assert config["data"]["init_args"]["train"] == [str(workspace / "plane"), str(workspace / "runs" / "pseudo")]

    second = detector(workspace, "bootstrapping")
    main(["pseudo-label", *second, "--out", str(workspace / "runs" / "pseudo-2"), *options])
    assert Capture.open(workspace / "runs" / "pseudo-2").splits == {"train": ["f0", "f1", "f2"]}


def test_the_views_are_chosen_by_a_split(workspace, tmp_path):
    run = workspace / "runs" / "teacher"
    options = {"min_views": 2, "sigma": 0.03, "threshold": 0.15, "points": 50}
    place = f"{workspace / 'plane'}#test"
    found = pseudo_label(
        str(run / "config.yaml"), str(run / "checkpoints" / "last.ckpt"), str(tmp_path / "o"), place, **options
    )
    assert found.splits == {"train": ["f3"]}


def test_the_background_can_be_hidden(workspace, tmp_path):
    """Clutter behind a mask changes nothing; without hiding it does."""
    plane = Capture.open(workspace / "plane")
    rng = np.random.default_rng(0)
    for name in ("black", "clutter"):
        options = {"surface": workspace / "plane" / "surface.npz", "cameras": plane.cameras, "splits": plane.splits}
        with CaptureWriter(tmp_path / name, name=name, **options) as writer:
            for view in plane.views:
                mask = plane.label(view).foreground
                behind = 255 * rng.integers(0, 2, (SIZE, SIZE, 3)) if name == "clutter" else 0
                image = np.where(mask[..., None], plane.image(view), behind).astype(np.uint8)
                writer.add_view(view.frame, view.camera, image, time=view.time, mask=mask)
    run = workspace / "runs" / "teacher"
    options = {"min_views": 2, "sigma": 0.03, "threshold": 0.15, "points": 200}
    found = {}
    for name, hide in (("black", False), ("clutter", True), ("clutter", False)):
        labelled = pseudo_label(
            str(run / "config.yaml"), str(run / "checkpoints" / "last.ckpt"), str(tmp_path / f"{name}-{hide}"),
            str(tmp_path / name), hide_background=hide, **options,
        )  # fmt: skip
        points = [labelled.points(view) for view in labelled.views]
        found[name, hide] = np.concatenate([one.pixels for one in points if one is not None])
    np.testing.assert_allclose(found["clutter", True], found["black", False], atol=1e-3)
    assert found["clutter", False].shape != found["black", False].shape


def test_views_without_a_mask_are_seen_as_they_are(workspace, tmp_path, caplog):
    run = workspace / "runs" / "teacher"
    options = {"min_views": 2, "sigma": 0.03, "threshold": 0.15, "points": 50}
    files = str(run / "config.yaml"), str(run / "checkpoints" / "last.ckpt")
    found = {}
    for hide in (False, True):
        out, plane = str(tmp_path / str(hide)), str(workspace / "plane")
        labelled = pseudo_label(*files, out, plane, hide_background=hide, **options)
        points = [labelled.points(view) for view in labelled.views]
        found[hide] = np.concatenate([one.pixels for one in points if one is not None])
        assert ("9 of 9 views have no mask and keep their background" in caplog.text) == hide
    np.testing.assert_array_equal(found[True], found[False])


def test_nothing_is_written_where_no_point_is_found(workspace, tmp_path, capsys):
    arguments = ["pseudo-label", *detector(workspace), "--out", str(tmp_path / "out"), "--sigma", "1e-7"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "no surface point was triangulated" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--capture", "nowhere"], "nowhere"),
        (["--capture", "{plane}#val"], "no split 'val'"),
        (["--min-views", "1"], "min_views is 1"),
        (["--out", "{plane}"], "exists and is not empty"),
    ],
)
def test_bad_options_end_in_one_sentence(workspace, tmp_path, capsys, options, expected):
    plane = str(workspace / "plane")
    given = [option.replace("{plane}", plane) for option in options]
    out = [] if "--out" in given else ["--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        main(["pseudo-label", *detector(workspace), *out, *given])
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err


def test_the_target_comes_from_the_configuration(workspace, tmp_path):
    assert target_of(str(workspace / "runs" / "teacher" / "config.yaml")) == str(workspace / "plane")
    (tmp_path / "bad.yaml").write_text("target: null")
    with pytest.raises(InputError, match="--capture"):
        target_of(str(tmp_path / "bad.yaml"))
    with pytest.raises(InputError, match="does not exist"):
        target_of(str(tmp_path / "missing.yaml"))
