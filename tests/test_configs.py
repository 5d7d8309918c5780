"""Every configuration parses, in the layers that its comment names, and shared values follow the command line."""

from pathlib import Path

import pytest
import yaml

from dkp.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"

MAIN_JOB = {("main", path.stem) for path in (CONFIGS / "main").glob("*.yaml")}

LAYERS = [
    ("teacher", "unet", "synthetic", ["labelled_only"], "cpu", "csv"),
    ("oracle", "unet_charts", "board", ["labelled_only"], "gpu", "wandb"),
    ("adapted", "unet", "person", ["ours", "equivariance", "temporal", "silhouette"], "ddp", "csv"),
    ("adapted", "timm_small", "board", ["expected_point"], "cpu", "csv"),
    ("control", "timm_medium", "synthetic", ["distillation_only"], "gpu", "csv"),
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
    assert model["labelled_loss"]["init_args"]["beta"] == config["beta"]
    assert data["charts"] == (layers[1] == "unet_charts")
    assert "${" not in yaml.safe_dump(config)


def test_every_configuration_file_is_in_a_tested_layer():
    used = {("debug", "fast"), ("debug", "overfit"), ("trainer", "average")}
    for experiment, model, data, losses, trainer, logger in LAYERS:
        used |= {("experiment", experiment), ("model", model), ("data", data), ("trainer", trainer), ("logger", logger)}
        used |= {("loss", loss) for loss in losses}
    assert used == {(path.parent.name, path.stem) for path in CONFIGS.glob("*/*.yaml")} - MAIN_JOB


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
    assert model["multiview_loss"]["init_args"]["sigma"] == 0.02
    assert model["teacher"] == "elsewhere/teacher/checkpoints/best.ckpt"
    assert data["unlabelled"] == "captures/other"
    assert data["test"] == "captures/other#test"


def test_a_dotted_override_changes_one_value_only(capsys):
    arguments = words("adapted", "unet", "synthetic", ["ours"])
    config = merged(
        capsys, *arguments, "--model.multiview_loss.init_args.sigma", "0.5", "--model.lambda_multiview", "3"
    )
    model = config["model"]["init_args"]
    assert model["multiview_loss"]["init_args"]["sigma"] == 0.5
    assert model["lambda_multiview"] == 3
    assert config["sigma"] == 0.05
    assert model["multiview_loss"]["init_args"]["clip"] == 20


def test_the_control_differs_from_the_adapted_run_in_the_multiview_term_only(capsys):
    ours = merged(capsys, *words("adapted", "unet", "synthetic", ["ours"]))
    control = merged(capsys, *words("control", "unet", "synthetic", ["distillation_only"]))
    assert ours["data"] == control["data"]
    assert ours["trainer"] == control["trainer"]
    first, second = ours["model"]["init_args"], control["model"]["init_args"]
    different = {key for key in first if first[key] != second[key]}
    assert different == {"lambda_multiview", "multiview_loss", "ramp_steps"}


def test_averaging_is_added_to_a_trainer(capsys):
    average = ["--config", str(CONFIGS / "trainer" / "average.yaml")]
    config = merged(capsys, *words("teacher", "unet", "synthetic", ["labelled_only"]), *average)
    assert config["trainer"]["callbacks"][0]["class_path"] == "dkp.callbacks.DetectorAverage"
    assert config["trainer"]["max_steps"] == 2000
