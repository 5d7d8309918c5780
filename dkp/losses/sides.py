"""The two sides of a matching: arguments checked alike for every engine, of one type, blank where they take no part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict

from torch import Tensor

from dkp.geometry import promote
from dkp.geometry.arguments import blank, expect_mask, expect_shape


class Taking(TypedDict, total=False):
    """What takes part in a matching of two views, and what it says of parts; keywords of all matching functions.

    Attributes:
        mask: (B, N) bool, pixels that take part (default all).
        other_mask: (B, M) bool, candidates that take part (default all).
        parts: (B, N, K) part probabilities; given together with ``other_parts`` or not at all.
        other_parts: (B, M, K) part probabilities.
    """

    mask: Tensor | None
    other_mask: Tensor | None
    parts: Tensor | None
    other_parts: Tensor | None


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
        mask: Tensor | None = None,
        other_mask: Tensor | None = None,
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

    def scaled(self, scale: float) -> Sides:
        """Return the same with fields times a number."""
        return replace(self, field=self.field * scale, other_field=self.other_field * scale)

    def zero(self) -> Tensor:
        """Return a zero with the graph of all that is matched."""
        held = (self.field, self.other_field, self.parts, self.other_parts)
        return 0.0 * sum((tensor.sum() for tensor in held if tensor is not None), start=self.field.new_zeros(()))

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
