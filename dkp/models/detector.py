"""The detector: an image in, a dense keypoint field out; and its files."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from dkp.errors import InputError
from dkp.fields import ChartField, EmbeddingField
from dkp.files import whole_file
from dkp.models.blocks import Norm
from dkp.models.pyramid import Pyramid
from dkp.models.unet import UNet
from dkp.models.weights import load_state, read_state

FORMAT = "dkp-detector"
VERSION = 1
"""Of the file of options beside a detector's weights."""

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
"""ImageNet's channel statistics; a timm encoder's images are normalised by those of its own weights."""

LOG_SCALE = math.log(0.1)
"""What the uncertainty's output is relative to: an error of 0.1 m."""


def head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return a light per-cell head: 1x1 convolution, ReLU, 1x1 convolution that starts near zero."""
    last = nn.Conv2d(hidden, outputs, 1)
    nn.init.normal_(last.weight, std=0.01)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.ReLU(inplace=True), last)


class Detector(nn.Module):
    """Encoder, decoder and heads: images (B, 3, H, W) in [0, 1] -> a field of H / stride x W / stride cells.

    The embedding's coordinate is `surface_centre + surface_half_extent * output`, linear (no squashing), so the
    network works on numbers of order one whatever the size of the surface.

    Args:
        encoder: "unet" (the small plain network of `dkp.models.unet`), or any timm model with `features_only`.
        representation: "embedding" (`EmbeddingField`) or "charts" (`ChartField`).
        surface_centre: centre of the surface's bounding box [m]; a buffer, saved with the weights.
        surface_half_extent: half the size of the surface's bounding box [m]; a buffer, saved with the weights.
        parts: number K of charts ("charts" only).
        stride: input pixels per output cell, a power of two.
        width: channels of the network: level of stride 1 of the U-Net; a timm decoder has 4 x `width`.
        levels: levels of the U-Net, see `dkp.models.unet.UNet`.
        head_width: hidden channels of each head.
        norm: "group" (every image by itself, the same in training and evaluation) or "batch" (batch statistics in
            training, running means in evaluation; these mix the domains when one network sees several). See
            `dkp.models.blocks.norm_layer`. It does not touch a timm backbone's own layers.
        uncertainty: say of every cell how far its coordinate may be off (`EmbeddingField.log_scale`), which training by
            likelihood needs ("embedding" only).
        frozen: layers of a timm encoder up to the feature map of this stride are not trained; 0 = all are.
        pretrained: download timm's weights for the encoder; needs the network.
        encoder_weights: file with timm's weights of the encoder (safetensors, or torch with weights_only).
        weights: file with a whole detector's weights: `save_detector`'s, or a Lightning checkpoint of a task.

    Raises:
        InputError: an option or a weights file does not fit.
    """

    surface_centre: Tensor
    surface_half_extent: Tensor
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        encoder: str = "unet",
        representation: Literal["embedding", "charts"] = "embedding",
        surface_centre: Sequence[float] = (0.0, 0.0, 0.0),
        surface_half_extent: Sequence[float] = (1.0, 1.0, 1.0),
        parts: int = 24,
        stride: int = 2,
        width: int = 16,
        levels: int = 5,
        head_width: int = 48,
        norm: Norm = "group",
        uncertainty: bool = False,
        frozen: int = 0,
        pretrained: bool = False,
        encoder_weights: str | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if representation not in ("embedding", "charts"):
            raise InputError(f'representation is {representation!r} where "embedding" or "charts" is expected')
        if stride < 1 or stride & (stride - 1):
            raise InputError(f"stride is {stride} where a power of two is expected")
        if uncertainty and representation != "embedding":
            raise InputError('uncertainty is for the representation "embedding"')
        self.config: dict[str, Any] = {
            "encoder": encoder,
            "representation": representation,
            "parts": parts,
            "stride": stride,
            "width": width,
            "levels": levels,
            "head_width": head_width,
            "norm": norm,
            "uncertainty": uncertainty,
        }
        self.uncertainty = uncertainty
        mean, std = IMAGE_MEAN, IMAGE_STD
        self.representation = representation
        self.parts = parts
        self.stride = stride
        self.body: UNet | Pyramid
        try:
            if encoder == "unet":
                if pretrained or encoder_weights or frozen:
                    raise InputError(
                        'pretrained, encoder_weights and frozen are for timm encoders; for "unet" use weights'
                    )
                self.body = UNet(width, stride, levels, norm)
            else:
                self.body = Pyramid(encoder, stride, 4 * width, norm, pretrained, encoder_weights, frozen)
                mean, std = self.body.mean, self.body.std
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"detector: {error}") from error
        features = self.body.out_channels
        if representation == "embedding":
            self.foreground_head = head(features, head_width, 1)
            self.coordinate_head = head(features, head_width, 6 if uncertainty else 3)
        else:
            self.part_head = head(features, head_width, parts + 1)
            self.uv_head = head(features, head_width, 2 * parts)
        self.register_buffer("surface_centre", torch.zeros(3))
        self.register_buffer("surface_half_extent", torch.ones(3))
        self.register_buffer("image_mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.set_surface_bounds(surface_centre, surface_half_extent)
        self.to(memory_format=torch.channels_last)
        if weights:
            load_state(self, read_state(weights), weights)

    def set_surface_bounds(self, centre: Sequence[float] | Tensor, half_extent: Sequence[float] | Tensor) -> None:
        """Set the box that the coordinate output is relative to, as from `Surface.bounds`.

        Args:
            centre: (3,) [m].
            half_extent: (3,) [m]; a zero (a flat surface's thickness) counts as the largest of the three.

        Raises:
            InputError: not three finite numbers, or no positive extent.
        """
        middle = torch.as_tensor(centre, dtype=torch.float32).detach().reshape(-1)
        extent = torch.as_tensor(half_extent, dtype=torch.float32).detach().reshape(-1)
        fine = middle.shape == (3,) and extent.shape == (3,) and bool((middle.isfinite() & extent.isfinite()).all())
        if not fine or bool((extent < 0).any()) or float(extent.max()) <= 0:
            raise InputError(
                f"surface_centre, surface_half_extent are {middle.tolist()}, {extent.tolist()} where three finite "
                "numbers each, the second not negative and not all zero, are expected"
            )
        self.surface_centre.copy_(middle)
        self.surface_half_extent.copy_(torch.where(extent > 0, extent, extent.max()))

    def forward(self, images: Tensor) -> EmbeddingField | ChartField:
        """Detect.

        Args:
            images: (B, 3, H, W) RGB in [0, 1]; H and W multiples of the stride.

        Returns:
            An `EmbeddingField` or a `ChartField`, in float32, of H / stride x W / stride cells.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % self.stride or images.shape[3] % self.stride:
            raise ValueError(
                f"images have shape {tuple(images.shape)} where (B, 3, H, W), H and W multiples of {self.stride}, "
                "is expected"
            )
        first, second, *scale = self.forward_tensors(images)
        if self.representation == "embedding":
            return EmbeddingField(first, second, self.stride, *scale)
        return ChartField(first, second, self.stride)

    def forward_tensors(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of the field, for export: no dataclass, no check.

        Args:
            images: (B, 3, H, W) RGB in [0, 1].

        Returns:
            embedding: foreground logits (B, H, W), coordinate (B, 3, H, W) [m] and, with uncertainty, the logarithm
            of its expected error [m] (B, 3, H, W);
            charts: part logits (B, K + 1, H, W) and uv (B, K, 2, H, W) in [0, 1].
        """
        x = ((images - self.image_mean) / self.image_std).contiguous(memory_format=torch.channels_last)
        x = self.body(x)
        if self.representation == "embedding":
            centre = self.surface_centre.view(1, 3, 1, 1)
            extent = self.surface_half_extent.view(1, 3, 1, 1)
            foreground, out = self.foreground_head(x)[:, 0].float(), self.coordinate_head(x).float()
            scale = (LOG_SCALE + out[:, 3:],) if self.uncertainty else ()
            return (foreground, centre + extent * out[:, :3], *scale)
        uv = torch.sigmoid(self.uv_head(x).float())
        return self.part_head(x).float(), uv.unflatten(1, (self.parts, 2))


def save_detector(detector: Detector, path: str | Path, half: bool = False, header: bool = False, **notes: Any) -> Path:
    """Write `path` (.safetensors) and beside it the .json with the options that build the detector again.

    Args:
        detector: any detector.
        path: the weights file; the suffix is made .safetensors.
        half: store floating-point tensors in half precision, but for those with numbers beyond its range.
        header: write the options into the header of the weights file, and no .json.
        notes: what else is written with the options, as JSON has it.

    Returns:
        The weights file's path.
    """
    path = Path(path).with_suffix(".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {
        **detector.config,
        "surface_centre": detector.surface_centre.tolist(),
        "surface_half_extent": detector.surface_half_extent.tolist(),
    }
    state = {key: value.detach().cpu().contiguous() for key, value in detector.state_dict().items()}
    if half:
        state = {key: halved(value) for key, value in state.items()}
    sheet = {"format": FORMAT, "version": VERSION, "detector": config, **notes}
    text = json.dumps(sheet, indent=2, ensure_ascii=False) + "\n"
    files = {path: safetensors.torch.save(state, {FORMAT: text} if header else None)}
    if not header:
        files[path.with_suffix(".json")] = text.encode()
    for target, data in files.items():
        with whole_file(target) as partial:
            partial.write_bytes(data)
    return path


def halved(value: Tensor) -> Tensor:
    """Return a floating-point tensor in half precision where that can hold all of its numbers, else as it is."""
    fits = value.is_floating_point() and bool((value.abs() <= torch.finfo(torch.float16).max).all())
    return value.half() if fits else value


def detector_sheet(path: str | Path) -> dict[str, Any]:
    """Read what is known of a weights file: its .json beside it or, without one, the header of the file itself.

    Returns:
        "detector", the options that build it, and the notes that `save_detector` was given.

    Raises:
        InputError: there is neither, or it is not as `save_detector` writes it.
    """
    path = Path(path).with_suffix(".safetensors")
    sheet = path.with_suffix(".json")
    try:
        text = sheet.read_text(encoding="utf-8") if sheet.is_file() else ""
        if not text and path.is_file():
            with safetensors.safe_open(path, "pt") as stream:
                text = (stream.metadata() or {}).get(FORMAT, "")
        if not text and not sheet.is_file():
            raise InputError(f"detector {sheet}: no such file, where the options beside {path.name} are expected")
        description = json.loads(text)
    except (OSError, json.JSONDecodeError, safetensors.SafetensorError) as error:
        raise InputError(f"detector {sheet}: not a JSON file ({error})") from error
    if (
        not isinstance(description, dict)
        or description.get("format") != FORMAT
        or description.get("version") != VERSION
    ):
        raise InputError(f'detector {sheet}: expected "format": "{FORMAT}" and "version": {VERSION}')
    return description


def load_detector(path: str | Path) -> Detector:
    """Read what `save_detector` wrote; the detector comes in evaluation mode on the CPU.

    Raises:
        InputError: a file is missing or damaged, or the two do not fit each other.
    """
    path = Path(path).with_suffix(".safetensors")
    try:
        detector = Detector(**detector_sheet(path)["detector"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"detector {path.with_suffix('.json')}: the options do not describe a detector ({error})"
        ) from error
    load_state(detector, read_state(path), path)
    return detector.eval()
