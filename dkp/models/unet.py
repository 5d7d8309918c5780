"""The small plain convolutional encoder and decoder that trains on a CPU."""

import itertools

from torch import Tensor, nn
from torch.nn import functional

from dkp.models.blocks import ConvNorm, Norm

GROWTH = (1.0, 1.5, 3.0, 6.0, 12.0, 16.0)
"""Channels of the level of stride 2^l, in units of `width`: for width 16 they are 16, 24, 48, 96, 192, 256."""


class UNet(nn.Module):
    """Encoder and decoder with additive skips.

    The stem, a convolution as wide as two cells and centred on the cell, goes straight to `stride` (finer maps would
    take most of the time and nothing reads them). Every
    further level halves the size and has two 3x3 convolutions. The decoder climbs back, adding the encoder's features
    of the same size. With the defaults 64 px images meet at 4x4 cells, where two 3x3 convolutions see everything.

    Args:
        width: channels of a level of stride 1; the others follow `GROWTH`.
        stride: input pixels per output cell, 1, 2, 4 or 8.
        levels: number of levels counted from stride 1; the coarsest has stride 2^(levels - 1).
        norm: see `dkp.models.blocks.norm_layer`.
    """

    def __init__(self, width: int = 16, stride: int = 2, levels: int = 5, norm: Norm = "batch") -> None:
        super().__init__()
        if not 2 <= levels <= len(GROWTH):
            raise ValueError(f"levels is {levels} where 2..{len(GROWTH)} is expected")
        first = stride.bit_length() - 1
        if stride < 1 or stride != 1 << first or first >= levels - 1:
            raise ValueError(f"stride is {stride} where a power of two up to {1 << (levels - 2)} is expected")
        channels = [max(8, 8 * round(width * growth / 8)) for growth in GROWTH[first:levels]]
        self.stride = stride
        self.out_channels = channels[0]
        self.stem = nn.Sequential(
            ConvNorm(3, channels[0], kernel=2 * stride if stride > 1 else 3, stride=stride, norm=norm),
            ConvNorm(channels[0], channels[0], norm=norm),
        )
        steps = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(
            nn.Sequential(ConvNorm(fine, coarse, stride=2, norm=norm), ConvNorm(coarse, coarse, norm=norm))
            for fine, coarse in steps
        )
        self.lateral = nn.ModuleList(ConvNorm(coarse, fine, kernel=1, norm=norm) for fine, coarse in steps)
        self.up = nn.ModuleList(ConvNorm(fine, fine, norm=norm) for fine, _ in steps)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, out_channels, H / stride, W / stride) features."""
        features = [self.stem(images)]
        for down in self.down:
            features.append(down(features[-1]))
        x = features.pop()
        for lateral, up in zip(reversed(self.lateral), reversed(self.up), strict=True):
            fine = features.pop()
            x = up(functional.interpolate(lateral(x), size=fine.shape[-2:], mode="nearest") + fine)
        return x
