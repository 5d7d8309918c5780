"""Weight files: reading them safely and loading them into a module."""

import pickle
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from dkp.errors import InputError


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
        InputError: a tensor is missing, has another shape, is unknown, or holds what is no finite number.
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
    if broken := [key for key in wanted if not bool(state[key].isfinite().all())]:
        raise InputError(f"weights {name}: {broken[0]} holds infinity or what is no number, expected finite weights")
    module.load_state_dict(state)
