"""Lists of unequal length in one call, without paying for their padding.

A batch holds as many cells per image as its fullest image has; where the subject is small in some views, most pairs of
padded lists are padding. Images are therefore taken in groups of about equal work, each cut to its own lengths.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dkp.losses.costs import PairCost
from dkp.losses.sides import Sides
from dkp.losses.tiled import Expectation

WASTE = 1.25
"""A group computes at most so many times the pairs that its images have ..."""

CALL = 2**14
"""... and so many more: a call takes as long as they do, however small it is."""


class Group(NamedTuple):
    """Images that are computed together.

    Attributes:
        images: Their indices in the batch.
        rows: Length of the longest list of rows.
        columns: Length of the longest list of candidates.
    """

    images: list[int]
    rows: int
    columns: int


def extent(mask: Tensor) -> list[int]:
    """Length of each list (B, N) up to its last marked element."""
    position = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    lengths: list[int] = (mask * position).amax(1).tolist()
    return lengths


def group_images(rows: list[int], columns: list[int]) -> list[Group]:
    """Group images by the lengths of their two lists; those without any pair are in no group."""
    result: list[Group] = []
    pairs = 0
    for image in sorted(range(len(rows)), key=lambda one: (-rows[one] * columns[one], -rows[one])):
        own = rows[image] * columns[image]
        if own == 0:
            break
        if result:
            last = result[-1]
            most = max(last.rows, rows[image]), max(last.columns, columns[image])
            if (len(last.images) + 1) * most[0] * most[1] <= WASTE * (pairs + own) + CALL:
                result[-1] = Group([*last.images, image], *most)
                pairs += own
                continue
        result.append(Group([image], rows[image], columns[image]))
        pairs = own
    return result


def over_groups(expectation: Expectation, sides: Sides, cost: PairCost) -> tuple[Tensor, Tensor]:
    """Run an engine on groups of images, where that saves a fifth of the pairs or more.

    Returns:
        As the engine; zeros in rows and images beyond the masks.
    """
    field, other_field = sides.field, sides.other_field
    batch, count, other_count = field.shape[0], field.shape[1], other_field.shape[1]
    rows = [count] * batch if sides.mask is None else extent(sides.mask)
    columns = [other_count] * batch if sides.other_mask is None else extent(sides.other_mask)
    groups = group_images(rows, columns)
    computed = sum(len(group.images) * group.rows * group.columns + CALL for group in groups)
    if WASTE * computed > batch * count * other_count:
        return expectation(sides, cost)
    averages, bests = [], []
    for group in groups:
        index = torch.tensor(group.images, device=field.device)

        def shortened(tensor: Tensor | None, length: int, index: Tensor = index) -> Tensor | None:
            return None if tensor is None else tensor[index, :length]

        some = Sides(
            field[index, : group.rows],
            other_field[index, : group.columns],
            None,
            shortened(sides.other_mask, group.columns),
            shortened(sides.parts, group.rows),
            shortened(sides.other_parts, group.columns),
        )
        lists = (torch.arange(length, device=field.device) for length in (group.rows, group.columns))
        average, best = expectation(some, cost.pick(index, *(one.expand(len(index), -1) for one in lists)))
        averages.append(functional.pad(average, (0, 0, 0, count - group.rows)))
        bests.append(functional.pad(best, (0, count - group.rows)))
    taken = [image for group in groups for image in group.images]
    rest = sorted({*range(batch)} - {*taken})
    # Images without a pair give zeros that keep the graph.
    averages.append(sides.zero() + field.new_zeros(len(rest), count, cost.channels))
    bests.append(field.new_zeros(len(rest), count))
    back = torch.tensor([*taken, *rest], device=field.device).argsort()
    return torch.cat(averages)[back], torch.cat(bests)[back]
