"""Finding a trained detector: a shipped one by name, a run, a checkpoint, a weights file or an exported model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dkp import weights
from dkp.errors import InputError
from dkp.inference.predictor import Predictor
from dkp.models import Detector, detector_sheet, load_detector
from dkp.surface import Surface

METADATA = "dkp"
"""Key of the description in the metadata of an exported model, as JSON."""

NO_RUNTIME = "needs onnx and ONNX Runtime, which are not installed: pip install 'dkp[onnx]'"


class CropNetwork(nn.Module):
    """A detector that takes crops as they are: uint8 (B, H, W, 3) RGB -> the tensors of its field.

    Args:
        detector: any detector.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what `Detector.forward_tensors` does for the images in [0, 1]."""
        return self.detector.forward_tensors(images.permute(0, 3, 1, 2).float() / 255)


@dataclass(frozen=True)
class Loaded:
    """A detector of PyTorch with what is known of it.

    Attributes:
        detector: in evaluation mode on the CPU.
        size: side of its crops [px].
        surface: name or file of its surface.
        card: what else is known: summary, licence, data, metrics.
    """

    detector: Detector
    size: int
    surface: str
    card: dict[str, Any]


def load(
    source: str | Path = "human-small",
    *,
    surface: str | Path | None = None,
    size: int | None = None,
    device: str | None = None,
    batch: int = 16,
) -> Predictor:
    """Load a trained detector.

    Args:
        source: name of a shipped detector (`dkp weights`), folder of a run, its checkpoint, a weights file that dkp
            wrote, or a model that `dkp export` wrote (.onnx, .safetensors).
        surface: name or file of the canonical surface, where the source does not say or its file has moved.
        size: side of the crops [px], where the source does not say.
        device: of PyTorch, such as "cuda:1"; None takes a GPU if there is one. ONNX Runtime works on the CPU.
        batch: most crops that the network takes at once.

    Returns:
        The detector; see `Predictor.predict`.

    Raises:
        InputError: there is none, it is damaged, it does not say what is needed, or ONNX Runtime is not installed.
    """
    path = Path(source)
    if path.suffix == ".onnx" and path.is_file():
        return load_onnx(path, surface, size, batch)
    found = load_torch(source, surface, size)
    template = load_surface(found.surface, source)
    network = TorchNetwork(found.detector, device)
    charts = found.detector.representation == "charts"
    return Predictor(network, found.size, template, charts, found.detector.stride, batch)


class TorchNetwork:
    """A detector in PyTorch, on one device.

    Args:
        detector: any detector.
        device: of PyTorch; None takes a GPU if there is one.
    """

    def __init__(self, detector: Detector, device: str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.module: Any = CropNetwork(detector).eval().to(self.device)

    def __call__(self, crops: np.ndarray) -> Sequence[Tensor]:
        """Run it on crops (B, S, S, 3) uint8."""
        with torch.inference_mode():
            return [value.cpu() for value in self.module(torch.from_numpy(crops).to(self.device))]


class OnnxNetwork:
    """An exported detector in ONNX Runtime, with as many threads as torch has.

    Attributes:
        description: what `dkp export` wrote into it.

    Args:
        path: the .onnx file.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{path} {NO_RUNTIME}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self.description = json.loads(self.session.get_modelmeta().custom_metadata_map[METADATA])
        except Exception as error:  # the runtime's own exceptions have no common base
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path} is no model that dkp export wrote ({line})") from error

    def __call__(self, crops: np.ndarray) -> Sequence[Tensor]:
        """Run it on crops (B, S, S, 3) uint8."""
        return [torch.from_numpy(value) for value in self.session.run(None, {"images": crops})]


def load_onnx(path: Path, surface: str | Path | None, size: int | None, batch: int) -> Predictor:
    """Return a detector that ONNX Runtime runs; for the arguments see `load`."""
    network = OnnxNetwork(path)
    said = network.description
    template = load_surface(str(surface or said["surface"]), path)
    return Predictor(network, size or said["size"], template, said["representation"] == "charts", said["stride"], batch)


def load_torch(source: str | Path, surface: str | Path | None = None, size: int | None = None) -> Loaded:
    """Return a detector of PyTorch by name, run, checkpoint or weights file; for the arguments see `load`."""
    path = Path(source)
    card: dict[str, Any]
    if not path.exists() and str(source) in weights.names():
        shipped = weights.card(str(source))
        detector = weights.load(str(source))
        sheet = detector_sheet(shipped.file)
        card = sheet["card"]
    elif path.is_dir() or path.suffix == ".ckpt":
        detector, config = weights.run_detector(path)
        card = {"surface": config.get("surface"), "size": config.get("size")}
    elif path.suffix == ".pt2":
        raise InputError(
            f"{path} is a program of torch.export, which may execute anything when it is loaded, expected the same "
            "detector as .onnx or .safetensors"
        )
    elif path.suffix == ".onnx" and path.is_file():
        raise InputError(f"{path} is exported already, expected what it was exported from, or a .safetensors file")
    elif path.suffix == ".safetensors" and path.is_file():
        detector = load_detector(path)
        card = detector_sheet(path).get("card") or {}
    else:
        raise InputError(
            f"{source} is {'no kind of file that dkp knows' if path.exists() else 'not there'}, expected one of "
            f"{', '.join(weights.names())}, the folder of a run, or a .ckpt, .safetensors or .onnx file"
        )
    said: dict[str, Any] = {"surface": surface or card.get("surface"), "size": size or card.get("size")}
    for name, value in said.items():
        if not value:
            raise InputError(f"{source} does not say its {name}, expected --{name}")
    return Loaded(detector, int(said["size"]), str(said["surface"]), card)


def load_surface(name: str, source: str | Path) -> Surface:
    """Load the surface of a detector, and say whose it is where that fails."""
    try:
        return Surface.load(name)
    except InputError as error:
        raise InputError(f"{source}: its surface cannot be loaded ({error}); give --surface") from error
