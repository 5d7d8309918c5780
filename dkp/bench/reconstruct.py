"""Instants a second of `dkp reconstruct`: a shipped detector's fields, and both surfaces of them."""

import tempfile
from pathlib import Path
from typing import cast

import torch

from dkp.batches import MultiviewBatch, flatten_views
from dkp.bench.timing import take_turns
from dkp.callbacks.fields import Fields
from dkp.data import LabelledDataModule
from dkp.fields import EmbeddingField
from dkp.inference.loading import load_torch
from dkp.pipeline.reconstruct import InstantReconstructor
from dkp.reconstruction import ReconstructionSettings
from dkp.synthetic import synthesize

NAME = "human-small"
INSTANTS, CAMERAS = 4, 4


@torch.no_grad()
def bench_reconstruct(repeats: int = 5) -> dict[str, float]:
    """Measure on a batch of instants of a rendered person, by the clock of `dkp.bench.timing.now`.

    Args:
        repeats: rounds.

    Returns:
        Instants a second of the "detector" on all views, of both "surfaces" from its fields, and of the "whole";
        reading and writing are not counted.
    """
    loaded = load_torch(NAME)
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "person"
        synthesize(
            str(capture), subjects=1, frames=INSTANTS, clip=INSTANTS, cameras=CAMERAS, size=loaded.size, workers=1
        )
        data = LabelledDataModule(predict=f"{capture}#", size=loaded.size, stride=loaded.detector.stride)
        data.setup("predict")
        batch = cast(MultiviewBatch, next(iter(data.predict_dataloader()[0])))
        reconstruct = InstantReconstructor(capture, ReconstructionSettings(), None, False, [])
    images = flatten_views(batch)

    def detect() -> EmbeddingField:
        return cast(EmbeddingField, loaded.detector(images))

    field, views = detect(), batch["image"].shape[:2]
    parts = field.coordinates(None).unflatten(0, views), field.foreground_probability.unflatten(0, views)
    fields = Fields.of_batch(batch, *parts)
    times = take_turns({"detector": detect, "surfaces": lambda: reconstruct(fields)}, repeats)
    taken = {name: time.least / len(fields.frame) for name, time in times.items()}
    return {name: 1 / seconds for name, seconds in {**taken, "whole": sum(taken.values())}.items()}
