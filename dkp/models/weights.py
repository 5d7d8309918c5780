"""Weight files: reading them safely, and saving a detector with what is needed to build it again."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from dkp.errors import InputError
from dkp.files import whole_file

if TYPE_CHECKING:
    from dkp.models.detector import Detector

FORMAT = "dkp-detector"
VERSION = 1


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a weight file: .safetensors, or a torch file read with weights_only (also a Lightning checkpoint).

    Raises:
        InputError: the file is missing, unreadable, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"weights {path}: neither safetensors nor a plain torch weights file ({line})") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"weights {path}: found {type(loaded).__name__} where a dictionary of tensors is expected")
    return loaded


def load_state(module: nn.Module, state: dict[str, Tensor], name: str | Path) -> None:
    """Load tensors into a module, all of them, or say what does not fit.

    A common prefix ("detector." in a task's checkpoint) is taken off; a checkpoint may hold other modules beside it.

    Raises:
        InputError: a tensor is missing, has another shape, or is unknown.
    """
    wanted = module.state_dict()
    if not wanted.keys() <= state.keys():
        for prefix in ("detector.", "student.", "model.", "module."):
            inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            if wanted.keys() <= inner.keys():
                state = inner
                break
    missing = sorted(wanted.keys() - state.keys())
    unknown = sorted(state.keys() - wanted.keys())
    shapes = [
        f"{key} is {tuple(state[key].shape)} where {tuple(value.shape)} is expected"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors missing, such as {missing[0]}")
    if unknown:
        problems.append(f"{len(unknown)} unknown, such as {unknown[0]}")
    if shapes:
        problems.append(shapes[0] + (f" (and {len(shapes) - 1} more)" if len(shapes) > 1 else ""))
    if problems:
        raise InputError(f"weights {name} do not fit the configured model: " + "; ".join(problems))
    module.load_state_dict(state)


def save_detector(detector: Detector, path: str | Path) -> Path:
    """Write `path` (.safetensors) and beside it the .json with the options that build the detector again.

    Args:
        detector: any detector.
        path: the weights file; the suffix is made .safetensors.

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
    text = json.dumps({"format": FORMAT, "version": VERSION, "detector": config}, indent=2) + "\n"
    for target, data in ((path, safetensors.torch.save(state)), (path.with_suffix(".json"), text.encode())):
        with whole_file(target) as partial:
            partial.write_bytes(data)
    return path


def load_detector(path: str | Path) -> Detector:
    """Read what `save_detector` wrote; the detector comes in evaluation mode on the CPU.

    Raises:
        InputError: a file is missing or damaged, or the two do not fit each other.
    """
    from dkp.models.detector import Detector

    path = Path(path).with_suffix(".safetensors")
    sheet = path.with_suffix(".json")
    if not sheet.is_file():
        raise InputError(f"detector {sheet}: no such file, where the options beside {path.name} are expected")
    try:
        description = json.loads(sheet.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"detector {sheet}: not a JSON file ({error})") from error
    if (
        not isinstance(description, dict)
        or description.get("format") != FORMAT
        or description.get("version") != VERSION
    ):
        raise InputError(f'detector {sheet}: expected "format": "{FORMAT}" and "version": {VERSION}')
    try:
        detector = Detector(**description["detector"])
    except (KeyError, TypeError) as error:
        raise InputError(f"detector {sheet}: the options do not describe a detector ({error})") from error
    load_state(detector, read_state(path), path)
    return detector.eval()
