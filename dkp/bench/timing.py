"""Times of alternatives, taken in turns so that a busy moment of the machine does not fall on one of them alone."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch


class Times(NamedTuple):
    """Times of one alternative.

    Attributes:
        least: [s] by `now`; what the machine can do.
        median: [s]; far above `least` where other work was going on.
        repeats: How many were taken.
    """

    least: float
    median: float
    repeats: int


def now() -> float:
    """Read a clock [s].

    It is the processor time of this process where torch has one thread, so that other work on the machine does not
    count, and wall time where it has more.
    """
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def take_turns(
    alternatives: Mapping[str, Callable[[], object]], repeats: int = 5, budget: float = 60.0
) -> dict[str, Times]:
    """Time alternatives in turns.

    Args:
        alternatives: What to call.
        repeats: Rounds.
        budget: An alternative that has taken so much time [s] is left out of later rounds; each is in the first.

    Returns:
        The times of each.
    """
    taken: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(repeats):
        for name, call in alternatives.items():
            if sum(taken[name]) < budget or not taken[name]:
                start = now()
                call()
                taken[name].append(now() - start)
    return {name: Times(min(one), statistics.median(one), len(one)) for name, one in taken.items()}
