"""Every recipe is a run as it stands, says all its values, and is what `dkp train` runs."""

from pathlib import Path

import pytest
import torch
import yaml

from dkp.captures import Capture
from dkp.cli import main
from dkp.pipeline.job import DETECTORS, STUDENTS, Job, recipes_of
from dkp.recipes import read_recipe
from dkp.synthetic import synthesize
from dkp.weights.shipped import card, configuration

CONFIGS = Path(__file__).parents[1] / "configs"
KINDS = ("people", "dog", "board", "person", "object")
REGISTERED = ("people", "dog", "board")
"""Kinds whose main job labels the target by registration."""
ON_TOP = ("unregistered", "wandb", "network/charts", "network/timm", "debug/fast", "debug/overfit")
"""Files that are put on a recipe."""

LEFT_OUT = {
    "model": {"metrics", "gradient_norms_every", "on_silent", "start_from_teacher"},
    "data": {
        "cameras",
        "predict",
        "eval_batch_size",
        "on_bad",
        "own_parts",
        "cache",
        "charts",
        "next_frame",
        "keypoints",
    },
}
"""Options that a recipe need not say: of evaluation, of the machine, of what a file on top brings."""


def recipe(kind, stage):
    return f"--config={CONFIGS / kind / stage}.yaml"


def printed(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *words, "--print_config"])
    captured = capsys.readouterr()
    assert stopped.value.code in (None, 0), captured.err
    return yaml.safe_load(captured.out)


def options(kind, capture):
    """What a recipe needs where its captures are elsewhere."""
    return [f"--surface={capture / 'surface.npz'}"] if kind == "object" else []


@pytest.mark.parametrize("kind", KINDS)
def test_recipes_are_runs_as_they_stand(kind, planes, capsys):
    configs = {stage: printed(capsys, recipe(kind, stage), *options(kind, planes / "mine")) for stage in DETECTORS}
    for stage, config in configs.items():
        data, model = config["data"]["init_args"], config["model"]["init_args"]
        assert (config["name"], config["root"], config["seed_everything"], data["seed"]) == (stage, "runs", 0, 0)
        assert data["size"] == config["size"]
        assert data["stride"] == model["detector"]["init_args"]["stride"] == config["stride"]
        assert model["surface"] == config["surface"]
        assert data["test"] == config["test"] == f"{config['target']}#test"
        labelled = model["terms"]["labelled"]["init_args"]
        assert (labelled["beta"], labelled["scale"]) == (config["beta"], config["scale"])
        assert "${" not in yaml.safe_dump(config)
    teacher, control, adapted = (configs[stage] for stage in DETECTORS)
    assert control["trainer"] == adapted["trainer"], "as many steps"
    sizes = ("labelled_batch_size", "unlabelled_batch_size", "views_per_instant", "steps_per_epoch", "size")
    assert [control["data"]["init_args"][key] for key in sizes] == [adapted["data"]["init_args"][key] for key in sizes]
    networks = [config["model"]["init_args"]["detector"] for config in configs.values()]
    assert networks[0] == networks[1] == networks[2]
    assert teacher["data"]["init_args"]["train"] == control["data"]["init_args"]["labelled"] == teacher["source"]
    joins = {"multiview", "consensus", "pseudo", "temporal", "equivariance"}
    assert not joins & {
        name for name, term in control["model"]["init_args"]["terms"].items() if term["init_args"]["weight"]
    }
    assert adapted["model"]["init_args"]["terms"]["multiview"]["init_args"]["weight"] > 0
    registered = kind in REGISTERED
    assert bool(adapted["labels"]) == registered
    labels = "runs/registered#train" if registered else None
    own = adapted["data"]["init_args"]
    assert own["labelled"] == (labels or adapted["source"])
    assert own["unlabelled"] == (labels or adapted["target"])


