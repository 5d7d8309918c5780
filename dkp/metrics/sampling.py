"""Which pixels of a mask are looked at, and quantiles of what they say: the deterministic ends of every metric."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)
def _priority(height: int, width: int) -> Tensor:
    """Return a fixed random order of the cells of a map, (H*W,) in (0, 1]: the same in every process and every run."""
    order = torch.randperm(height * width, generator=torch.Generator().manual_seed(height * 65_537 + width))
    return (order + 1).float() / order.numel()


def choose_pixels(mask: Tensor, count: int | None) -> tuple[Tensor, Tensor]:
    """Choose at most ``count`` cells of every mask.

    The choice depends on the mask alone: never on its index in a batch, on the process or on a random state. Two
    detectors measured on one mask are therefore measured on the same cells.

    Args:
        mask: (B, H, W) bool.
        count: The most cells to take from one mask; None takes all.

    Returns:
        index: (B, N) long, flat indices into H * W, N the largest number taken from any mask (at least 1).
        chosen: (B, N) bool, False where a mask has fewer than N cells.

    Examples:
        >>> import torch
        >>> index, chosen = choose_pixels(torch.eye(3, dtype=torch.bool)[None], None)
        >>> sorted(index[chosen].tolist())
        [0, 4, 8]
    """
    height, width = mask.shape[-2:]
    flat = mask.flatten(1)
    size = int(flat.sum(dim=1).amax()) if flat.numel() else 0
    size = max(1, size if count is None else min(size, count))
    rank = torch.where(flat, _priority(height, width).to(flat.device), -1.0)
    value, index = rank.topk(size, dim=1)
    return index, value > 0


def quantile(values: Tensor, share: float) -> Tensor:
    """Quantile with linear interpolation, of any number of values (``torch.quantile`` stops at 16 million).

    Args:
        values: (N,), finite or +inf.
        share: In [0, 1]; 0.5 is the median.

    Returns:
        Scalar; NaN when there are no values.

    Examples:
        >>> import torch
        >>> quantile(torch.tensor([3.0, 1.0, 2.0, 10.0]), 0.5)
        tensor(2.5000)
    """
    if values.numel() == 0:
        return values.new_tensor(float("nan"))
    ordered = values.sort().values
    position = share * (ordered.numel() - 1)
    low = int(position)
    high = min(low + 1, ordered.numel() - 1)
    if position == low or ordered[low] == ordered[high]:
        return ordered[low]
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def concatenate(state: list[Tensor] | Tensor, device: torch.device) -> Tensor:
    """Return a metric's list state as one vector, (N,), also before the first update and after synchronisation."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.zeros(0, device=device)
