"""What a task makes of its mapping of loss terms, and a term of a user's own, as docs/add-a-loss-term.md has it."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from dkp.batches import flatten_views, view_pairs
from dkp.cli import main
from dkp.errors import InputError
from dkp.losses import ConsensusTerm, DistillationTerm, LabelledTerm, LossTerm, MaskTerm, MultiviewTerm, SilhouetteTerm
from dkp.tasks import LabelledTask, SemiSupervisedTask

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own_term(tmp_path, monkeypatch):
    """The class of the docs' first block, importable as my_terms."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "add-a-loss-term.md").read_text(), re.DOTALL)
    (tmp_path / "my_terms.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_terms", raising=False)
    import my_terms

    return my_terms.SmoothForeground


def test_the_example_of_the_docs_trains(own_term, make_detector, make_trainer, plane, plane_data):
    terms = {"smooth": own_term(weight=0.5, ramp_steps=4)}
    task = LabelledTask(make_detector(), plane, terms, schedule="constant", learning_rate=0.01)
    trainer = make_trainer(max_epochs=2, limit_val_batches=0)
    seen = []
    training_terms = task.training_terms
    task.training_terms = lambda batch: (seen.append(training_terms(batch)["smooth"]), {"smooth": seen[-1]})[1]
    trainer.fit(task, plane_data("unlabelled"))
    assert [entry.weight for entry in seen] == [0.125, 0.25, 0.375, 0.5]
    assert seen[-1].loss.value < seen[0].loss.value
    assert trainer.callback_metrics["train/smooth/valid_share"] == 1


def test_the_example_of_the_docs_is_configured_from_a_file_and_from_options(own_term, tmp_path, capsys):
    (file,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "add-a-loss-term.md").read_text(), re.DOTALL)
    (tmp_path / "own.yaml").write_text(file)
    task = tmp_path / "task.yaml"
    labelled = "{class_path: dkp.losses.LabelledTerm}"
    task.write_text(
        "model:\n  class_path: dkp.tasks.SemiSupervisedTask\n  init_args:\n    detector: dkp.models.Detector\n"
        f"    terms:\n      labelled: {labelled}\ndata: dkp.data.SemiSupervisedDataModule\n"
    )
    words = ["fit", f"--config={task}", f"--config={tmp_path / 'own.yaml'}", "--model.terms.smooth.weight=0.3"]
    words += ["--model.terms.more", "my_terms.SmoothForeground", "--model.terms.more.ramp_steps=7", "--print_config"]
    with pytest.raises(SystemExit):
        main(words)
    terms = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["terms"]
    assert list(terms) == ["labelled", "smooth", "more"]
    assert terms["smooth"] == {
        "class_path": "my_terms.SmoothForeground",
        "init_args": {"weight": 0.3, "ramp_steps": 100, "optional": False},
    }
    assert terms["more"]["init_args"] == {"weight": 1.0, "ramp_steps": 7, "optional": False}


def test_terms_are_their_losses_on_the_fields_of_the_step(make_detector, plane, plane_data):
    """At a step in the middle of the schedules: σ, ramp, weight and what each term looks at."""
    schedule = {"sigma": 0.2, "sigma_final": 0.05, "sigma_steps": 8, "ramp_steps": 16}
    terms = {
        "labelled": LabelledTerm(weight=0.7),
        "multiview": MultiviewTerm(weight=3.0, **schedule),
        "distillation": DistillationTerm(weight=0.5, trust_radius=3.0, sigma=0.2),
        "consensus": ConsensusTerm(weight=0.2, **schedule),
        "silhouette": SilhouetteTerm(),
        "mask": MaskTerm(weight=2.0),
    }
    task = SemiSupervisedTask(make_detector(), make_detector(seed=1), plane, terms, start_from_teacher=False)
    for detector in (task.detector, task._teacher_source):
        torch.nn.init.constant_(detector.foreground_head[-1].bias, 1.0)
    task.configure_models("fit")
    batch = next(iter(plane_data().train_dataloader()))[0]
    context = task.loss_context(batch)
    context.step = 4
    task.loss_context = lambda _: context
    found = task.training_terms(batch)
    weights = {name: entry.weight for name, entry in found.items()}
    assert weights == pytest.approx(
        {
            "labelled": 0.7,
            "multiview": 3 * 5 / 16,
            "distillation": 0.5,
            "consensus": 0.2 * 5 / 16,
            "silhouette": 1,
            "mask": 2,
        }
    )
    views, labels = batch["unlabelled"], batch["labelled"]
    field, teacher, pairs = task(flatten_views(views)), task.teacher_field(views), view_pairs(views)
    sides = field[pairs.first], field[pairs.second], pairs.fundamental
    evidence = teacher[pairs.first], teacher[pairs.second]
    confidence = terms["distillation"].confidence(teacher, pairs, 0.2)
    assert confidence.min() < 0.9
    expected = {
        "labelled": LabelledTerm().loss(
            task(labels["image"]), **{name: labels[name] for name in ("foreground", "coordinate", "known")}
        ),
        "multiview": MultiviewTerm(sigma=0.1).loss(*sides),
        "distillation": DistillationTerm().loss(field, teacher, confidence=confidence),
        "consensus": ConsensusTerm(sigma=0.1).loss(*sides),
        "silhouette": SilhouetteTerm().loss(*sides, *evidence),
    }
    for name, loss in expected.items():
        torch.testing.assert_close(found[name].loss.value, loss.value, msg=name)


def test_masks_count_more_where_they_are_thin(make_detector, plane, plane_data):
    task = SemiSupervisedTask(make_detector(), make_detector(seed=1), plane, {"mask": MaskTerm()})
    task.configure_models("fit")
    batch = next(iter(plane_data().train_dataloader()))[0]
    mask = batch["unlabelled"]["mask"]
    wide, narrow = torch.zeros_like(mask), torch.zeros_like(mask)
    wide[..., mask.shape[-1] // 2 :] = True
    narrow[..., mask.shape[-1] // 2 : mask.shape[-1] // 2 + 4] = True
    for shape, more in ((wide, False), (narrow, True)):
        batch["unlabelled"]["mask"] = shape
        plain, weighted = (MaskTerm(thin_weight=weight)(task.loss_context(batch)).value for weight in (0.0, 2.0))
        assert bool(weighted > plain) == more


def test_a_term_of_weight_0_changes_nothing(make_detector, make_trainer, plane, plane_data):
    class Never(LossTerm):
        def __call__(self, context):
            raise AssertionError("called")

    results = []
    for more in ({}, {"never": Never(weight=0.0)}):
        task = SemiSupervisedTask(
            make_detector(), None, plane, {**more, "multiview": MultiviewTerm(), "mask": MaskTerm()}
        )
        torch.nn.init.constant_(task.detector.foreground_head[-1].bias, 1.0)
        make_trainer(limit_val_batches=0, max_steps=2).fit(task, plane_data())
        results.append(task.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_a_task_without_a_teacher_refuses_terms_that_need_one(make_detector, make_trainer, plane, plane_data):
    task = LabelledTask(make_detector(), plane, {"held": DistillationTerm()}, schedule="constant")
    with pytest.raises(InputError, match=r"model\.terms\.held.* needs a teacher, which LabelledTask does not have"):
        make_trainer(limit_val_batches=0).fit(task, plane_data())
