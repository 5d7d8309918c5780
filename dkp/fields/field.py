"""The two dense fields that a detector returns: surface coordinates directly, or parts with chart coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from dkp.geometry import pixel_grid

if TYPE_CHECKING:
    from dkp.fields.atlas import ChartAtlas


class DenseField:
    """What both fields share: tensors whose first axis is the batch and whose last two are the cells, and a stride."""

    stride: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns (H, W) of the field."""
        height, width = self._first().shape[-2:]
        return int(height), int(width)

    def pixels(self) -> Tensor:
        """(H, W, 2) [px] input pixel of every cell."""
        return pixel_grid(*self.size, self.stride, device=self._first().device)

    def detach(self) -> Self:
        """Return the same values, cut from the graph."""
        return self._each(lambda value: value.detach())

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or convert every tensor, as `torch.Tensor.to`."""
        return self._each(lambda value: value.to(*args, **kwargs))

    def __getitem__(self, index: Any) -> Self:
        """Select along the batch: a slice, a mask or an index tensor; an integer keeps the batch axis."""
        index = slice(index, index + 1 or None) if isinstance(index, int) else index
        return self._each(lambda value: value[index])

    def _first(self) -> Tensor:
        return next(iter(vars(self).values()))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {name: change(value) if isinstance(value, Tensor) else value for name, value in vars(self).items()}
        return type(self)(**values)


@dataclass
class EmbeddingField(DenseField):
    """A continuous surface coordinate per cell: the rest-pose position on the template.

    Attributes:
        foreground: (B, H, W) logits of "this cell shows the surface".
        coordinate: (B, 3, H, W) [m] rest-pose position on the template.
        stride: input pixels per cell.
        log_scale: (B, 3, H, W) natural logarithm of the distance [m] by which the coordinate is expected to be off
            along each axis, or None where the detector does not say.
    """

    foreground: Tensor
    coordinate: Tensor
    stride: int
    log_scale: Tensor | None = None

    @property
    def foreground_probability(self) -> Tensor:
        """(B, H, W) probability in [0, 1] that the cell shows the surface."""
        return torch.sigmoid(self.foreground)

    def coordinates(self, atlas: ChartAtlas | None = None) -> Tensor:
        """(B, 3, H, W) [m] surface coordinates; an embedding needs no atlas."""
        return self.coordinate


@dataclass
class ChartField(DenseField):
    """Body parts and the position inside each part's chart, as DensePose has them.

    Attributes:
        part_logits: (B, K + 1, H, W) logits; channel 0 is background, channel p is part p (1..K).
        uv: (B, K, 2, H, W) in [0, 1], chart coordinates for each part; index p - 1 belongs to part p.
        stride: input pixels per cell.
    """

    part_logits: Tensor
    uv: Tensor
    stride: int

    @property
    def parts(self) -> int:
        """Number K of parts, without background."""
        return int(self.part_logits.shape[1]) - 1

    @property
    def foreground(self) -> Tensor:
        """(B, H, W) logits of "this cell shows the surface": the log-odds of any part against background."""
        return torch.logsumexp(self.part_logits[:, 1:], dim=1) - self.part_logits[:, 0]

    @property
    def foreground_probability(self) -> Tensor:
        """(B, H, W) probability in [0, 1] that the cell shows the surface."""
        return torch.sigmoid(self.foreground)

    @property
    def part_probability(self) -> Tensor:
        """(B, K, H, W) probability of each part given foreground; sums to one over K."""
        return torch.softmax(self.part_logits[:, 1:], dim=1)

    @property
    def part(self) -> Tensor:
        """(B, H, W) long, most likely part 1..K given foreground (background is not considered here)."""
        return self.part_logits[:, 1:].argmax(dim=1) + 1

    def coordinates(self, atlas: ChartAtlas | None = None) -> Tensor:
        """Return the most likely part's surface coordinates through the atlas, differentiable in `uv`.

        Returns:
            coordinates: (B, 3, H, W) [m].

        Raises:
            ValueError: no atlas was given, or it has another number of parts.
        """
        if atlas is None:
            raise ValueError("the coordinates of a chart field need a chart atlas")
        if atlas.parts != self.parts:
            raise ValueError(f"the atlas has {atlas.parts} parts where the field has {self.parts}")
        part = self.part
        index = (part - 1)[:, None, None].expand(-1, 1, 2, -1, -1)
        uv = self.uv.gather(1, index)[:, 0]
        return atlas.encode(part, uv.movedim(1, -1)).movedim(-1, 1)


Field = EmbeddingField | ChartField
