"""Any timm backbone with a light feature-pyramid decoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from dkp.errors import InputError
from dkp.models.blocks import ConvNorm, Norm
from dkp.models.weights import read_state


class Pyramid(nn.Module):
    """timm's feature maps, merged top-down to one map at the output stride.

    Every feature map of stride >= `stride` goes through a 1x1 convolution, is added to the coarser ones, and smoothed
    by a 3x3 convolution; where the backbone's finest map is coarser than `stride`, the result is interpolated.

    Args:
        name: timm model name that supports `features_only`.
        stride: input pixels per output cell, a power of two.
        width: channels of the decoder.
        norm: normalisation of the decoder; the backbone keeps its own.
        pretrained: download timm's weights of that name (needs the network).
        weights: file with weights of the timm model (safetensors, or torch with weights_only), instead of downloading.

    Raises:
        InputError: timm has no such model, it gives no feature maps, or the weights do not fit it.
    """

    def __init__(
        self,
        name: str,
        stride: int = 2,
        width: int = 64,
        norm: Norm = "batch",
        pretrained: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        import timm  # takes two seconds, which the plain network need not wait for

        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5])
            hint = f" (near: {near})" if near else ""
            raise InputError(f'encoder is {name!r} where "unet" or the name of a timm model is expected{hint}')
        options: dict[str, Any] = {"pretrained_cfg_overlay": {"state_dict": encoder_state(weights)}} if weights else {}
        try:
            self.backbone = timm.create_model(
                name, features_only=True, pretrained=pretrained or bool(weights), **options
            )
        except InputError:
            raise
        except Exception as error:
            what = f"encoder_weights {weights} do not fit" if weights else "features_only cannot build"
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{what} the timm model {name!r}: {first}") from error
        if weights:  # timm keeps its copy of them otherwise
            description: Any = self.backbone.pretrained_cfg
            description.pop("state_dict", None)
        self.stride = stride
        info: Any = self.backbone.feature_info
        reductions, channels = info.reduction(), info.channels()
        self.levels = [i for i, reduction in enumerate(reductions) if reduction >= stride]
        if not self.levels:
            raise InputError(
                f"encoder {name!r} has feature strides {reductions} where one of {stride} or more is expected"
            )
        self.lateral = nn.ModuleList(nn.Conv2d(channels[i], width, 1) for i in self.levels)
        self.smooth = nn.ModuleList(ConvNorm(width, width, norm=norm) for _ in self.levels)
        self.out_channels = width

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, out_channels, H / stride, W / stride) features."""
        height, width = images.shape[-2:]
        maps = self.backbone(images)
        x: Tensor | None = None
        for index, lateral, smooth in reversed(list(zip(self.levels, self.lateral, self.smooth, strict=True))):
            here = lateral(maps[index])
            if x is not None:
                here = here + functional.interpolate(x, size=here.shape[-2:], mode="nearest")
            x = smooth(here)
        assert x is not None
        size = (height // self.stride, width // self.stride)
        return x if x.shape[-2:] == size else functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def encoder_state(path: str) -> dict[str, Tensor]:
    """Tensors of an encoder's weight file, read here because older releases of timm unpickle anything.

    Raises:
        InputError: as `read_state` does.
    """
    try:
        return read_state(path)
    except InputError as error:
        raise InputError(f"encoder_{error}") from error
