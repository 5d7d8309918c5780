"""Checks of tensor arguments, one sentence each, and what happens to entries that take no part.

What stands in an entry that takes no part must not matter, not even a NaN: neither to a value nor to a gradient. A
product with zero does not see to that, so such entries are overwritten.
"""

from typing import TypeVar

import torch
from torch import Tensor

TensorOrNone = TypeVar("TensorOrNone", Tensor, Tensor | None)


def expect_shape(name: str, tensor: Tensor, *shape: int) -> None:
    """Refuse a tensor of another shape.

    Raises:
        ValueError: The shape is another one.
    """
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def expect_mask(name: str, mask: Tensor | None, *shape: int) -> None:
    """Refuse a mask that is not bool or has another shape; None stands for "all" and is fine.

    Raises:
        ValueError: The mask is not as expected.
    """
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} is of type {mask.dtype}, expected torch.bool")
    expect_shape(name, mask, *shape)


def expect_positive(name: str, value: float) -> None:
    """Refuse a number that is not positive.

    Raises:
        ValueError: It is zero, negative or not a number.
    """
    if not value > 0:
        raise ValueError(f"{name} is {value}, expected a positive number")


def blank(values: TensorOrNone, mask: Tensor | None) -> TensorOrNone:
    """Zero, with no gradient, where a mask over the leading axes is off."""
    if values is None or mask is None:
        return values
    return torch.where(mask.view(*mask.shape, *(1,) * (values.ndim - mask.ndim)), values, torch.zeros_like(values))


def blank_cells(values: Tensor, mask: Tensor) -> Tensor:
    """Values (B, ..., H, W), zero, with no gradient, where a mask (B, H, W) is off."""
    mask = mask.view(len(mask), *(1,) * (values.ndim - 3), *mask.shape[1:])
    return torch.where(mask, values, torch.zeros_like(values))
