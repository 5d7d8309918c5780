import copy

import pytest
import pytorch_lightning as pl
import torch

from dkp.errors import InputError
from dkp.losses import (
    ConsensusTerm,
    DistillationTerm,
    EquivarianceTerm,
    LabelledTerm,
    MaskTerm,
    MultiviewTerm,
    PseudoLabelTerm,
    SilhouetteTerm,
    TemporalTerm,
)
from dkp.models import Detector, save_detector
from dkp.tasks import LabelledTask, SemiSupervisedTask, TrainingDiverged
from dkp.tasks.semi_supervised import still_statistics, without_background

KINDS = {
    "labelled": LabelledTerm,
    "multiview": MultiviewTerm,
    "distillation": DistillationTerm,
    "temporal": TemporalTerm,
    "equivariance": EquivarianceTerm,
    "consensus": ConsensusTerm,
    "silhouette": SilhouetteTerm,
    "mask": MaskTerm,
    "pseudo": PseudoLabelTerm,
}


def make_task(make_detector, plane, **options):
    chosen = {"learning_rate": 1e-3, "schedule": "constant", "gradient_norms_every": 0} | options
    detector = chosen.pop("detector", None) or make_detector()
    return SemiSupervisedTask(detector, surface=plane, **chosen)


def terms(**weights):
    return {"terms": {name: KINDS[name](weight=float(weight)) for name, weight in weights.items()}}


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_teacher_stays_frozen_in_eval_mode_while_the_student_moves(make_detector, make_trainer, plane, plane_data):
    teacher = make_detector(seed=3, norm="batch")
    task = make_task(make_detector, plane, detector=make_detector(norm="batch"), teacher=teacher)
    before = state(teacher)
    make_trainer(limit_val_batches=1).fit(task, plane_data())
    assert task.teacher is teacher
    assert not any(module.training for module in teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in task.detector.state_dict().items())


def test_a_moving_average_follows_the_student(make_detector, make_trainer, plane, plane_data):
    teacher = make_detector(seed=3, norm="batch")
    start = state(teacher)
    task = make_task(make_detector, plane, detector=make_detector(norm="batch"), teacher=teacher, teacher_momentum=0.75)
    make_trainer(limit_train_batches=1, limit_val_batches=0).fit(task, plane_data())
    for name, value in task.detector.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(task.teacher.state_dict()[name], start[name].lerp(value, 0.25))
    assert not any(module.training for module in task.teacher.modules())
    assert not any(parameter.requires_grad for parameter in task.teacher.parameters())


@pytest.mark.parametrize("options", [{"teacher_momentum": 1.0}, {"teacher_momentum": 0.9, "start_from_teacher": False}])
def test_a_moving_average_needs_a_share_and_a_common_start(make_detector, plane, options):
    with pytest.raises(InputError, match="teacher_momentum"):
        make_task(make_detector, plane, **options)


def test_student_starts_from_the_teachers_file(make_detector, make_trainer, plane, plane_data, tmp_path):
    source = foreground_detector(make_detector, seed=5)
    path = save_detector(source, tmp_path / "teacher.safetensors")
    task = make_task(make_detector, plane, teacher=str(path), learning_rate=0.0)
    make_trainer(limit_train_batches=1, limit_val_batches=0).fit(task, plane_data())
    for name, value in source.state_dict().items():
        assert torch.equal(task.detector.state_dict()[name], value)
        assert torch.equal(task.teacher.state_dict()[name], value)


def test_only_the_student_is_optimised(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane)
    trainer = make_trainer(limit_train_batches=1, limit_val_batches=0)
    trainer.fit(task, plane_data())
    steered = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert steered == {id(p) for p in task.detector.parameters()}


def test_every_configured_term_is_logged_with_weight_share_and_gradient_norm(
    make_detector, make_trainer, plane, plane_data
):
    chosen = terms(labelled=1, multiview=0.5, distillation=2, equivariance=0.25, consensus=0.5, silhouette=1, mask=1)
    task = make_task(
        make_detector, plane, detector=foreground_detector(make_detector), gradient_norms_every=1, **chosen
    )
    trainer = make_trainer(limit_train_batches=2, limit_val_batches=0)
    trainer.fit(task, plane_data())
    for name, weight in {
        "labelled": 1,
        "multiview": 0.5,
        "distillation": 2,
        "equivariance": 0.25,
        "consensus": 0.5,
    }.items():
        assert f"train/{name}" in trainer.callback_metrics
        assert trainer.callback_metrics[f"train/{name}/weight"] == weight
        assert trainer.callback_metrics[f"train/{name}/valid_share"] > 0
        assert f"train/{name}/gradient_norm" in trainer.callback_metrics
    assert trainer.callback_metrics["train/labelled/gradient_norm"] > 0
    assert "train/temporal" not in trainer.callback_metrics


