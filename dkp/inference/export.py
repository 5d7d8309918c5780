"""Detectors for other programs: ONNX, a program of torch.export, or one safetensors file with its card inside."""

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dkp.errors import InputError
from dkp.files import whole_file
from dkp.inference.frames import Frames
from dkp.inference.loading import METADATA, NO_RUNTIME, CropNetwork, Loaded, OnnxNetwork, load_torch
from dkp.inference.predictor import Predictor, cut_crop
from dkp.inference.search import whole_box
from dkp.models import save_detector
from dkp.surface import Surface
from dkp.synthetic.clutter import clutter

OPSET = 17
"""Of the ONNX operators: the first with LayerNorm, known to ONNX Runtime from 1.12 on."""

LIMIT = 1e-3
"""Most by which the exported detector may differ from PyTorch's, in logits and in metres."""

CHECKED = 8
"""Crops that both are compared on."""

SUFFIXES = (".onnx", ".pt2", ".safetensors")


class NotEqual(RuntimeError):
    """An exported detector does not say what PyTorch's does."""


def export(
    ckpt_path: str | Path,
    *,
    out: str | Path,
    images: str | Path | None = None,
    surface: str | None = None,
    size: int | None = None,
) -> str:
    """Write a detector as ONNX, torch.export program or safetensors file, and compare it with PyTorch's.

    A model takes crops as they are, uint8 (B, S, S, 3) RGB, any number of them, and returns the tensors of the field.

    Args:
        ckpt_path: name of a shipped detector, folder of a run, checkpoint or weights file.
        out: file to write: .onnx (operators of opset 17; sizes other than S work, too), .pt2 (a program of
            torch.export) or .safetensors (the weights, with options and card in the header).
        images: an image, a folder of images or a video, whose subjects both are compared on; default: drawn clutter.
        surface: name or file of the surface, where the detector does not say it.
        size: side S of the detector's crops [px], where it does not say it.

    Returns:
        What was written and how far it is from PyTorch's.

    Raises:
        InputError: the detector cannot be read, the file exists or has another ending, or a package is missing.
        NotEqual: the exported detector differs by more than 1e-3; the file is not kept.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise InputError(f"out is {str(out)!r} where a file ending in {', '.join(SUFFIXES)} is expected")
    if out.exists():
        raise InputError(f"{out} exists; give another --out")
    loaded = load_torch(ckpt_path, surface, size)
    crops = compared_crops(loaded, images)
    network = CropNetwork(loaded.detector).eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    write = {".onnx": write_onnx, ".pt2": write_program, ".safetensors": write_weights}[out.suffix]
    with whole_file(out) as partial, torch.no_grad():
        found = write(network, loaded, crops, partial)
        wanted = network(torch.from_numpy(crops))
        names = output_names(loaded)
        apart = {name: float((one - other).abs().max()) for name, one, other in zip(names, found, wanted, strict=True)}
        if max(apart.values()) > LIMIT:
            raise NotEqual(f"{out} is off by {apart} where at most {LIMIT:g} is expected; it was not kept")
    said = ", ".join(f"{name} {value:.1e}" for name, value in apart.items())
    return f"dkp: wrote {out} ({out.stat().st_size / 1e6:.1f} MB); greatest difference on {len(crops)} crops: {said}"


def description(loaded: Loaded) -> dict[str, Any]:
    """Return what an exported model says of itself."""
    detector = loaded.detector
    return {
        "size": loaded.size,
        "stride": detector.stride,
        "surface": loaded.surface,
        "representation": detector.representation,
        "card": loaded.card,
    }


def output_names(loaded: Loaded) -> list[str]:
    """Return the names of a model's outputs."""
    if loaded.detector.representation == "charts":
        return ["part_logits", "uv"]
    return ["foreground", "coordinate", *(["log_scale"] if loaded.detector.uncertainty else [])]


