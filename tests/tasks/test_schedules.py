import copy
import itertools
import math

import pytest
import torch

from dkp.errors import InputError
from dkp.tasks.schedules import forget_length, learning_rate_schedule


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def rates(kind: str, steps: int, **options: int) -> list[float]:
    steered = optimizer()
    schedule = learning_rate_schedule(steered, kind, steps, **options)
    seen = []
    for _ in range(steps):
        seen.append(steered.param_groups[0]["lr"])
        steered.step()
        schedule.step()
    return seen


def test_cosine_warms_up_and_falls_to_the_floor():
    seen = rates("cosine", 100, warmup_steps=10)
    assert seen[0] == pytest.approx(2 / 11)
    assert max(seen) == pytest.approx(2.0)
    assert seen.index(max(seen)) == 10
    assert seen[-1] < 0.03
    assert all(a >= b for a, b in itertools.pairwise(seen[10:]))


def test_constant_stays_after_the_warmup():
    assert rates("constant", 5, warmup_steps=1) == [1.0, 2.0, 2.0, 2.0, 2.0]


def test_onecycle_peaks_once_and_can_take_every_step():
    seen = rates("onecycle", 50)
    assert max(seen) == pytest.approx(2.0, rel=1e-2)
    assert seen[0] < 0.1
    assert seen[-1] < 0.1


@pytest.mark.parametrize("kind", ["cosine", "onecycle"])
def test_schedules_with_a_length_refuse_endless_training(kind):
    with pytest.raises(InputError, match=r"max_steps or trainer\.max_epochs"):
        learning_rate_schedule(optimizer(), kind, math.inf)


def test_unknown_schedule_is_refused():
    with pytest.raises(InputError, match="'linear' where constant, cosine or onecycle"):
        learning_rate_schedule(optimizer(), "linear", 10)


@pytest.mark.parametrize("kind", ["cosine", "onecycle"])
def test_a_longer_training_goes_on_along_its_own_schedule(kind):
    first, second = optimizer(), optimizer()
    short = learning_rate_schedule(first, kind, 10)
    for _ in range(10):
        first.step()
        short.step()
    longer = learning_rate_schedule(second, kind, 40)
    saved = copy.deepcopy(short.state_dict())
    forget_length([saved])
    longer.load_state_dict(saved)
    seen = []
    for _ in range(29):
        second.step()
        longer.step()
        seen.append(second.param_groups[0]["lr"])
    assert seen == pytest.approx(rates(kind, 40)[11:])