def foreground_detector(make_detector, **options):
    """A detector that begins by calling every cell foreground."""
    detector = make_detector(**options)
    torch.nn.init.constant_(detector.foreground_head[-1].bias, 3.0)
    return detector


def test_ramp_scales_the_multiview_weight_terms(make_detector, plane, make_trainer, plane_data):
    chosen = {"multiview": MultiviewTerm(ramp_steps=10), "distillation": DistillationTerm()}
    task = make_task(make_detector, plane, detector=foreground_detector(make_detector), terms=chosen)
    trainer = make_trainer(limit_train_batches=2, limit_val_batches=0)
    trainer.fit(task, plane_data())
    assert trainer.callback_metrics["train/multiview/weight"] == pytest.approx(0.2)
    assert trainer.callback_metrics["train/distillation/weight"] == 1.0


def test_sigma_follows_its_schedule_by_step_in_every_fit(make_detector, plane, make_trainer, plane_data, monkeypatch):
    """Also in a second fit of the same task."""
    term = MultiviewTerm(sigma=0.08, sigma_final=0.02, sigma_steps=2)
    seen = []
    match = MultiviewTerm.match
    monkeypatch.setattr(MultiviewTerm, "match", lambda self, *words: (seen.append(words[-1]), match(self, *words))[1])
    task = make_task(make_detector, plane, terms={"multiview": term, "distillation": DistillationTerm()})
    task.detector = foreground_detector(make_detector)
    for _ in range(2):
        make_trainer(max_epochs=2, limit_val_batches=0).fit(task, plane_data())
    assert seen[::2] == pytest.approx(2 * [0.08, 0.04, 0.02, 0.02])


def test_a_moving_average_moves_once_an_optimiser_step(make_detector, make_trainer, plane, plane_data):
    teacher = make_detector(seed=3)
    start = state(teacher)
    task = make_task(make_detector, plane, teacher=teacher, teacher_momentum=0.75)
    make_trainer(accumulate_grad_batches=2, limit_val_batches=0).fit(task, plane_data())
    assert task.global_step == 1
    for name, value in task.detector.state_dict().items():
        torch.testing.assert_close(task.teacher.state_dict()[name], start[name].lerp(value, 0.25))


def test_a_batch_without_valid_pair_trains_on(make_detector, make_trainer, plane, plane_data):
    data = plane_data()
    data.items[0]["pair_valid"] = torch.zeros(3, dtype=torch.bool)
    data.items[1]["pair_valid"] = torch.zeros(3, dtype=torch.bool)
    task = make_task(make_detector, plane, detector=foreground_detector(make_detector))
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(task, data)
    assert trainer.global_step == 2


def test_a_term_that_never_fires_is_an_error(make_detector, make_trainer, plane, plane_data):
    data = plane_data(pair_valid=torch.zeros(3, dtype=torch.bool))
    with pytest.raises(InputError, match=r"2 steps.*L_M .*terms.multiview.weight.*angle"):
        make_trainer(limit_val_batches=0).fit(make_task(make_detector, plane), data)


def test_missing_labelled_data_is_an_error_at_the_end_of_the_epoch(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane, **terms(labelled=1, distillation=1))
    with pytest.raises(InputError, match="L_L"):
        make_trainer(limit_val_batches=0).fit(task, plane_data("unlabelled"))


def test_missing_flow_is_an_error_at_the_end_of_the_epoch(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane, **terms(labelled=1, temporal=1))
    with pytest.raises(InputError, match="optical flow"):
        make_trainer(limit_val_batches=0).fit(task, plane_data())


def test_what_an_optional_term_needs_may_be_missing(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane, **terms(labelled=1, temporal=1))
    task.terms["temporal"].optional = True
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(task, plane_data())
    assert trainer.global_step == 2


def test_temporal_term_fires_where_there_is_flow(make_detector, make_trainer, plane, plane_data):
    data = plane_data("unlabelled")
    for item in data.items:
        item["next_image"] = item["image"].clone()
        item["flow"] = torch.zeros(3, 2, 16, 16)
        item["flow_valid"] = torch.ones(3, 16, 16, dtype=torch.bool)
    task = make_task(make_detector, plane, detector=foreground_detector(make_detector), **terms(temporal=1))
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(task, data)
    assert trainer.callback_metrics["train/temporal/valid_share"] > 0


def test_captured_masks_alone_teach_the_foreground(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane, learning_rate=1e-2, **terms(mask=1))
    trainer = make_trainer(max_epochs=15)
    trainer.fit(task, plane_data("unlabelled"))
    assert trainer.callback_metrics["val/mask_iou"] > 0.8


