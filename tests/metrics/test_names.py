"""Values of single pairs and joints, told by their names; what `dkp test` prints."""

import pytest

from dkp.metrics.names import is_detail, summary


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("test/pair/a-b/epipolar_px", True),
        ("pair/a-b/epipolar_px", True),
        ("val/trivial/pair/a-b/x", True),
        ("test/joint/nose/cm", True),
        ("joint/nose/cm", True),
        ("test/joint_cm", False),
        ("test/joints", False),
        ("test/pairs", False),
    ],
)
def test_details(name, detail):
    assert is_detail(name) == detail


def test_joints_are_a_table_of_their_own():
    values = {
        "test/joint_cm": 7.5, "test/pair/a-b/epipolar_px": 1.0, "train/joint/nose/cm": 3.0, "test/joint/nose/cm": 4.25,
        "test/joint/left_knee/cm": 8.0, "test/joint/left_knee/exchanged": 0.125,
    }  # fmt: skip
    rows = [line.split() for line in summary(values).splitlines()]
    assert rows == [
        ["test/joint_cm", "7.5000"],
        [],
        ["joint", "error", "cm", "exchanged"],
        ["nose", "4.2500", "-"],
        ["left_knee", "8.0000", "0.1250"],
    ]
    assert summary({"test/joints": 3.0}).split() == ["test/joints", "3.0000"]
