import pytest
import torch

from dkp.errors import InputError
from dkp.models import save_detector
from dkp.tasks import LabelledTask
from dkp.tasks.evaluation import EvaluationSettings


def make_task(make_detector, plane, **options):
    chosen = {"learning_rate": 3e-3, "schedule": "constant", "gradient_norms_every": 0} | options
    return LabelledTask(make_detector(), plane, **chosen)


def test_training_lowers_the_loss_and_the_surface_error(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane)
    trainer = make_trainer(max_epochs=12)
    data = plane_data("labelled")
    before = trainer.validate(task, data, verbose=False)[0]
    trainer.fit(task, data)
    after = trainer.callback_metrics
    assert after["val/geodesic_mean_cm"] < 10
    assert after["val/coverage"] > 0.8
    assert after["val/iou"] > before["val/iou"] + 0.1
    assert after["train/labelled/valid_share"] > 0


def test_validation_reports_accuracy_beside_consistency_and_the_trivial_field(
    make_detector, make_trainer, plane, plane_data
):
    metrics = make_trainer().validate(make_task(make_detector, plane), plane_data(), verbose=False)[0]
    for name in ("geodesic_median_cm", "coverage", "iou", "mask_iou", "epipolar_median_px", "matched_share"):
        assert f"val/{name}" in metrics
    assert "val/trivial/epipolar_median_px" in metrics
    assert "val/pair/0-2/epipolar_median_px" in metrics


def test_the_surface_fills_in_the_bounds_of_a_detector_without(make_trainer, plane, plane_data):
    from dkp.models import Detector

    task = LabelledTask(Detector(width=8, levels=3), plane, schedule="constant")
    make_trainer(limit_train_batches=1, limit_val_batches=0).fit(task, plane_data("labelled"))
    assert task.detector.surface_half_extent[:2].tolist() == pytest.approx(plane.bounds[1][:2].tolist())


def test_initial_weights_are_loaded_before_training(make_detector, make_trainer, plane, plane_data, tmp_path):
    source = make_detector(seed=7)
    source.set_surface_bounds((5.0, 0.0, 1.0), (3.0, 2.0, 1.0))  # of another surface
    path = save_detector(source, tmp_path / "start.safetensors")
    task = make_task(make_detector, plane, initial_weights=str(path), learning_rate=0.0)
    make_trainer(limit_train_batches=1, limit_val_batches=0).fit(task, plane_data("labelled"))
    for mine, other in zip(task.detector.parameters(), source.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert task.detector.surface_centre.tolist() == pytest.approx(plane.bounds[0].tolist())
    assert task.detector.surface_half_extent[:2].tolist() == pytest.approx(plane.bounds[1][:2].tolist())


def test_initial_weights_that_do_not_exist_are_an_input_error(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane, initial_weights="nowhere.ckpt")
    with pytest.raises(InputError, match=r"nowhere\.ckpt"):
        make_trainer().fit(task, plane_data("labelled"))


def test_batches_without_any_label_end_the_epoch_with_an_error(make_detector, make_trainer, plane, plane_data):
    data = plane_data("labelled", known=torch.zeros(3, 16, 16, dtype=torch.bool))
    with pytest.raises(InputError, match=r"L_L.*terms.labelled.weight.*dkp check"):
        make_trainer(limit_val_batches=0).fit(make_task(make_detector, plane), data)


def test_optimizer_has_no_decay_on_biases_and_norms(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane, weight_decay=0.1)
    trainer = make_trainer(limit_train_batches=1, limit_val_batches=0)
    trainer.fit(task, plane_data("labelled"))
    decayed, free = trainer.optimizers[0].param_groups
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])
    assert all(parameter.ndim < 2 for parameter in free["params"])


def test_charts_train_and_report_part_accuracy(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane)
    task.detector = make_detector(representation="charts", parts=plane.parts)
    data = plane_data("labelled")
    for item in data.items + data.held_out:
        item["part"] = item["foreground"].long()
        item["uv"] = item["coordinate"][:, :2] / (2 * torch.from_numpy(plane.bounds[0][:2]).float()[:, None, None])
    trainer = make_trainer(max_epochs=12)
    trainer.fit(task, data)
    metrics = trainer.callback_metrics
    assert metrics["train/labelled/valid_share"] == 1
    assert metrics["val/part_accuracy"] > 0.5
    assert metrics["val/geodesic_mean_cm"] < 12


def test_charts_without_chart_labels_are_refused(make_detector, make_trainer, plane, plane_data):
    task = make_task(make_detector, plane)
    task.detector = make_detector(representation="charts", parts=plane.parts)
    with pytest.raises(ValueError, match="no part or no uv"):
        make_trainer().fit(task, plane_data("labelled"))


def test_mirrored_evaluation_sees_a_mirrored_image_as_the_mirrored_body(make_detector):
    task = LabelledTask(make_detector().eval(), "human", metrics=EvaluationSettings(mirrored=True))
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        field, other = task.evaluated_field(images), task.evaluated_field(images.flip(-1))
        plain = task(images)
    sides = torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    torch.testing.assert_close(other.coordinate.flip(-1) * sides, field.coordinate)
    assert not torch.allclose(plain.coordinate, field.coordinate, atol=1e-3)


def test_mirrored_evaluation_needs_a_left_and_a_right(make_detector, plane):
    task = LabelledTask(make_detector(), plane, metrics=EvaluationSettings(mirrored=True))
    with pytest.raises(InputError, match="left is the reflection of its right"):
        task.evaluated_field(torch.rand(1, 3, 32, 32))