def compared_crops(loaded: Loaded, images: str | Path | None) -> np.ndarray:
    """Return crops (B, S, S, 3) uint8 to compare on."""
    size = loaded.size
    if images is None:
        rng = np.random.default_rng(0)
        return np.stack([clutter(rng, size) for _ in range(CHECKED)])
    frames = Frames(images)
    numbers = list(frames.names)
    numbers = numbers[:: max(1, len(numbers) // CHECKED)][:CHECKED]

    def run(crops: np.ndarray) -> list[torch.Tensor]:
        with torch.inference_mode():
            return list(network(torch.from_numpy(crops)))

    network = CropNetwork(loaded.detector).eval()
    predictor = Predictor(run, size, Surface.load(loaded.surface), loaded.detector.representation == "charts")
    cut = []
    for _, image in frames.read(numbers):
        box = predictor.find(image)
        cut.append(cut_crop(image, whole_box(image) if box is None else box, size))
    return np.stack(cut)


def write_onnx(network: CropNetwork, loaded: Loaded, crops: np.ndarray, path: Path) -> list[torch.Tensor]:
    """Write an ONNX model and return what ONNX Runtime makes of the crops with it."""
    try:
        import onnx
        import onnxruntime  # noqa: F401 - for the comparison
    except ImportError:
        raise InputError(f"{path.with_suffix('')} {NO_RUNTIME}") from None
    names = output_names(loaded)
    axes = {"images": {0: "batch", 1: "height", 2: "width"}} | {name: {0: "batch"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch has another exporter, which fixes the crops' size
        torch.onnx.export(
            network, (torch.from_numpy(crops),), str(path), dynamo=False, opset_version=OPSET, input_names=["images"],
            output_names=names, dynamic_axes=axes,
        )  # fmt: skip
    model = onnx.load(path)
    pad_in_convolutions(model.graph)
    multiply_by_reciprocals(model.graph)
    onnx.helper.set_model_props(model, {METADATA: json.dumps(description(loaded))})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return list(OnnxNetwork(path)(crops))


def pad_in_convolutions(graph: Any) -> None:
    """Let convolutions pad by themselves where timm pads to ceil(size / stride) before them (`Conv2dSame`).

    ONNX has that as an option of the convolution, with which ONNX Runtime takes a sixth less time. Other padding before
    a convolution is not computed from the image's size, and stays.
    """
    from onnx.helper import make_attribute

    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        pad = made_by.get(node.input[0]) if node.op_type == "Conv" else None
        if pad is not None and pad.op_type == "Pad" and made_by[pad.input[1]].op_type != "Constant":
            node.input[0] = pad.input[0]
            kept = [one for one in node.attribute if one.name not in ("pads", "auto_pad")]
            del node.attribute[:]
            node.attribute.extend([*kept, make_attribute("auto_pad", "SAME_UPPER")])
    for node in reversed(list(graph.node)):
        used = {name for other in graph.node for name in other.input} | {output.name for output in graph.output}
        if not used & set(node.output):
            graph.node.remove(node)


def multiply_by_reciprocals(graph: Any) -> None:
    """Turn quotients by constants into products: ONNX Runtime takes an eighth of the time for these."""
    from onnx import numpy_helper

    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    users = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type == "Div" and node.input[1] in constants and users[node.input[1]] == 1:
            stored = constants[node.input[1]].attribute[0].t
            value = numpy_helper.to_array(stored)
            if value.dtype.kind == "f":  # quotients of sizes are whole
                node.op_type = "Mul"
                stored.CopyFrom(numpy_helper.from_array(1 / value))


def write_program(network: CropNetwork, loaded: Loaded, crops: np.ndarray, path: Path) -> list[torch.Tensor]:
    """Write a program of torch.export and return what it makes of the crops."""
    images = torch.from_numpy(crops)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with path.open("wb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tensors which are parts of others are written whole
        torch.export.save(program, stream, extra_files={f"{METADATA}.json": json.dumps(description(loaded))})
    return list(program.module()(images))


def write_weights(network: CropNetwork, loaded: Loaded, crops: np.ndarray, path: Path) -> list[torch.Tensor]:
    """Write one safetensors file and return what a detector that is read from it makes of the crops."""
    card = {**loaded.card, "size": loaded.size, "surface": loaded.surface}
    written = save_detector(loaded.detector, path, header=True, card=card)
    again = CropNetwork(load_torch(written).detector)(torch.from_numpy(crops))
    written.replace(path)
    return list(again)