def test_pseudo_labels_count_like_labels(make_detector, make_trainer, plane, plane_data):
    """Those of views that have some; an absent or unlabelled view's numbers do not count."""
    task = make_task(make_detector, plane, **terms(pseudo=1))
    trainer = make_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(task, plane_data("unlabelled"))
    assert trainer.callback_metrics["train/pseudo/valid_share"] == 1
    batch = next(iter(plane_data().train_dataloader()))[0]
    task = make_task(make_detector, plane, detector=task.detector.eval(), **terms(labelled=1, pseudo=1))
    task.eval()
    found = {name: entry.loss.value for name, entry in task.training_terms(batch).items()}
    torch.testing.assert_close(found["pseudo"], found["labelled"])
    views = batch["unlabelled"]
    views["has_label"][0, 1] = False
    without = task.training_terms(batch)["pseudo"].loss.value
    views["coordinate"][0, 1] = torch.nan
    views["foreground"][0, 1] = ~views["foreground"][0, 1]
    torch.testing.assert_close(task.training_terms(batch)["pseudo"].loss.value, without)
    assert not torch.isclose(without, found["labelled"])


def test_missing_pseudo_labels_are_an_error_at_the_end_of_the_epoch(make_detector, make_trainer, plane, plane_data):
    data = plane_data("unlabelled")
    for item in data.items:
        del item["has_label"]
    with pytest.raises(InputError, match=r"data\.pseudo_labels is true"):
        make_trainer(limit_val_batches=0).fit(make_task(make_detector, plane, **terms(pseudo=1, distillation=1)), data)


def test_the_teacher_may_be_spared_what_the_masks_leave_out(make_detector, make_trainer, plane, plane_data):
    teacher = make_detector(seed=3)
    task = make_task(make_detector, plane, teacher=teacher, hide_from_teacher=True, **terms(distillation=1))
    seen = {}
    for name, detector in (("teacher", teacher), ("student", task.detector)):
        detector.register_forward_pre_hook(lambda _, inputs, name=name: seen.setdefault(name, inputs[0].clone()))
    data = plane_data("unlabelled")
    make_trainer(limit_train_batches=1, limit_val_batches=0).fit(task, data)
    shown = seen["teacher"] != 0
    assert 0.05 < shown.float().mean() < 0.95
    assert torch.equal(seen["teacher"][shown], seen["student"][shown])
    assert (seen["student"] != 0).float().mean() > shown.float().mean()


def test_views_without_a_mask_keep_their_background():
    images, mask = torch.rand(1, 2, 3, 16, 16) + 0.1, torch.zeros(1, 2, 16, 16, dtype=torch.bool)
    mask[0, 0, 4:9, 3:7] = True
    hidden = without_background(images[0], {"mask": mask})
    assert torch.equal(hidden[0], images[0, 0] * mask[0, 0])
    assert torch.equal(hidden[1], images[0, 1])
    assert torch.equal(without_background(images[0], {}), images[0])


def test_adaptation_improves_consistency_and_accuracy_of_a_rough_teacher(
    make_detector, make_trainer, plane, plane_data
):
    teacher = make_detector()
    rough = LabelledTask(teacher, plane, learning_rate=3e-3, schedule="constant", gradient_norms_every=0)
    make_trainer(max_epochs=8, limit_val_batches=0).fit(rough, plane_data("labelled"))
    before = make_trainer().validate(rough, plane_data(), verbose=False)[0]
    chosen = {"multiview": MultiviewTerm(sigma=0.03, clip=15.0), "distillation": DistillationTerm(weight=0.3)}
    task = make_task(make_detector, plane, teacher=teacher, terms=chosen)
    trainer = make_trainer(max_epochs=15)
    trainer.fit(task, plane_data("unlabelled", instants=6))
    after = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert after["val/epipolar_mean_px"] < 0.9 * before["val/epipolar_mean_px"]
    assert after["val/geodesic_mean_cm"] < before["val/geodesic_mean_cm"]
    assert after["val/matched_share"] > 0.9 * before["val/matched_share"]


def test_weights_have_to_be_sensible(make_detector, plane):
    with pytest.raises(InputError, match=r"model\.terms\.multiview\.weight is -1\.0 where 0 or more"):
        make_task(make_detector, plane, **terms(multiview=-1))
    with pytest.raises(InputError, match="at least one loss term"):
        make_task(make_detector, plane, **terms(labelled=0))


