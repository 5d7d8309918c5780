"""The file of a sweep: the committed ones, the options that they give, and what is refused."""

from pathlib import Path

import pytest
import yaml

from dkp.cli import main
from dkp.errors import InputError
from dkp.sweep.file import read_sweep

distributions = pytest.importorskip("optuna").distributions
Choice, Whole, Range = (getattr(distributions, f"{kind}Distribution") for kind in ("Categorical", "Int", "Float"))

FILES = sorted((Path(__file__).parents[2] / "configs" / "sweep").glob("*.yaml"))
START = ["${env}", "${interpreter}", "-m", "dkp", "fit", "${args}"]
PLAN = {
    "method": "grid",
    "metric": {"name": "val/iou", "goal": "maximize"},
    "parameters": {"sigma": {"values": [0.1, 0.2]}, "size": {"value": 32}, "stride": {"values": [2, 4]}},
    "command": START,
}


def write(path, **keys):
    path.write_text(yaml.safe_dump({**PLAN, **keys}))
    return path


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_committed_sweeps_are_fits_that_parse(file, capsys, monkeypatch):
    """The words of a trial are options that `dkp fit` knows, and its values reach the configuration."""
    monkeypatch.chdir(file.parents[2])
    plan = read_sweep(file)
    values = {
        name: kind.choices[-1] if isinstance(kind, Choice) else (kind.low + kind.high) / 2
        for name, kind in plan.parameters.items()
    }
    words = plan.words(values)
    assert words[0] == "fit"
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--trainer.logger=true", "--print_config"])
    captured = capsys.readouterr()
    assert stopped.value.code in (None, 0), captured.err
    config = yaml.safe_load(captured.out)
    assert config["trainer"]["logger"] is True
    for name, value in values.items():
        place = config
        for part in name.split("."):
            place = place[part] if part in place else place["init_args"][part]
        assert place == value, name


def test_the_committed_sweeps_vary_weights_widths_and_pairs():
    plans = {file.stem: read_sweep(file) for file in FILES}
    assert {plan.method for plan in plans.values()} == {"grid", "bayes"}
    assert plans["bayes"].halving == {"min_resource": 2, "reduction_factor": 2}
    options = {name for plan in plans.values() for name in plan.parameters}
    weights = {f"model.terms.{name}.weight" for name in ("multiview", "distillation")}
    assert weights | {"sigma", "data.pairing.min_angle"} <= options


def test_a_grid_has_every_combination_once_in_the_order_of_the_file(tmp_path):
    grid = read_sweep(write(tmp_path / "a.yaml")).grid()
    assert [(point["sigma"], point["size"], point["stride"]) for point in grid] == [
        (0.1, 32, 2),
        (0.1, 32, 4),
        (0.2, 32, 2),
        (0.2, 32, 4),
    ]


def test_options_are_written_as_the_agent_of_weights_and_biases_writes_them(tmp_path):
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    values = {"sigma": 1e-07, "size": 32, "stride": 4}
    plan = read_sweep(write(tmp_path / "a.yaml"))
    theirs = utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    assert plan.words(values)[1:] == theirs["args"]


RANGES = [
    ({"min": 1, "max": 4}, Whole(1, 4)),
    ({"min": 1.0, "max": 4}, Range(1.0, 4)),
    ({"distribution": "uniform", "min": 1, "max": 4}, Range(1, 4)),
    ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, Range(0, 1, step=0.25)),
    ({"distribution": "log_uniform_values", "min": 0.1, "max": 10}, Range(0.1, 10, log=True)),
    ({"distribution": "log_uniform", "min": 0, "max": 0}, Range(1, 1, log=True)),
    ({"distribution": "constant", "value": "a"}, Choice(("a",))),
    ({"distribution": "categorical", "values": [None, True]}, Choice((None, True))),
]


@pytest.mark.parametrize(("entry", "expected"), RANGES)
def test_distributions(entry, expected, tmp_path):
    assert read_sweep(write(tmp_path / "a.yaml", method="random", parameters={"x": entry})).parameters == {
        "x": expected
    }


