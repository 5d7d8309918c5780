"""The order in which samples are drawn: for training endless, for evaluation once each; both split over processes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import distributed
from torch.utils.data import DistributedSampler


def process() -> tuple[int, int]:
    """Return the number of this process in its group and the size of the group."""
    grouped = distributed.is_available() and distributed.is_initialized()
    return (distributed.get_rank(), distributed.get_world_size()) if grouped else (0, 1)


class KeyedSampler(DistributedSampler):
    """Draws (index, serial number) keys, permutation after permutation.

    The serial number runs over the whole training, so that a sample drawn again is augmented anew, in any worker. It
    is a DistributedSampler so that Lightning leaves it alone and tells it the epoch; the processes share one sequence.

    Args:
        size: number of samples in the data set.
        draws: samples per epoch and process.
        seed: of the permutations.
        rank: of this process; None = that of the process group, if there is one.
        world: number of processes; None likewise.
    """

    def __init__(self, size: int, draws: int, seed: int = 0, rank: int | None = None, world: int | None = None) -> None:
        if size < 1 or draws < 1:
            raise ValueError(f"size and draws are {size} and {draws} where 1 or more is expected")
        self.size = size
        self.draws = draws
        self.seed = seed
        self.rank = process()[0] if rank is None else rank
        self.num_replicas = process()[1] if world is None else world
        self.epoch = 0
        self.drop_last = False
        self.shuffle = True

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[Any]:
        start = self.epoch * self.draws * self.num_replicas
        turn, order = -1, np.zeros(0, np.intp)
        for draw in range(self.draws):
            serial = start + draw * self.num_replicas + self.rank
            if serial // self.size != turn:
                turn = serial // self.size
                order = np.random.default_rng((self.seed, turn)).permutation(self.size)
            yield int(order[serial % self.size]), serial


class EvaluationSampler(DistributedSampler):
    """Every sample once, shared out over the processes; nothing is repeated to make the shares equal.

    A process that is left without a sample, because there are fewer than processes, gets the key None: a sample that
    nothing is measured on. With no batch at all, its processes would wait for each other.

    Args:
        size: number of samples in the data set.
        rank: of this process; None = that of the process group.
        world: number of processes; None likewise.
    """

    def __init__(self, size: int, rank: int | None = None, world: int | None = None) -> None:
        self.rank = process()[0] if rank is None else rank
        self.num_replicas = process()[1] if world is None else world
        self.keys: list[int | None] = [*range(self.rank, size, self.num_replicas)] or [None]
        self.epoch = 0
        self.drop_last = False
        self.shuffle = False

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)
