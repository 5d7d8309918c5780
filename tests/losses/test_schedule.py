import pytest

from dkp.losses.schedule import SigmaSchedule, ramp


def test_ramp_grows_linearly_and_stays():
    assert [ramp(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert ramp(0, 0) == 1.0


def test_sigma_anneals_geometrically():
    schedule = SigmaSchedule(sigma=0.08, sigma_final=0.02, sigma_steps=10)
    assert [schedule.sigma_at(step) for step in (0, 5, 10, 99)] == pytest.approx([0.08, 0.04, 0.02, 0.02])
    assert SigmaSchedule(sigma=0.08).sigma_at(99) == 0.08
    assert SigmaSchedule(sigma=0.08, sigma_final=0.02, sigma_steps=0).sigma_at(0) == 0.02