@pytest.mark.parametrize("name", ["human-small", "dog-small"])
def test_students_of_a_shipped_teacher_have_its_network_and_start(capsys, name):
    control, adapted = (printed(capsys, recipe(name, stage)) for stage in STUDENTS)
    different = {"name", "labels", "model", "data", *(["subject"] if adapted["subject"] else [])}
    assert {key for key in control if control[key] != adapted[key]} == different
    network = configuration(name)
    for config in (control, adapted):
        model, data = config["model"]["init_args"], config["data"]["init_args"]
        shipped, own = network["model"]["init_args"]["detector"]["init_args"], model["detector"]["init_args"]
        shared = shipped.keys() & own.keys() - {"weights", "surface_centre", "surface_half_extent"}  # the teacher's
        assert {key: own[key] for key in shared} == {key: shipped[key] for key in shared}
        assert (model["teacher"], model["start_from_teacher"], data["size"]) == (name, True, card(name).size)
    weights = {name: term["init_args"]["weight"] for name, term in control["model"]["init_args"]["terms"].items()}
    assert {name for name, weight in weights.items() if weight} == {"labelled", "distillation", "mask"}
    assert control["data"]["init_args"]["labelled"] == [control["source"]]
    assert adapted["data"]["init_args"]["labelled"] == ["runs/registered#train", adapted["source"]]
    assert control["surface"] == adapted["surface"] == card(name).surface


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_base_is_complete_in_itself(path):
    content = yaml.safe_load(path.read_text())
    if "base" in content:
        assert "base" not in yaml.safe_load((path.parent / content["base"]).read_text())


@pytest.mark.parametrize("kind", ["people", "board", "person"])
@pytest.mark.parametrize("stage", DETECTORS)
def test_a_recipe_says_all_its_values(kind, stage, capsys):
    said, config = read_recipe(CONFIGS / kind / f"{stage}.yaml"), printed(capsys, recipe(kind, stage))
    for part, left_out in LEFT_OUT.items():
        assert config[part]["init_args"].keys() - said[part]["init_args"].keys() <= left_out


def test_every_file_is_tested():
    files = {str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml")}
    tested = {f"{kind}/{stage}" for kind in KINDS for stage in DETECTORS} | set(ON_TOP)
    tested |= {f"study/{name}" for name in ("full", "people", "detectors")}  # see tests/study
    tested |= {"sweep/grid", "sweep/bayes"}  # see tests/sweep
    made = ("weights", "weights-fine", "weights-final", "weights-large", "evaluate")  # see tests/weights
    tested |= {f"human-small/{name}" for name in (*STUDENTS, *made)}
    tested |= {f"dog-small/{name}" for name in (*STUDENTS, "weights", "evaluate")}
    assert files == tested


@pytest.mark.parametrize("name", ON_TOP)
def test_files_are_put_on_a_recipe(name, capsys):
    before = printed(capsys, recipe("people", "adapted"))
    config = printed(capsys, recipe("people", "adapted"), f"--config={CONFIGS / name}.yaml", "--name=other")
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    if name == "unregistered":
        weights = {term: setting["init_args"]["weight"] for term, setting in model["terms"].items()}
        assert (weights["distillation"], weights["pseudo"]) == (1.0, 0.0)
        assert (data["labelled"], data["unlabelled"]) == (["captures/source"], "captures/target")
        assert (data["pseudo_labels"], config["labels"]) == (False, None)
    elif name == "wandb":
        assert trainer["logger"]["init_args"]["name"] == "other"
    elif name.startswith("network"):
        network = model["detector"]["init_args"]
        assert (network["encoder"] == "unet") == (name == "network/charts") == data["charts"]
        assert (network["representation"] == "charts") == data["charts"] == (data["augmentation"]["mirror"] == 0)
        assert network["stride"] == config["stride"]
    else:
        assert trainer["max_steps"] == {"debug/fast": 4, "debug/overfit": 300}[name]
        assert data["num_workers"] == 0
    assert model["terms"].keys() == before["model"]["init_args"]["terms"].keys()


# As `dkp train`


@pytest.mark.parametrize("kind", ["synthetic", "dog", "board", "person"])
@pytest.mark.parametrize("stage", DETECTORS)
def test_the_main_job_sets_nothing_but_paths_and_seed(kind, stage, people, tmp_path):
    target = people / "joints"
    job = Job(tmp_path, recipes_of(kind, target), target, target, 5)
    folder = "people" if kind == "synthetic" else kind
    command, config, *rest = job.fit(stage, [])
    assert (command, config) == ("fit", recipe(folder, stage))
    paths = {"root": tmp_path, "name": stage, "surface": Capture.open(target).surface_source}
    paths |= dict.fromkeys(("source", "target", "test"), f"{target}#")
    assert rest == [f"--{key}={paths[key]}" for key in ("root", "name", "source", "target", "test", "surface")] + [
        "--seed_everything=5"
    ]


@pytest.fixture(scope="module")
def small_job(tmp_path_factory):
    """A job with rendered captures, its teacher and its registered target, all of them very small."""
    folder = tmp_path_factory.mktemp("job")
    few = {"subjects": 2, "frames": 3, "cameras": 3, "size": 48}
    source = synthesize(folder / "source", **few).path
    target = synthesize(folder / "registered", seed=1, domain="target", **few).path
    job = Job(folder, CONFIGS / "people", source, target, 3)
    options = ["--size=32", "--model.detector.width=8", "--model.detector.levels=3", "--data.num_workers=0"]
    options += ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--data.steps_per_epoch=5"]
    main([*job.fit("teacher", options), "--trainer.max_steps=1", "--data.batch_size=4"])
    return job, [*options, "--data.labelled_batch_size=2", "--data.unlabelled_batch_size=2", "--trainer.max_steps=5"]


@pytest.mark.slow
def test_a_recipe_by_hand_is_the_stage_of_the_main_job(small_job, capsys):
    """The same configuration, and the same weights after five steps."""
    job, further = small_job
    by_hand = [
        f"--config={CONFIGS / 'people' / 'adapted.yaml'}",
        f"--root={job.folder}",
        f"--source={job.source}#train",
        f"--target={job.target}#train",
        f"--test={job.target}#test",
        "--seed_everything=3",
    ]
    assert printed(capsys, *by_hand) == printed(capsys, *job.fit("adapted", [])[1:])
    main(job.fit("adapted", further))
    main(["fit", *by_hand, *further, "--name=by-hand"])
    states = [
        torch.load(job.folder / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("adapted", "by-hand", "teacher")
    ]
    first, second, teacher = ({k: v for k, v in state.items() if k.startswith("detector.")} for state in states)
    assert first.keys() == second.keys() == teacher.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], teacher[name]) for name in first)


