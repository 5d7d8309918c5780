"""dkp/metrics/joints.py against NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dkp.errors import InputError
from dkp.metrics.joints import JointError, mirrored_name

NAMES = ["nose", "left_knee", "right_knee", "left_wing"]
PLACES = {
    "nose": np.array([0.0, 0.7, 0.1]),
    "left_knee": np.array([0.15, -0.4, 0.0]),
    "right_knee": np.array([-0.15, -0.4, 0.0]),
}
TEMPLATE = SimpleNamespace(joints=PLACES, locate=lambda points: (None, None, np.abs(points[:, 1]) / 10))
SIZE = torch.tensor([40.0, 20.0])  # width, height; the field below has 8 x 4 cells of 5 px


def scene(seed, batch=3):
    rng = torch.Generator().manual_seed(seed)
    coordinate = torch.randn(batch, 2, 3, 4, 8, generator=rng) * 0.4
    foreground = torch.rand(batch, 2, 4, 8, generator=rng)
    joints = torch.rand(batch, 2, 4, 3, generator=rng) * torch.tensor([44.0, 24.0, 1.0]) - torch.tensor([2.0, 2.0, 0.0])
    return coordinate, foreground, joints, SIZE.expand(batch, 2, 2)


def reference(batches, least=0.3):
    errors, exchanged, sided, detected, floors = [], 0, 0, 0, []
    for coordinate, foreground, joints, _ in batches:
        for b, v, j in np.ndindex(*joints.shape[:3]):
            x, y, confidence = joints[b, v, j].tolist()
            if NAMES[j] not in PLACES or confidence < least or not (0 <= x < 40 and 0 <= y < 20):
                continue
            detected += 1
            row, column = int(y // 5), int(x // 5)
            if foreground[b, v, row, column] <= 0.5:
                continue
            point = coordinate[b, v, :, row, column].double().numpy()
            errors.append(100 * np.linalg.norm(point - PLACES[NAMES[j]]))
            floors.append(10 * abs(PLACES[NAMES[j]][1]))
            other = {"left_knee": "right_knee", "right_knee": "left_knee"}.get(NAMES[j])
            if other:
                sided += 1
                exchanged += 100 * np.linalg.norm(point - PLACES[other]) < errors[-1]
    return {
        "joint_cm": np.median(errors),
        "joint_mean_cm": np.mean(errors),
        "joint_on_foreground": len(errors) / detected,
        "left_right_exchanged": exchanged / sided,
        "joint_floor_cm": np.mean(floors),
        "joints": detected,
    }


def test_against_numpy():
    batches = [scene(seed) for seed in range(4)]
    metric = JointError(TEMPLATE, NAMES)
    for batch in batches:
        metric.update(*batch)
    assert {name: value.item() for name, value in metric.compute().items()} == pytest.approx(
        reference(batches), rel=1e-4
    )


def test_values_of_every_joint():
    batches = [scene(seed) for seed in range(4)]
    metric = JointError(TEMPLATE, NAMES, each=True)
    for batch in batches:
        metric.update(*batch)
    found = {name: float(value) for name, value in metric.compute().items() if name.startswith("joint/")}
    for index, name in enumerate(NAMES):
        alone = []
        for coordinate, foreground, joints, size in batches:
            only = joints.clone()
            only[..., [other for other in range(len(NAMES)) if other != index], 2] = 0
            alone.append((coordinate, foreground, only, size))
        if name not in PLACES:
            assert not [key for key in found if f"/{name}/" in key]
            continue
        one = JointError(TEMPLATE, NAMES)
        for batch in alone:
            one.update(*batch)
        expected = one.compute()
        assert found[f"joint/{name}/cm"] == pytest.approx(float(expected["joint_mean_cm"]), rel=1e-4)
        exchanged = found.get(f"joint/{name}/exchanged", float("nan"))
        assert exchanged == pytest.approx(float(expected["left_right_exchanged"]), nan_ok=True)
        assert found[f"joint/{name}/on_foreground"] == pytest.approx(float(expected["joint_on_foreground"]))
    assert len(found) == 8  # the nose has no other side
    assert 0 < found["joint/nose/on_foreground"] < 1


def test_exact_and_mirrored_fields():
    joints = torch.tensor([[[2.0, 2.0, 1.0], [12.0, 2.0, 1.0], [22.0, 2.0, 1.0], [0.0, 0.0, 0.0]]])
    coordinate = torch.zeros(1, 3, 4, 8)
    for name, column in (("nose", 0), ("left_knee", 2), ("right_knee", 4)):
        coordinate[0, :, 0, column] = torch.tensor(PLACES[name])
    for flip, share, mean in ((1.0, 0.0, 0.0), (-1.0, 1.0, 20.0)):
        metric = JointError(TEMPLATE, NAMES)
        metric.update(coordinate * torch.tensor([flip, 1, 1])[:, None, None], torch.ones(1, 4, 8), joints, SIZE[None])
        value = metric.compute()
        assert value["left_right_exchanged"] == share
        assert value["joint_mean_cm"].item() == pytest.approx(mean, abs=1e-4)
        assert value["joints"] == 3


def test_joints_that_were_not_found_take_no_part():
    coordinate, foreground, joints, size = scene(0)
    joints[..., 2] = 0.1
    joints[0, 0, 0] = float("nan")
    metric = JointError(TEMPLATE, NAMES)
    metric.update(coordinate, foreground, joints, size)
    with pytest.warns(UserWarning, match="no detected joint"):
        value = metric.compute()
    assert value["joints"] == 0
    assert value["joint_cm"].isnan()


def test_bad_names_and_shapes():
    with pytest.raises(InputError, match="left_wing"):
        JointError(TEMPLATE, ["left_wing"])
    coordinate, foreground, joints, size = scene(0)
    with pytest.raises(InputError, match=r"\(\.\.\., 4, 3\)"):
        JointError(TEMPLATE, NAMES).update(coordinate, foreground, joints[:, :, :3], size)


def test_mirrored_name():
    assert mirrored_name("right_toe") == "left_toe"
    assert mirrored_name("mid_hip") is None


def test_two_processes(assert_same_in_two_processes):
    assert_same_in_two_processes(lambda: JointError(TEMPLATE, NAMES, each=True), [scene(seed) for seed in range(5)])