def test_brackets_counted_from_the_end(tmp_path):
    early = {"type": "hyperband", "max_iter": 27, "s": 2, "eta": 3}
    assert read_sweep(write(tmp_path / "a.yaml", early_terminate=early)).halving == {
        "min_resource": 3,
        "reduction_factor": 3,
    }


BAD = [
    ({"method": "annealing"}, "method is 'annealing', expected one of grid, random, bayes"),
    ({"metric": "val/iou"}, "metric is 'val/iou', expected a mapping of name and goal"),
    ({"metric": {"name": "val/iou", "goal": "up"}}, "goal is 'up', expected minimize or maximize"),
    ({"metric": {}}, "metric: name is None, expected a metric such as"),
    ({"parameters": {}}, "parameters is empty"),
    ({"parameters": {"x": 3}}, "parameters: x is 3, expected a mapping"),
    ({"parameters": {"x": {"values": []}}}, "parameters: x: values is [], expected a list"),
    ({"parameters": {"x": {"values": [[1, 2]]}}}, "x has the value [1, 2], expected a number, a string"),
    ({"parameters": {"x": {"min": 1}}}, "x: max is None, expected a number"),
    ({"parameters": {"x": {"min": "small", "max": 1}}}, "x: min is 'small', expected a number"),
    ({"parameters": {"x": {"min": 2, "max": 1}}}, "min is 2 and max is 1"),
    ({"parameters": {"x": {"min": 0, "max": 1, "distribution": "log_uniform_values"}}}, "expected a positive min"),
    ({"parameters": {"x": {"min": 0, "max": 1, "distribution": "beta"}}}, "distribution is 'beta', expected constant"),
    ({"parameters": {"x": {"values": [1], "probabilities": [1]}}}, "x has the key probabilities"),
    ({"parameters": {"x": {"min": 0.0, "max": 1}}}, "x is a range, expected values: [...] with the method grid"),
    ({"command": "dkp fit"}, "command is 'dkp fit', expected a list of words"),
    ({"command": ["rm", "-rf", "${args}"]}, "command is rm -rf ${args} ..., expected ${interpreter} -m dkp fit"),
    ({"command": START[:-1]}, "command has ${args} 0 times, expected it once"),
    ({"command": [*START, "${args_json}"]}, "command has ${args_json}, expected no other macros"),
    ({"early_terminate": {"type": "median"}}, "early_terminate: type is 'median', expected hyperband"),
    ({"early_terminate": {"type": "hyperband"}}, "early_terminate: max_iter is None"),
    ({"run_cap": 0}, "run_cap is 0, expected a whole number of at least 1"),
    ({"name": "../elsewhere"}, "name is '../elsewhere', expected the name of a folder"),
    ({"methd": "grid"}, "methd is not a key of a sweep"),
]


@pytest.mark.parametrize(
    ("keys", "expected"), BAD, ids=lambda value: next(iter(value)) if isinstance(value, dict) else ""
)
def test_what_is_wrong_is_said_in_one_sentence(keys, expected, tmp_path):
    with pytest.raises(InputError) as caught:
        read_sweep(write(tmp_path / "bad.yaml", **keys))
    assert expected in str(caught.value)
    assert str(tmp_path / "bad.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"), [("a: [", "not YAML"), ("- 1", "holds list"), (None, "does not exist")]
)
def test_files_that_are_no_sweep(content, expected, tmp_path):
    if content is not None:
        (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(InputError, match=expected):
        read_sweep(tmp_path / "bad.yaml")


def test_nothing_is_built_from_a_file(tmp_path):
    """Tags that make objects are refused."""
    (tmp_path / "bad.yaml").write_text(f"method: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']")
    with pytest.raises(InputError, match="not YAML"):
        read_sweep(tmp_path / "bad.yaml")
    assert not (tmp_path / "made").exists()
