"""The recipes of shipped detectors parse, belong together, and take a name for a checkpoint."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from dkp.cli import main
from dkp.recipes import read_recipe
from dkp.runs.lightning import without_shipped
from dkp.synthetic.species import find_species
from dkp.weights import card, names

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = CONFIGS / "human-small"


def parsed(capsys, command, *words):
    with pytest.raises(SystemExit) as stopped:
        main([command, *words, "--print_config"])
    captured = capsys.readouterr()
    assert stopped.value.code in (None, 0), captured.err
    return yaml.safe_load(captured.out)


def test_every_stage_goes_on_from_the_one_before_and_the_last_has_the_size_of_use(capsys):
    stages = [
        parsed(capsys, "fit", f"--config={RECIPES / name}.yaml", "--root=elsewhere")
        for name in ("weights", "weights-fine", "weights-final", "weights-large")
    ]
    for before, after in pairwise(stages):
        assert after["model"]["init_args"]["initial_weights"] == f"elsewhere/{before['name']}/checkpoints/last.ckpt"
        assert after["model"]["init_args"]["detector"] == before["model"]["init_args"]["detector"]
        assert after["size"] > before["size"]
    evaluation = parsed(capsys, "test", f"--config={RECIPES / 'evaluate.yaml'}")
    adapted = parsed(capsys, "fit", f"--config={RECIPES / 'adapted.yaml'}")
    sizes = {each["data"]["init_args"]["size"] for each in (stages[-1], evaluation, adapted)}
    assert sizes == {card("human-small").size}
    assert stages[-1]["data"]["init_args"]["augmentation"]["mirror"] == 0.5


def test_the_one_for_dogs_goes_on_from_the_one_for_people(capsys):
    made = parsed(capsys, "fit", f"--config={CONFIGS / 'dog-small' / 'weights.yaml'}")
    assert made["model"]["init_args"]["initial_weights"] == "human-small"
    detector = made["model"]["init_args"]["detector"]["init_args"]
    assert {key: detector[key] for key in ("encoder", "width", "stride", "uncertainty")} == {
        key: card("human-small").options[key] for key in ("encoder", "width", "stride", "uncertainty")
    }
    evaluation = parsed(capsys, "test", f"--config={CONFIGS / 'dog-small' / 'evaluate.yaml'}")
    found = card("dog-small")
    for config in (made, evaluation):
        assert (config["data"]["init_args"]["size"], config["model"]["init_args"]["surface"]) == (found.size, "dog")
    assert found.surface == "dog"


def test_a_recipe_renders_subjects_in_a_domain_of_their_species():
    asked = {}
    for file in CONFIGS.glob("*/adapted.yaml"):
        recipe = read_recipe(file)
        if subject := recipe.get("subject"):
            asked[file.parent.name] = find_species(recipe["surface"]).domain(subject["domain"]).name
        assert not read_recipe(file.with_name("control.yaml")).get("subject")
    assert asked == {"human-small": "sport"}


def test_other_checkpoints_are_left_alone(tmp_path, monkeypatch):
    words = ["--config", "a.yaml", "--ckpt_path", "runs/last.ckpt"]
    assert without_shipped(words) == (words, {})
    assert without_shipped(["--ckpt_path=best"]) == (["--ckpt_path=best"], {})
    for name in names():
        (tmp_path / name).write_text("a file of that name comes first")
        monkeypatch.chdir(tmp_path)
        assert without_shipped(["--ckpt_path", name]) == (["--ckpt_path", name], {})
