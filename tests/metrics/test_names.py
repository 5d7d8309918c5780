"""Values of single pairs and joints, told by their names."""

import pytest

from dkp.metrics.names import is_detail


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