def test_a_teacher_of_another_architecture_needs_start_from_teacher_off(make_detector, make_trainer, plane, plane_data):
    teacher = make_detector(width=16)
    with pytest.raises(InputError, match="start_from_teacher"):
        make_trainer().fit(make_task(make_detector, plane, teacher=teacher), plane_data())
    task = make_task(make_detector, plane, teacher=teacher, start_from_teacher=False, **terms(labelled=1))
    make_trainer(limit_val_batches=0).fit(task, plane_data())


def test_divergence_stops_training_with_term_and_step(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane, learning_rate=1e30)
    with pytest.raises(TrainingDiverged, match=r"step \d+ because a loss is not finite: \w+ = (nan|inf)"):
        make_trainer(max_epochs=5, limit_val_batches=0).fit(task, plane_data())


@pytest.mark.parametrize("mode", ["train", "frozen", "unlabelled"])
def test_batch_norm_modes(mode, make_detector, make_trainer, plane, plane_data):
    detector = make_detector(norm="batch")
    before = state(detector)
    task = make_task(make_detector, plane, detector=detector, batch_norm=mode, learning_rate=0.0, **terms(labelled=1))
    make_trainer(limit_val_batches=1, num_sanity_val_steps=1).fit(task, plane_data())
    moved = [n for n, v in detector.state_dict().items() if "running_mean" in n and not torch.equal(v, before[n])]
    assert bool(moved) == (mode == "train")
    norms = [m for m in detector.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(norm.training == (mode != "frozen") for norm in norms)


def test_still_statistics_normalise_by_the_batch_and_change_nothing(make_detector):
    detector = make_detector(norm="batch").train()
    images = torch.rand(4, 3, 32, 32)
    expected = copy.deepcopy(detector)(images)
    before = state(detector)
    with still_statistics(detector, True):
        field = detector(images)
    torch.testing.assert_close(field.coordinate, expected.coordinate)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    detector(images)
    assert any(not torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_resumed_training_equals_uninterrupted_training(make_detector, make_trainer, plane, plane_data, tmp_path):
    multiview = MultiviewTerm(sigma_final=0.01, sigma_steps=6, ramp_steps=5)
    chosen = {"labelled": LabelledTerm(), "multiview": multiview, "distillation": DistillationTerm()}
    options = {"terms": chosen, "schedule": "cosine", "teacher_momentum": 0.9}

    def task():
        return make_task(make_detector, plane, detector=foreground_detector(make_detector), **options)

    whole = task()
    make_trainer(max_epochs=3, limit_val_batches=0).fit(whole, plane_data())

    part = task()
    first = make_trainer(max_epochs=3, limit_val_batches=0, enable_checkpointing=True, callbacks=[StopAfter(2)])
    first.fit(part, plane_data())
    first.save_checkpoint(tmp_path / "half.ckpt")
    rest = make_task(make_detector, plane, detector=make_detector(seed=9), **options)
    make_trainer(max_epochs=3, limit_val_batches=0).fit(rest, plane_data(), ckpt_path=tmp_path / "half.ckpt")
    assert rest.global_step == whole.global_step == 6
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(rest.state_dict()[name], value, msg=name)


class StopAfter(pl.Callback):
    """End training after some epochs, with the schedules of the full length."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def test_checkpoint_serves_testing_without_the_teachers_file(make_detector, make_trainer, plane, plane_data, tmp_path):
    path = save_detector(foreground_detector(make_detector, seed=5), tmp_path / "teacher.safetensors")
    task = make_task(make_detector, plane, teacher=str(path))
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(task, plane_data())
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    path.unlink()
    again = make_task(make_detector, plane, teacher=str(path))
    make_trainer().test(again, plane_data(), ckpt_path=tmp_path / "student.ckpt", verbose=False)
    assert again.teacher is None
    for name, value in task.detector.state_dict().items():
        assert torch.equal(again.detector.state_dict()[name], value)


def test_checkpoint_loads_from_python_with_its_objects_given_again(
    make_detector, make_trainer, plane, plane_data, tmp_path
):
    task = make_task(make_detector, plane, batch_norm="frozen")
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(task, plane_data())
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    content = torch.load(tmp_path / "student.ckpt", weights_only=True)
    assert content["hyper_parameters"]["batch_norm"] == "frozen"
    again = SemiSupervisedTask.load_from_checkpoint(
        tmp_path / "student.ckpt", detector=Detector(width=8, levels=3, head_width=16), surface=plane
    )
    assert again.batch_norm == "frozen"


def test_prediction_has_the_views_axes(make_detector, make_trainer, plane, plane_data):
    batches = make_trainer().predict(make_task(make_detector, plane), plane_data())
    assert batches[0]["foreground"].shape == (2, 3, 16, 16)
    assert batches[0]["coordinate"].shape == (2, 3, 3, 16, 16)
    assert batches[1]["foreground"].shape == (1, 3, 16, 16)
