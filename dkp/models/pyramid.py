"""Any timm backbone with a light feature-pyramid decoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from dkp.errors import InputError
from dkp.models.blocks import ConvNorm, Norm
from dkp.models.weights import read_state

FINE = 4
"""Below this stride [px] the decoder has half its channels."""


class Pyramid(nn.Module):
    """timm's feature maps, merged top-down to one map at the output stride.

    Every feature map of stride >= `stride` goes through a 1x1 convolution, is added to the coarser ones, and smoothed
    by a 3x3 convolution; where the backbone's finest map is coarser than `stride`, the result is interpolated.

    Args:
        name: timm model name that supports `features_only`.
        stride: input pixels per output cell, a power of two.
        width: channels of the decoder; half as many at strides below 4, where there are many cells.
        norm: normalisation of the decoder; the backbone keeps its own.
        pretrained: download timm's weights of that name (needs the network).
        weights: file with weights of the timm model (safetensors, or torch with weights_only), instead of downloading.
            Tensors under other names are taken in their order, where there are as many and all shapes agree.
        frozen: layers of the backbone up to the feature map of this stride stay as they are, their normalisation
            included; 0 = none.

    Attributes:
        mean, std: channel statistics of images in [0, 1] that the backbone's weights were trained with.

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
        frozen: int = 0,
    ) -> None:
        super().__init__()
        import timm  # takes two seconds, which the plain network need not wait for

        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5])
            hint = f" (near: {near})" if near else ""
            raise InputError(f'encoder is {name!r} where "unet" or the name of a timm model is expected{hint}')
        options: dict[str, Any] = {}
        if weights:
            options["pretrained_cfg_overlay"] = {"state_dict": renamed(encoder_state(weights), name)}
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
        description: Any = self.backbone.pretrained_cfg
        description.pop("state_dict", None)  # timm keeps its copy of the weights otherwise
        self.mean, self.std = tuple(description["mean"]), tuple(description["std"])
        self.stride = stride
        info: Any = self.backbone.feature_info
        reductions, channels = info.reduction(), info.channels()
        self.levels = [i for i, reduction in enumerate(reductions) if reduction >= stride]
        if not self.levels:
            raise InputError(
                f"encoder {name!r} has feature strides {reductions} where one of {stride} or more is expected"
            )
        widths = [width if reductions[i] >= FINE else width // 2 for i in self.levels]
        above = [*widths[1:], widths[-1]]
        self.lateral = nn.ModuleList(nn.Conv2d(channels[i], w, 1) for i, w in zip(self.levels, widths, strict=True))
        self.smooth = nn.ModuleList(ConvNorm(w, w, norm=norm) for w in widths)
        self.narrow = nn.ModuleList(
            nn.Identity() if w == wide else nn.Conv2d(wide, w, 1) for w, wide in zip(widths, above, strict=True)
        )
        self.out_channels = widths[0]
        modules = [item["module"] for item in info.info if item["reduction"] <= frozen]
        self.frozen = up_to(self.backbone, modules[-1]) if modules else []
        for part in self.frozen:
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Pyramid:
        """As `nn.Module.train`, but for the frozen layers."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, out_channels, H / stride, W / stride) features."""
        height, width = images.shape[-2:]
        maps = self.backbone(images)
        x: Tensor | None = None
        layers = zip(self.levels, self.lateral, self.smooth, self.narrow, strict=True)
        for index, lateral, smooth, narrow in reversed(list(layers)):
            here = lateral(maps[index])
            if x is not None:
                here = here + functional.interpolate(narrow(x), size=here.shape[-2:], mode="nearest")
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


def renamed(state: dict[str, Tensor], model: str) -> dict[str, Tensor]:
    """Tensors under the names that a timm model gives them.

    Publishers name the same layers differently but keep their order.

    Returns:
        The state as it is where it has any of the model's names.

    Raises:
        InputError: it has none of them, and not all shapes are those of the model's in order.
    """
    import timm

    wanted = timm.create_model(model).state_dict()
    if wanted.keys() & state.keys():
        return state
    if [value.shape for value in state.values()] != [value.shape for value in wanted.values()]:
        raise InputError(
            f"encoder_weights do not fit the timm model {model!r}: none of the {len(state)} tensors has a name of the "
            f"model's, expected that, or its {len(wanted)} tensors in order"
        )
    return dict(zip(wanted, state.values(), strict=True))


def up_to(backbone: nn.Module, last: str) -> list[nn.Module]:
    """Return the layers of a backbone from its first one to a named one, in the order in which they are applied."""
    found: list[nn.Module] = []
    for name, module in backbone.named_modules():
        inside = not last.startswith(f"{name}.") if name else False
        if inside and not any(module in list(one.modules()) for one in found):
            found.append(module)
        if name == last:
            return found
    raise ValueError(f"the backbone has no layer {last}")
