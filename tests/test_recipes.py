"""Recipes: bases, merging, and what the command line makes of several files."""

from pathlib import Path

import pytest
import yaml

from dkp.errors import InputError
from dkp.recipes import merged, one_config, read_recipe, recipe_folder


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_a_recipe_is_put_on_top_of_its_base_which_is_found_from_the_file(write, monkeypatch, tmp_path):
    write("people/whole.yaml", "name: whole\nsize: 64\nmodel: {lr: 1.0e-3, terms: {a: {weight: 1}, b: {weight: 2}}}\n")
    path = write("dog/own.yaml", "base: ../people/whole.yaml\nname: own\nmodel: {terms: {b: null, c: {weight: 3}}}\n")
    monkeypatch.chdir(tmp_path.parent)
    expected = {
        "name": "own",
        "size": 64,
        "model": {"lr": 0.001, "terms": {"a": {"weight": 1}, "b": None, "c": {"weight": 3}}},
    }
    assert read_recipe(path) == expected
    assert read_recipe(path.relative_to(Path.cwd())) == expected


def test_mappings_are_merged_and_anything_else_is_replaced():
    first = {"a": {"b": 1, "c": [1, 2]}, "d": 3, "e": {"f": 1}}
    assert merged(first, {"a": {"c": [4]}, "d": {"g": 5}, "e": None}) == {
        "a": {"b": 1, "c": [4]},
        "d": {"g": 5},
        "e": None,
    }
    assert first == {"a": {"b": 1, "c": [1, 2]}, "d": 3, "e": {"f": 1}}


def test_options_of_another_class_are_not_kept():
    old = {"class_path": "A", "init_args": {"x": 1, "y": 2}}
    assert merged({"t": old}, {"t": {"init_args": {"y": 3}}}) == {
        "t": {"class_path": "A", "init_args": {"x": 1, "y": 3}}
    }
    assert merged({"t": old}, {"t": {"class_path": "A", "init_args": {"y": 3}}})["t"]["init_args"] == {"x": 1, "y": 3}
    assert merged({"t": old}, {"t": {"class_path": "B"}}) == {"t": {"class_path": "B"}}
    assert merged({"t": {"init_args": {"x": 1}}}, {"t": old})["t"] == old


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: no/such.yaml", "own.yaml: base .*no/such.yaml does not exist where a YAML file is expected"),
        ("base: [a.yaml]", r"own.yaml: base is \['a.yaml'\] where the path of a YAML file is expected"),
        ("base: own.yaml", "own.yaml: base .*own.yaml leads back to a file that is based on it"),
        ("base: other.yaml", "own.yaml: base .*other.yaml: base .*own.yaml leads back"),
        ("base: broken.yaml", "own.yaml: base .*broken.yaml, line 2: not YAML"),
        ("base: list.yaml", "own.yaml: base .*list.yaml holds list where keys with values are expected"),
        ("- 1", "own.yaml holds list where keys with values are expected"),
    ],
)
def test_a_base_that_cannot_be_had_is_said_in_a_sentence(write, text, message):
    write("other.yaml", "base: own.yaml")
    write("broken.yaml", "a: 1\nb: [")
    write("list.yaml", "- 1")
    path = write("own.yaml", text)
    with pytest.raises(InputError, match=message):
        read_recipe(path)


def test_files_become_one_text_before_the_options(write):
    first, second = write("a.yaml", "x: 1\nterms: {a: 1, b: ä}\n"), write("b.yaml", "terms: {b: no-wrap, c: 3}")
    words = [
        "--size=3",
        "--config",
        str(first),
        f"--config={second}",
        "--seed",
        "7",
        "-c",
        str(write("c.yaml", "x: 2")),
    ]
    config, *rest = one_config(words)
    assert rest == ["--size=3", "--seed", "7"]
    name, _, text = config.partition("=")
    assert (name, yaml.safe_load(text)) == ("--config", {"x": 2, "terms": {"a": 1, "b": "no-wrap", "c": 3}})
    assert one_config(["--size=3", "--config"]) == ["--size=3", "--config"]


def test_a_missing_file_is_named_as_it_was_given():
    with pytest.raises(InputError, match=r"--config no/such\.yaml does not exist where a YAML file is expected"):
        one_config(["--config", "no/such.yaml"])


def test_the_shipped_recipes_are_found():
    assert (recipe_folder() / "study" / "full.yaml").is_file()


def test_options_of_a_term_that_no_recipe_has_are_refused_with_the_near_name(write):
    path = write("a.yaml", "model: {init_args: {terms: {labelled: {init_args: {weight: 1}}}}}\n")
    with pytest.raises(InputError, match=r"no term labeled \(did you mean labelled\?\), expected one of labelled"):
        one_config([f"--config={path}", "--model.terms.labeled.weight=3"])
    words = [f"--config={path}", "--model.terms.mine", "my.Term", "--model.terms.mine.weight=3"]
    terms = yaml.safe_load(one_config(words)[0].removeprefix("--config="))["model"]["init_args"]["terms"]
    assert terms["mine"] == {"class_path": "my.Term", "init_args": {"weight": 3}}


@pytest.mark.parametrize(
    "spelling", [["--model.detector.weights=null"], ["--model.init_args.detector.init_args.weights", "~"]]
)
def test_null_reaches_a_class_within_a_class(tmp_path, spelling):
    """The parser made the text "None" of it; what is said last counts."""
    file = tmp_path / "recipe.yaml"
    file.write_text("model: {init_args: {detector: {class_path: D, init_args: {weights: a, other: b}}}}\n")
    words = one_config([f"--config={file}", f"{spelling[0].partition('=')[0]}=c", *spelling, "--trainer.max_steps=3"])
    detector = yaml.safe_load(words[0].removeprefix("--config="))["model"]["init_args"]["detector"]["init_args"]
    assert detector == {"weights": None, "other": "b"}
    assert words[1:] == ["--trainer.max_steps=3"]
    last = [f"--config={file}", *spelling, f"{spelling[0].partition('=')[0]}=c"]
    assert one_config(last)[-1].endswith("=c")


def test_null_of_what_the_recipe_does_not_have_is_left_to_the_parser(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("model: {init_args: {detector: {class_path: D}}}\n")
    assert one_config([f"--config={file}", "--model.detector.weights", "null"])[1:] == ["--model.detector.weights=null"]
