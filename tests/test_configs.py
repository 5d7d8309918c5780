"""Every configuration parses, in the layers that its comment names, and shared values follow the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dkp.captures import CaptureWriter
from dkp.cli import main
from dkp.geometry import Camera
from dkp.pipeline.job import DETECTORS, Job

CONFIGS = Path(__file__).parents[1] / "configs"

MAIN_ROLES = ("teacher", "student", "adapted")

REGISTERED = ("synthetic", "dog", "board")
"""Kinds whose main job labels the target by registration."""

LAYERS = [
    ("teacher", "unet", "synthetic", ["labelled_only"], "cpu", "csv"),
    ("oracle", "unet_charts", "board", ["labelled_only"], "gpu", "wandb"),
    ("adapted", "unet", "person", ["ours", "equivariance", "temporal", "silhouette"], "ddp", "csv"),
    ("adapted", "timm_small", "board", ["expected_point"], "cpu", "csv"),
    ("control", "timm_medium", "synthetic", ["distillation_only"], "gpu", "csv"),
    ("control", "unet", "dog", ["distillation_only", "equivariance", "mean_teacher"], "cpu", "csv"),
    ("labelled_only", "unet", "synthetic", ["labelled_only"], "cpu", "csv"),
    ("adapted", "unet", "dog", ["ours"], "cpu", "csv"),
    ("adapted", "unet_charts", "synthetic", ["unnormalised"], "cpu", "csv"),
    ("bootstrapping", "unet", "synthetic", ["labelled_only"], "cpu", "csv"),
]


def words(experiment, model, data, losses, trainer="cpu", logger="csv", debug=()):
    groups = [("experiment", experiment), ("model", model), ("data", data), *(("loss", loss) for loss in losses)]
    groups += [("trainer", trainer), ("logger", logger), *(("debug", name) for name in debug)]
    return [word for group, name in groups for word in ("--config", str(CONFIGS / group / f"{name}.yaml"))]


def merged(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *arguments, "--print_config"])
    captured = capsys.readouterr()
    assert stopped.value.code in (None, 0), captured.err
    return yaml.safe_load(captured.out)


@pytest.mark.parametrize("layers", LAYERS, ids=lambda layers: "-".join((layers[0], layers[1], layers[2])))
def test_layers_parse_and_agree(layers, capsys):
    config = merged(capsys, *words(*layers))
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    assert config["name"] == layers[0]
    assert data["size"] == config["size"]
    assert data["stride"] == model["detector"]["init_args"]["stride"] == config["stride"]
    assert model["surface"] == config["surface"]
    assert model["terms"]["labelled"]["init_args"]["beta"] == config["beta"]
    assert data["charts"] == (layers[1] == "unet_charts")
    assert "${" not in yaml.safe_dump(config)


@pytest.mark.parametrize("kind", REGISTERED)
def test_options_of_registration_are_understood(kind, tmp_path, planes, capsys):
    """All of them are accepted: what is missed is the teacher."""
    job = Job(tmp_path, kind, planes / "mine", planes / "mine", 0, "cpu")
    assert job.register()[0] == "pseudo-label"
    with pytest.raises(SystemExit):
        main(job.register())
    assert f"{tmp_path / 'teacher' / 'config.yaml'}" in capsys.readouterr().err


def test_every_configuration_file_is_in_a_tested_layer():
    used = {("debug", "fast"), ("debug", "overfit"), ("trainer", "average"), ("trainer", "snapshots")}
    used |= {("study", "full")}  # a plan, see tests/study
    used |= {("people", name) for name in ("weights", "weights-fine", "evaluate", "card")}  # see tests/weights
    used |= {("sweep", name) for name in ("grid", "random", "bayes", "hyperband")}  # see tests/sweep
    for experiment, model, data, losses, trainer, logger in LAYERS:
        used |= {("experiment", experiment), ("model", model), ("data", data), ("trainer", trainer), ("logger", logger)}
        used |= {("loss", loss) for loss in losses}
    used |= {("main", f"{kind}-{role}") for kind in ("synthetic", "dog", "board", "person") for role in MAIN_ROLES}
    used |= {("main", f"{kind}-registered") for kind in REGISTERED}
    assert used == {(path.parent.name, path.stem) for path in CONFIGS.glob("*/*.yaml")}


@pytest.fixture
def capture(tmp_path) -> Path:
    """A capture of blank images of a person, without splits, masks and joints."""
    rotations = (torch.eye(3), torch.diag(torch.tensor([-1.0, 1.0, -1.0])))
    intrinsics = torch.tensor([[60.0, 0, 16], [0, 60.0, 16], [0, 0, 1]])
    size = torch.tensor([32.0, 32.0])
    cameras = {
        name: Camera.create(intrinsics, rotation, torch.tensor([0.0, 0, 3]), image_size=size)
        for name, rotation in zip("ab", rotations, strict=True)
    }
    with CaptureWriter(tmp_path / "capture", name="blank", surface="human", cameras=cameras, splits={}) as writer:
        for name in cameras:
            writer.add_view("f0", name, np.zeros((32, 32, 3), np.uint8), time=0)
    return tmp_path / "capture"


@pytest.mark.parametrize("kind", ["synthetic", "dog", "board", "person"])
def test_the_main_job_layers_its_own_files(kind, capture, capsys):
    """As `dkp train` does: the files of configs/main come last, before its options."""
    job = Job(Path("runs/job"), kind, capture, capture, 5, "cpu")
    stages = {stage: merged(capsys, *job.fit(stage, ["--trainer.log_every_n_steps=9"])[1:]) for stage in DETECTORS}
    for stage, config in stages.items():
        role = "teacher" if stage == "teacher" else "student"
        own = yaml.safe_load((CONFIGS / "main" / f"{kind}-{role}.yaml").read_text())
        assert config["trainer"]["max_steps"] == own["trainer"]["max_steps"]
        assert config["data"]["init_args"]["steps_per_epoch"] == own["data"]["init_args"]["steps_per_epoch"]
        assert config["data"]["init_args"]["val"] is None
        assert config["data"]["init_args"]["test"] == f"{capture}#"
        assert config["data"]["init_args"]["seed"] == config["seed_everything"] == 5
        assert (config["name"], config["root"]) == (stage, "runs/job")
        assert config["trainer"]["log_every_n_steps"] == 9
        assert "${" not in yaml.safe_dump(config)
    control, adapted = (stages[stage]["model"]["init_args"] for stage in ("control", "adapted"))
    layer = yaml.safe_load((CONFIGS / "main" / f"{kind}-adapted.yaml").read_text())
    terms, own = adapted["terms"], layer["model"]["init_args"]["terms"]["multiview"]["init_args"]
    assert terms["multiview"]["init_args"].items() >= own.items()
    assert own["weight"] > 0
    assert set(control["terms"]) == {"labelled", "distillation"} | ({"mask"} if kind != "board" else set())
    assert control["teacher"] == adapted["teacher"] == "runs/job/teacher/checkpoints/last.ckpt"
    assert terms["multiview"]["init_args"]["sigma"] == stages["adapted"]["sigma"]
    data = {stage: dict(stages[stage]["data"]["init_args"]) for stage in ("control", "adapted")}
    own_data = {
        stage: [values.pop(name) for name in ("labelled", "unlabelled", "pseudo_labels")]
        for stage, values in data.items()
    }
    registered = ["runs/job/registered#train", "runs/job/registered#train", True]
    assert own_data["adapted"] == (registered if kind in REGISTERED else own_data["control"])
    assert terms["pseudo"]["init_args"]["weight"] == (1 if kind in REGISTERED else 0)
    assert terms["distillation"]["init_args"]["weight"] == (0 if kind in REGISTERED else 1)
    varied = layer.get("data", {}).get("init_args", {}).get("augmentation", {})
    assert varied == ({"rotate": 20.0} if kind == "board" else {}), "the board's own views are upright"
    data["control"]["augmentation"] = {**data["control"]["augmentation"], **varied}
    assert data["control"] == data["adapted"]
    assert stages["control"]["trainer"] == stages["adapted"]["trainer"]
    assert control["detector"] == adapted["detector"] == stages["teacher"]["model"]["init_args"]["detector"]
    if kind == "person":
        assert stages["teacher"]["joints"] is None
        assert (
            control["terms"]["mask"]
            == terms["mask"]
            == {"class_path": "dkp.losses.MaskTerm", "init_args": {"weight": 0.0, "ramp_steps": 0}}
        )


@pytest.mark.parametrize("name", ["fast", "overfit"])
def test_debug_layers_come_last(name, capsys):
    config = merged(capsys, *words("adapted", "unet", "synthetic", ["ours"], debug=[name]))
    assert config["trainer"]["max_steps"] == {"fast": 4, "overfit": 300}[name]
    assert config["data"]["init_args"]["num_workers"] == 0


def test_interpolated_values_follow_an_override_on_the_command_line(capsys):
    arguments = words("adapted", "unet", "synthetic", ["ours"])
    overrides = ["--size", "96", "--stride=4", "--sigma", "0.02", "--root", "elsewhere", "--target", "captures/other"]
    config = merged(capsys, *arguments, *overrides)
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    assert data["size"] == 96
    assert data["stride"] == model["detector"]["init_args"]["stride"] == 4
    assert model["terms"]["multiview"]["init_args"]["sigma"] == 0.02
    assert model["teacher"] == "elsewhere/teacher/checkpoints/best.ckpt"
    assert data["unlabelled"] == "captures/other"
    assert data["test"] == "captures/other#test"


def test_a_dotted_override_changes_one_value_only(capsys):
    arguments = words("adapted", "unet", "synthetic", ["ours"])
    overrides = ["--model.init_args.terms.multiview.init_args.sigma", "0.5", "--model.terms.multiview.weight", "3"]
    config = merged(capsys, *arguments, *overrides)
    model = config["model"]["init_args"]
    multiview = model["terms"]["multiview"]["init_args"]
    assert (multiview["sigma"], multiview["weight"], multiview["clip"]) == (0.5, 3, 20)
    assert config["sigma"] == 0.05
    assert model["terms"]["labelled"]["init_args"]["weight"] == 1


def test_the_control_differs_from_the_adapted_run_in_what_joins_views_only(capsys):
    ours = merged(capsys, *words("adapted", "unet", "synthetic", ["ours"]))
    control = merged(capsys, *words("control", "unet", "synthetic", ["distillation_only"]))
    assert ours["data"] == control["data"]
    assert ours["trainer"] == control["trainer"]
    first, second = ours["model"]["init_args"], control["model"]["init_args"]
    different = {key for key in first if first[key] != second[key]}
    assert different == {"terms"}
    assert {name: term for name, term in first["terms"].items() if name in second["terms"]} == second["terms"]
    assert set(first["terms"]) - set(second["terms"]) == {"multiview", "consensus", "mask", "pseudo"}


@pytest.mark.parametrize(("name", "callback"), [("average", "DetectorAverage"), ("snapshots", "DetectorSnapshots")])
def test_callbacks_are_added_to_a_trainer(name, callback, capsys):
    further = ["--config", str(CONFIGS / "trainer" / f"{name}.yaml")]
    config = merged(capsys, *words("teacher", "unet", "synthetic", ["labelled_only"]), *further)
    assert config["trainer"]["callbacks"][0]["class_path"] == f"dkp.callbacks.{callback}"
    assert config["trainer"]["max_steps"] == 2000
