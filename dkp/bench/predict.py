"""Images a second of a shipped detector: PyTorch as it is, compiled, and ONNX Runtime, in turns."""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from dkp.bench.timing import take_turns
from dkp.inference import load
from dkp.inference.export import export
from dkp.inference.loading import TorchNetwork, load_torch
from dkp.inference.predictor import Network
from dkp.synthetic.clutter import clutter

NAME = "human-small"
BATCH = 8


def bench_predict(repeats: int = 15, compiled: bool = True) -> dict[str, float]:
    """Measure on a batch of drawn crops, by the clock of `dkp.bench.timing.now`.

    Args:
        repeats: rounds.
        compiled: whether to compile, too, which takes a minute and a C++ compiler.

    Returns:
        Images a second of "eager", "compiled" and, where it is installed, "onnx".
    """
    loaded = load_torch(NAME)
    rng = np.random.default_rng(0)
    crops = np.stack([clutter(rng, loaded.size) for _ in range(BATCH)])
    networks: dict[str, Network] = {"eager": TorchNetwork(loaded.detector)}
    if compiled:
        faster = TorchNetwork(loaded.detector)
        faster.module = torch.compile(faster.module)
        networks["compiled"] = faster
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("onnx") and find_spec("onnxruntime"):
            export(NAME, out=Path(folder) / "model.onnx")
            networks["onnx"] = load(Path(folder) / "model.onnx").network
        for one in networks.values():
            one(crops)
        alternatives = {name: lambda network=network: network(crops) for name, network in networks.items()}
        times = take_turns(alternatives, repeats)
    return {name: BATCH / time.least for name, time in times.items()}
