"""The arguments of losses: checked alike for every engine, of one type, and blank where they take no part.

What stands in an entry that takes no part must not matter, not even a NaN: neither to a value nor to a gradient. A
product with zero does not see to that, so such entries are overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from dkp.geometry import promote

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


@dataclass(frozen=True)
class Sides:
    """The two views of a matching: what their pixels say, and which of them take part.

    Attributes:
        field: (B, N, D), float32 or better, zero where the mask is off.
        other_field: (B, M, D), of the same type.
        mask: (B, N) bool, or None for all.
        other_mask: (B, M) bool, or None for all.
        parts: (B, N, K) or None.
        other_parts: (B, M, K) or None.
    """

    field: Tensor
    other_field: Tensor
    mask: Tensor | None
    other_mask: Tensor | None
    parts: Tensor | None = None
    other_parts: Tensor | None = None

    @classmethod
    def create(
        cls,
        field: Tensor,
        other_field: Tensor,
        mask: Tensor | None,
        other_mask: Tensor | None,
        parts: Tensor | None = None,
        other_parts: Tensor | None = None,
    ) -> Sides:
        """Check the shapes, promote to one type and blank what takes no part.

        Raises:
            ValueError: A shape or the type of a mask does not fit.
        """
        if field.ndim != 3 or other_field.ndim != 3 or field.shape[0] != other_field.shape[0]:
            raise ValueError(
                f"the fields have shapes {tuple(field.shape)} and {tuple(other_field.shape)}, expected (B, N, D), "
                "(B, M, D)"
            )
        if field.shape[2] != other_field.shape[2]:
            raise ValueError(
                f"the fields have {field.shape[2]} and {other_field.shape[2]} channels, expected equal numbers"
            )
        expect_mask("mask", mask, *field.shape[:2])
        expect_mask("other_mask", other_mask, *other_field.shape[:2])
        if (parts is None) != (other_parts is None):
            raise ValueError("parts are given for one view only, expected for both or none")
        field, other_field = promote(field, other_field)
        if parts is not None and other_parts is not None:
            number = parts.shape[-1] if parts.ndim else 0
            expect_shape("parts", parts, *field.shape[:2], number)
            expect_shape("other_parts", other_parts, *other_field.shape[:2], number)
            parts, other_parts, field, other_field = promote(parts, other_parts, field, other_field)
        return cls(
            blank(field, mask),
            blank(other_field, other_mask),
            mask,
            other_mask,
            blank(parts, mask),
            blank(other_parts, other_mask),
        )

    def rows(self, name: str, pixels: Tensor) -> Tensor:
        """Pixels (B, N, 2) of the first view, as constants of the fields' type."""
        expect_shape(name, pixels, *self.field.shape[:2], 2)
        return blank(pixels.detach().to(self.field.dtype), self.mask)

    def columns(self, name: str, pixels: Tensor) -> Tensor:
        """Pixels (B, M, 2) of the other view, as constants of the fields' type."""
        expect_shape(name, pixels, *self.other_field.shape[:2], 2)
        return blank(pixels.detach().to(self.field.dtype), self.other_mask)

    def matrices(self, name: str, fundamental: Tensor) -> Tensor:
        """Matrices (B, 3, 3), as constants of the fields' type; zero for images in which no pixel takes part."""
        expect_shape(name, fundamental, self.field.shape[0], 3, 3)
        matrix = fundamental.detach().to(self.field.dtype)
        for mask in (self.mask, self.other_mask):
            matrix = blank(matrix, None if mask is None else mask.any(1))
        return matrix

    @property
    def present(self) -> Tensor | None:
        """(B, N) bool: rows that take part and have a candidate; None for all."""
        if self.other_mask is None:
            return self.mask
        candidates = self.other_mask.any(1, keepdim=True).expand(self.field.shape[:2])
        return candidates if self.mask is None else self.mask & candidates
