"""Layers shared by the encoders and decoders."""

from typing import Literal

from torch import nn

Norm = Literal["batch", "group"]

CHANNELS_PER_GROUP = 8
"""Channels that GroupNorm normalises together."""


def norm_layer(channels: int, norm: Norm) -> nn.Module:
    """Return a normalisation layer.

    "batch": BatchNorm2d, the quicker one on a CPU. Its training statistics are those of the batch at hand and its
    evaluation statistics a running mean over all batches, so a batch that mixes two domains normalises each by the
    other's statistics, and passing the domains one after the other leaves running statistics that fit neither.
    "group": GroupNorm over 8 channels at a time: every image by itself, no running statistics, the same in train()
    and eval().
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        groups = channels // CHANNELS_PER_GROUP if channels % CHANNELS_PER_GROUP == 0 else 1
        return nn.GroupNorm(groups, channels)
    raise ValueError(f'norm is {norm!r} where "batch" or "group" is expected')


class ConvNorm(nn.Sequential):
    """Convolution, normalisation, ReLU; padded so that the output has ceil(size / stride) cells."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, norm: Norm = "batch") -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - stride + 1) // 2, bias=False),
            norm_layer(outputs, norm),
            nn.ReLU(inplace=True),
        )