# What a recipe leaves to the data


def test_lengths_of_an_object_follow_its_surface(planes, capsys):
    """5 % of the largest side of 40 cm and 50 cm."""
    lengths = [
        printed(capsys, recipe("object", "adapted"), f"--surface={planes / name / 'surface.npz'}")
        for name in ("mine", "wide")
    ]
    found = [[config[name] for name in ("sigma", "sigma_final", "beta", "scale")] for config in lengths]
    assert found == [[0.02, 0.01, 0.006, 0.02], [0.025, 0.0125, 0.0075, 0.025]]
    consensus = lengths[0]["model"]["init_args"]["terms"]["consensus"]["init_args"]
    assert (consensus["sigma"], consensus["sigma_final"]) == (0.02, 0.01)


@pytest.mark.parametrize(("options", "precision"), [([], "32-true"), (["--trainer.accelerator=gpu"], "bf16-mixed")])
def test_the_precision_follows_the_device(options, precision, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert printed(capsys, recipe("people", "teacher"), *options)["trainer"]["precision"] == precision
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert printed(capsys, recipe("people", "teacher"))["trainer"]["precision"] == "bf16-mixed"


def test_interpolated_values_follow_an_override_on_the_command_line(capsys):
    overrides = ["--size", "96", "--stride=4", "--sigma", "0.02", "--root", "elsewhere", "--target", "captures/other"]
    config = printed(capsys, *overrides, recipe("person", "adapted"), "--trainer.max_steps=50")
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    assert data["size"] == 96
    assert data["stride"] == model["detector"]["init_args"]["stride"] == 4
    sigmas = {model["terms"][name]["init_args"]["sigma"] for name in ("multiview", "consensus", "distillation")}
    assert sigmas == {0.02}
    assert model["terms"]["consensus"]["init_args"]["sigma_steps"] == 50
    assert model["teacher"] == "elsewhere/teacher/checkpoints/last.ckpt"
    assert (data["unlabelled"], data["test"]) == ("captures/other", "captures/other#test")


def test_a_dotted_override_changes_one_value_only(capsys):
    overrides = ["--model.terms.multiview.init_args.sigma", "1e-1", "--model.terms.multiview.weight=5"]
    config = printed(capsys, recipe("board", "adapted"), *overrides, "--model.init_args.terms.multiview.clip=null")
    multiview = config["model"]["init_args"]["terms"]["multiview"]["init_args"]
    assert (multiview["sigma"], multiview["weight"], multiview["clip"]) == (0.1, 5, None)
    assert (config["sigma"], config["clip"], multiview["ramp_steps"]) == (0.01, 40, 100)
