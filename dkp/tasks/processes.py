"""One loss over several processes: every valid cell weighs the same, whichever process has it."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, distributed

from dkp.losses import LossValue
from dkp.tasks.terms import WeightedTerm

MEANS, MEMBERS = 2, 2
"""The most means of a loss term, and the most members of such a mean."""


def over_processes(
    terms: Mapping[str, WeightedTerm], names: Sequence[str], parameters: Iterable[Tensor]
) -> dict[str, WeightedTerm]:
    """Terms with the values that one process with all the batches has, and gradients that average to that process's.

    A term that this process has nothing for, but another one has, is there with a zero that reaches the parameters, so
    that every process does the same backward pass. Collective: one sum over all processes.

    Args:
        terms: of this process's batch.
        names: all that are configured, in the same order on every process.
        parameters: what is trained.

    Returns:
        The terms that any process has something for, the same on every process.
    """
    world = distributed.get_world_size()
    example = next(iter(parameters := list(parameters)))
    table = torch.zeros(len(names), 4 + 2 * MEANS * MEMBERS, dtype=torch.float64, device=example.device)
    for row, name in zip(table, names, strict=True):
        if name in terms:
            row.copy_(numbers(terms[name]))
    distributed.all_reduce(table)
    result = {}
    for row, name in zip(table, names, strict=True):
        holders = row[0]
        if int(holders) == 0:
            continue
        entry = terms.get(name)
        sums, weights = row[4:].view(2, MEANS, MEMBERS)
        if entry is None:
            own = 0.0 * torch.stack([parameter.sum() for parameter in parameters]).sum()
        elif entry.loss.means:
            own = own_part(entry.loss, weights) * world
        else:
            own = entry.loss.value * (world / holders).to(entry.loss.value.dtype)
        whole = average(sums, weights) if bool((weights > 0).any()) else row[3] / holders
        value = own + (whole - own.detach()).to(own.dtype)
        parts = {} if entry is None else entry.loss.parts
        result[name] = WeightedTerm(LossValue(value, row[2] / holders, parts), float(row[1] / holders))
    return result


def numbers(entry: WeightedTerm) -> Tensor:
    """Return a row of what processes add up: 1, weight, valid share, value; sums and weights of the means."""
    loss = entry.loss
    sums = torch.zeros(2, MEANS, MEMBERS, dtype=torch.float64, device=loss.value.device)
    for row, mean in enumerate(loss.means):
        sums[0, row, : len(mean.sums)] = mean.factor * mean.sums.detach()
        sums[1, row, : len(mean.sums)] = mean.weights
    head = [torch.ones(()), torch.tensor(entry.weight), loss.valid_share, loss.value.detach()]
    return torch.cat([torch.stack([value.to(sums) for value in head]), sums.flatten()])


def average(sums: Tensor, weights: Tensor) -> Tensor:
    """Sum over the means (M, K) of the average of those members that have any weight."""
    fires = (weights > 0).sum(1).clamp_min(1)
    return ((sums / weights.clamp_min(1e-12)).sum(1) / fires).sum()


def own_part(loss: LossValue, weights: Tensor) -> Tensor:
    """Return this process's part, with its graph, of the means whose weights over all processes are given (M, K)."""
    parts = []
    for mean, whole in zip(loss.means, weights, strict=False):
        count = len(mean.sums)
        parts.append(mean.factor * average(mean.sums[None], whole[None, :count].to(mean.sums.dtype)))
    return torch.stack(parts).sum()


def step_seed(seed: int, step: int, batch: int, process: int) -> int:
    """Seed of the random draws of one step of one process."""
    return int(np.random.SeedSequence((seed, step, batch, process)).generate_state(1, np.uint64)[0]) >> 1
