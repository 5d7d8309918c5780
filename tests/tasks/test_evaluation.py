"""What an evaluation measures in 3D."""

import pytest
import torch

from dkp.fields import EmbeddingField
from dkp.surface import Surface
from dkp.tasks import EvaluationSettings, LabelledTask
from dkp.tasks.evaluation import Evaluation

SIDE = 0.4
LENGTHS = {"surface_median_mm", "surface_mean_mm", "to_surface_mean_mm", "surface_recovered"}
RESIDUALS = {"reprojection_median_px", "reprojection_mean_px", "triangulated", "triangulated_views"}


def posed(batch, plane):
    """The batch with the place of its plane, which is centred at the world's origin."""
    vertices = torch.from_numpy(plane.vertices).float() - torch.tensor([SIDE / 2, SIDE / 2, 0.0])
    count = len(batch["frame"])
    return batch | {"vertices": vertices.expand(count, -1, -1), "posed": torch.ones(count, dtype=torch.bool)}


def measured(batch, plane, **changes):
    """What is computed for a field that is exact, but for a shift of its coordinates [m]."""
    shift = changes.pop("shift", 0.0)
    coordinate = batch["coordinate"].flatten(0, 1) + torch.tensor([shift, 0.0, 0.0])[:, None, None]
    field = EmbeddingField(20 * batch["foreground"].flatten(0, 1).float() - 10, coordinate, stride=2)
    options = {"consistency": False, "accuracy": False, "reconstruction": True} | changes
    evaluation = Evaluation(plane, EvaluationSettings(**options))
    evaluation.update(field, field.coordinate, batch)
    return {name: value.item() for name, value in evaluation.compute().items()}


def test_exact_fields_of_a_posed_surface(plane, plane_batch):
    found = measured(posed(plane_batch(), plane), plane)
    assert set(found) >= LENGTHS | RESIDUALS
    assert found["surface_mean_mm"] < 10  # a cell is 27 mm wide
    assert found["to_surface_mean_mm"] < found["surface_mean_mm"]
    assert found["surface_recovered"] > 0.9
    assert found["reprojection_median_px"] < 2  # at 128 px, where a cell has 8
    assert "mpjpe_mm" not in found  # the plane has no joints


def test_shifted_fields_agree_and_are_wrong(plane, plane_batch):
    """The error is that of the shift along the plane; the views agree as before, and the points stay on the plane."""
    exact = measured(posed(plane_batch(), plane), plane)
    found = measured(posed(plane_batch(), plane), plane, shift=0.05)
    assert found["surface_median_mm"] == pytest.approx(50, abs=8)
    assert found["reprojection_median_px"] < exact["reprojection_median_px"] + 0.3
    assert found["to_surface_median_mm"] < 12


def test_without_truth_the_residual_is_left(plane, plane_batch):
    assert set(measured(plane_batch(), plane)) == RESIDUALS
    unknown = posed(plane_batch(), plane) | {"posed": torch.zeros(2, dtype=torch.bool)}
    assert set(measured(unknown, plane)) == RESIDUALS
    assert measured(plane_batch(), plane, reconstruction=False) == {}


def test_instants_without_truth_are_left_out(plane, plane_batch):
    both = posed(plane_batch(), plane)
    half = both | {"posed": torch.tensor([True, False])}
    points = [measured(batch, plane)["surface_points"] for batch in (both, half)]
    assert 0.4 < points[1] / points[0] < 0.6


def test_keypoints_of_a_surface_with_joints(plane, plane_batch):
    jointed = Surface(
        "jointed", plane.vertices, plane.faces, plane.face_part, plane.corner_uv, plane.part_names,
        joints={"middle": [0.2, 0.2, 0.0], "corner": [0.05, 0.05, 0.0], "other": [0.3, 0.1, 0.0]}, flat=True,
    )  # fmt: skip
    found = measured(posed(plane_batch(), plane), jointed)
    assert found["keypoints_found"] == 1
    assert found["mpjpe_mm"] < 10
    assert found["pck3d_150"] == 1
    assert found["pa_mpjpe_mm"] <= found["mpjpe_mm"]


def test_testing_reconstructs_and_validation_does_not(make_detector, make_trainer, plane, plane_data):
    settings = EvaluationSettings(reconstruction=True)
    task = LabelledTask(make_detector(), plane, schedule="constant", metrics=settings)
    tested = make_trainer().test(task, plane_data(), verbose=False)[0]
    assert "test/triangulated" in tested
    task = LabelledTask(make_detector(), plane, schedule="constant", metrics=settings)
    assert "val/triangulated" not in make_trainer().validate(task, plane_data(), verbose=False)[0]


def test_what_the_labels_themselves_have(plane, plane_batch):
    """What an exact field would have at the joints and between the views does not depend on the tested field."""
    jointed = Surface(
        "jointed", plane.vertices, plane.faces, plane.face_part, plane.corner_uv, plane.part_names,
        joints={"left_hip": [0.05, 0.2, 0.05], "right_hip": [0.35, 0.2, 0.05]}, flat=True,
    )  # fmt: skip
    batch = plane_batch()
    inside = batch["foreground"].bool()
    cells = inside[0, 0].nonzero()
    cell = cells[len(cells) // 2]  # both joints are detected at this cell of the first view
    place = batch["coordinate"][0, 0, :, cell[0], cell[1]]
    batch["joints"] = torch.zeros(*inside.shape[:2], 2, 3)
    batch["joints"][0, 0, :, :2] = 2 * cell.flip(0) + 1.0
    batch["joints"][0, 0, :, 2] = 1.0
    errors = [100 * (place - torch.tensor(jointed.joints[name])).norm().item() for name in ("left_hip", "right_hip")]
    options = {"reconstruction": False, "accuracy": True, "consistency": True, "joints": ["left_hip", "right_hip"]}
    for shift in (0.0, 0.03):
        found = measured(batch, jointed, shift=shift, **options)
        assert found["exact_joint_mean_cm"] == pytest.approx(sum(errors) / 2, abs=1e-3)
        assert found["exact_left_right_exchanged"] == 0.5  # one of the two lies behind the other
        assert (found["joint_mean_cm"] == pytest.approx(found["exact_joint_mean_cm"], abs=1e-3)) == (shift == 0)
        for name in ("epipolar_median_px", "matched_share") if shift == 0 else ():
            assert found[f"exact_{name}"] == pytest.approx(found[name], rel=1e-3)
        assert found["exact_matched_share"] > 0.2  # a cell finds its own partner only
        assert not [name for name in found if name.startswith(("exact_trivial", "exact_pair"))]
    few = batch | {"known": torch.zeros_like(batch["known"])}
    unlabelled = batch | {"has_label": torch.zeros_like(batch["has_label"])}
    for other in (unlabelled, few):
        assert not [name for name in measured(other, jointed, **options) if name.startswith("exact_")]
