"""The commands of a cell: equal cost, equal data, and fingerprints that follow the recipe and nothing else."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from dkp.cli import main
from dkp.errors import InputError
from dkp.recipes import recipe_folder
from dkp.study import recipe as recipe_module
from dkp.study.plan import Cell, read_plan
from dkp.study.recipe import Folders, equal_cost, files, keys, resolved, stages, student


@pytest.fixture
def folders(planes, tmp_path):
    pairs = [(capture, seed) for capture in ("plane", "few") for seed in (0, 1)]
    return Folders(
        tmp_path / "runs",
        dict.fromkeys(pairs, planes / "labelled"),
        dict.fromkeys(pairs, planes / "mine"),
        "cpu",
    )


def cell(plan, name):
    (found,) = [one for one in plan.cells() if one.name == name]
    return found


def options(stage):
    named = [word for word in stage.words[1:] if word.startswith("--") and not word.startswith("--config")]
    words = [word.removeprefix("--").split("=", 1) for word in named]
    return dict(words)


def test_every_method_sees_as_many_images_in_as_many_steps():
    plan = read_plan("full")
    for capture in ("human", "dog", "board"):
        settings = student(Cell(plan.captures[capture], plan.methods["labelled_only"], 0))
        labelled, data = equal_cost(settings, cameras=6), settings["data"]["init_args"]
        assert labelled["data.init_args.batch_size"] == (
            data["labelled_batch_size"] + data["unlabelled_batch_size"] * data["views_per_instant"]
        )
        assert labelled["trainer.max_steps"] == settings["trainer"]["max_steps"]
        assert labelled["model.init_args.learning_rate"] == settings["model"]["init_args"]["learning_rate"]
        everything = {"data": {"init_args": {**data, "views_per_instant": "all"}}}
        assert equal_cost({**settings, **everything}, cameras=6)["data.init_args.batch_size"] == (
            data["labelled_batch_size"] + data["unlabelled_batch_size"] * 6
        )


def test_labels_of_the_target_alone_are_varied_as_those_of_ours():
    """On the board, whose source has to be turned and whose own views do not."""
    plan = read_plan("full")

    def rotation(method, capture):
        one = student(Cell(plan.captures[capture], plan.methods[method], 0))
        return one["data"]["init_args"]["augmentation"]["rotate"]

    assert [rotation(name, "board") for name in ("oracle", "registered_alone")] == [20, 20]
    assert [rotation(name, "board") for name in ("labelled_only", "bootstrapping")] == [180, 180]
    assert rotation("oracle", "human") == rotation("labelled_only", "human")


def test_students_start_from_the_teacher_of_their_seed(plan, folders, tmp_path):
    weights = str(tmp_path / "runs" / "plane" / "teacher" / "seed1" / "fit" / "checkpoints" / "last.ckpt")
    assert options(stages(plan, cell(plan, "plane/ours/seed1"), folders)[0])["model.init_args.teacher"] == weights
    for name in ("labelled_only", "oracle"):
        fit, test = stages(plan, cell(plan, f"plane/{name}/seed1"), folders)
        assert options(fit)["model.init_args.initial_weights"] == weights
        assert (fit.words[0], test.words[0]) == ("fit", "test")


def test_where_labels_come_from(plan, folders, planes):
    def train(name):
        found = options(next(s for s in stages(plan, cell(plan, name), folders) if s.name == "fit"))
        return [found.get(f"data.init_args.{key}") for key in ("train", "labelled", "labelled_share", "unlabelled")]

    source, target = f"{planes / 'labelled'}#train", f"{planes / 'mine'}#train"
    assert train("plane/teacher/seed0") == [source, None, "1.0", None]
    assert train("plane/oracle/seed0") == [target, None, "1.0", None]
    assert train("plane/ours/seed0") == [None, source, "1.0", target]
    assert train("few/teacher/seed0") == [target, None, "0.5", None]
    assert train("few/oracle/seed0") == [target, None, "1.0", None]
    assert train("few/control/seed0") == [None, target, "0.5", target]
    made = stages(plan, cell(plan, "few/bootstrapping/seed0"), folders)[0].output
    assert made.parent == folders.runs / "few" / "teacher" / "seed0"
    pseudo = f"{made}#train"
    assert train("few/bootstrapping/seed0") == [f'["{target}", "{pseudo}"]', None, "[0.5, 1.0]", None]


def test_labels_are_shared_where_they_are_the_same(planes, tmp_path):
    plan = read_plan("full")

    def output(method, capture="human", seed=0, number=0):
        folders = {(capture, seed): planes / "mine"}
        one = Cell(plan.captures[capture], plan.methods[method], seed)
        return stages(plan, one, Folders(tmp_path, folders, folders, "cpu"))[number].output

    assert output("ours") == output("registered_alone") == output("multiview_10")
    assert len({output("ours"), output("bootstrapping"), output("ours", "dog"), output("ours", seed=1)}) == 4
    again = output("bootstrapping_two_rounds", number=2)
    assert output("bootstrapping_two_rounds") == output("bootstrapping")
    assert again.parent == tmp_path / "human" / "bootstrapping_two_rounds" / "seed0"


def test_no_method_is_tested_on_what_it_learns_from(plan, folders, planes):
    for one in plan.cells():
        for stage in stages(plan, one, folders):
            if stage.name.startswith("fit"):
                assert options(stage)["test"] == f"{planes / 'mine'}#test"
            if stage.name.startswith("pseudo"):
                assert options(stage)["capture"] == f"{planes / 'mine'}#train"


def test_rounds_share_the_steps_and_follow_each_other(plan, folders):
    first, second, test = stages(plan, cell(plan, "plane/two_rounds/seed0"), folders)
    assert [first.name, second.name, test.name] == ["fit-1", "fit-2", "test"]
    assert options(first)["trainer.max_steps"] == options(second)["trainer.max_steps"] == "30"
    assert options(second)["model.init_args.teacher"] == f"{first.output}/checkpoints/last.ckpt"
    assert options(test)["ckpt_path"] == f"{second.output}/checkpoints/last.ckpt"


def test_a_fit_is_a_recipe_with_files_on_top(plan, folders):
    folders = replace(folders, pictures=frozenset({"plane/ours/seed0"}))
    (words, *_) = (stage.words for stage in stages(plan, cell(plan, "plane/ours/seed0"), folders))
    configs = [Path(word.removeprefix("--config=")) for word in words if word.startswith("--config=")]
    assert configs == [recipe_folder() / "people" / "adapted.yaml", recipe_folder() / "unregistered.yaml"]
    assert "dkp.callbacks.DetectorSnapshots" in " ".join(words)
    for name in ("teacher", "labelled_only", "oracle", "bootstrapping"):
        assert files(cell(plan, f"plane/{name}/seed0")) == [recipe_folder() / "people" / "teacher.yaml"]


def test_fingerprints_follow_the_recipe(plan):
    teacher, ours = cell(plan, "plane/teacher/seed0"), cell(plan, "plane/ours/seed0")
    before = keys(plan, ours, {})
    assert keys(plan, ours, {}) == before
    assert before != keys(plan, cell(plan, "plane/ours/seed1"), {})
    assert before != keys(plan, cell(plan, "plane/clip_10/seed0"), {})
    assert before != keys(plan, ours, {"trainer.max_steps": 5})
    other_teacher = replace(plan, methods={**plan.methods, "teacher": replace(teacher.method, options={"sigma": 1.0})})
    assert before != keys(other_teacher, ours, {}), "another teacher makes another student"
    other_test = keys(replace(plan, metrics={}), ours, {})
    assert (before["fit"] == other_test["fit"], before["test"] == other_test["test"]) == (True, False)


def test_settings_are_resolved_without_folders_and_device():
    settings = {"sigma": 0.1, "root": "runs", "trainer": {"max_steps": 3, "precision": "${root}"}}
    model = {"init_args": {"teacher": "${root}/a.ckpt", "terms": {"a": {"sigma": "${sigma}"}}}}
    assert resolved(settings, {"sigma": 0.2, "model": model}) == {
        "sigma": 0.2,
        "trainer": {"max_steps": 3},
        "model": {"init_args": {"terms": {"a": {"sigma": 0.2}}}},
    }


def kinds():
    """The methods of the shipped plan that differ in their files, each with all options of the methods of its kind."""
    found = {}
    for one in read_plan("full").methods.values():
        kind = (one.experiment, one.files, *(name for name in one.options if name.count(".") == 3))
        first = found.setdefault(kind, replace(one, name=f"{one.name}-kind", rounds=1, captures=None, seeds=None))
        found[kind] = replace(first, options={**first.options, **one.options})
    return list(found.values())


@pytest.mark.parametrize("method", kinds(), ids=lambda method: method.name)
def test_the_methods_of_the_shipped_plan_are_understood_by_fit(method, planes, tmp_path, capsys):
    plan = read_plan("full")
    one = Cell(plan.captures["human_few"], method, 0)
    key = (one.capture.name, one.seed)
    fit = stages(plan, one, Folders(tmp_path, {key: planes / "mine"}, {key: planes / "mine"}, "cpu"))[-2]
    with pytest.raises(SystemExit) as stopped:
        main([*fit.words, "--print_config"])
    captured = capsys.readouterr()
    assert stopped.value.code in (None, 0), captured.err
    config = yaml.safe_load(captured.out)
    assert (config["root"], config["name"]) == (str(tmp_path / one.name), "fit")
    assert config["trainer"]["max_steps"] == (1600 if method.experiment == "teacher" else 700)
    assert "${" not in captured.out


@pytest.mark.parametrize("name", ["control", "registered_alone", "multiview_alone", "other_people"])
def test_a_shipped_teacher_is_tested_by_its_name_and_its_students_begin_from_it(name, people, tmp_path, capsys):
    plan, target = read_plan("people"), people / "bare"
    folders = {("person", 1): target}
    teacher, student = (Cell(plan.captures["person"], plan.methods[one], 1) for one in ("teacher", name))
    made = Folders(tmp_path, folders, folders, "cpu")
    (test,) = stages(plan, teacher, made)
    assert (test.words[:3], test.output) == (
        ["test", f"--config={recipe_folder() / 'human-small' / 'evaluate.yaml'}", "--ckpt_path=human-small"],
        tmp_path / "person" / "teacher" / "seed1" / "shipped" / "test",
    )
    *pseudo, fit, _ = stages(plan, student, made)
    assert [stage.words[1:3] for stage in pseudo] == [test.words[1:3]] * student.method.registered
    unlabelled = pseudo[0].output if pseudo else target
    assert options(fit)["data.init_args.unlabelled"] == f"{unlabelled}#train"
    for words in (test.words, fit.words):
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--print_config"])
        captured = capsys.readouterr()
        assert stopped.value.code in (None, 0), captured.err
    config = yaml.safe_load(captured.out)
    assert config["model"]["init_args"]["teacher"] == "human-small"
    assert config["data"]["init_args"]["labelled"] == [*(f"{each.output}#train" for each in pseudo), f"{target}#train"]
    assert config["model"]["init_args"]["detector"]["init_args"]["weights"].endswith("human-small.safetensors")


def test_the_own_subject_is_rendered_in_place_of_the_source(people, tmp_path):
    plan, target = read_plan("people"), people / "bare"
    folders = {(name, 1): target for name in plan.captures}
    made = Folders(tmp_path, folders, folders, "cpu")

    def of(capture, method):
        return stages(plan, Cell(plan.captures[capture], plan.methods[method], 1), made)

    both, alone = of("person", "adapted"), of("person", "subject_alone")
    pseudo, rendered, fit, _ = both
    assert rendered.words[:2] == ["synthesize", str(rendered.output)]
    wanted = {"rig": f"{pseudo.output}#train", "subject": str(pseudo.output), "domain": "sport"}
    assert options(rendered) | wanted == options(rendered)
    labelled = [f"{pseudo.output}#train", f"{rendered.output}#train"]
    assert yaml.safe_load(options(fit)["data.init_args.labelled"]) == labelled
    assert [stage.name for stage in alone] == ["pseudo", "subject", "fit", "test"]
    assert [stage.output for stage in alone[:2]] == [pseudo.output, rendered.output]  # made once for both
    assert yaml.safe_load(options(alone[2])["data.init_args.labelled"]) == [f"{alone[1].output}#train"]
    keys_of = {stage.key for stage in (*both, *alone)}
    assert len(keys_of) == len(both) + len(alone)
    for capture, method in (("human", "adapted"), ("person", "other_people"), ("person", "multiview_alone")):
        assert "subject" not in [stage.name for stage in of(capture, method)]
    assert "subject" in [stage.name for stage in of("human", "subject")]


def test_a_subject_is_not_rendered_by_a_recipe_that_does_not_say_how(people, tmp_path):
    plan = read_plan("people")
    small = replace(plan.captures["human"], teacher=None)
    with pytest.raises(
        InputError, match=r"human/subject/seed1 is to render the subject, expected `subject` in .*adapted"
    ):
        stages(plan, Cell(small, plan.methods["subject"], 1), Folders(tmp_path, {}, {}, "cpu"))


def test_other_shipped_weights_make_other_cells(monkeypatch):
    plan = read_plan("people")
    one = Cell(plan.captures["human"], plan.methods["adapted"], 0)
    before = keys(plan, one, {})
    monkeypatch.setattr(recipe_module, "card", lambda name: SimpleNamespace(sha256="other"))
    assert all(before[name] != key for name, key in keys(plan, one, {}).items())


@pytest.mark.parametrize("name", ["ours", "registered_alone", "bootstrapping"])
def test_registered_labels_take_the_place_of_the_source(name, planes, tmp_path):
    """Bootstrapping adds triangulated labels to the source's."""
    plan = read_plan("full")
    found, own = {}, []
    for capture in ("human", "human_few"):
        one = Cell(plan.captures[capture], plan.methods[name], 0)
        folders = {(capture, 0): planes / "mine"}
        pseudo, fit, _ = stages(plan, one, Folders(tmp_path, folders, folders, "cpu"))
        assert pseudo.words[0] == "pseudo-label"
        assert options(pseudo)["hide_background"] == "true"
        assert options(pseudo).get("method") == (None if name == "bootstrapping" else "registration")
        key = "labelled" if name == "ours" else "train"
        found[capture] = [options(fit)[f"data.init_args.{key}"], options(fit)["data.init_args.labelled_share"]]
        if name == "ours":
            assert options(fit)["data.init_args.unlabelled"] == f"{pseudo.output}#train"
        own.append(f"{pseudo.output}#train")
    labelled = f"{planes / 'mine'}#train"
    both = [[f'["{labelled}", "{pseudo}"]', f"[{share}, 1.0]"] for pseudo, share in zip(own, (1.0, 0.1), strict=True)]
    alone = [[own[0], "1.0"], both[1]]
    assert list(found.values()) == (both if name == "bootstrapping" else alone)
