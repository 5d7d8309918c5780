"""The pipeline around the loss: a training step in its parts, the loader, the renderer, imports."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dkp.batches import TrainingBatch, ViewPairs, flatten_views, view_pairs
from dkp.bench.timing import take_turns
from dkp.data import SemiSupervisedDataModule
from dkp.fields import EmbeddingField, Field
from dkp.losses import DistillationTerm, LabelledTerm, LossContext, LossValue, MultiviewTerm
from dkp.models import Detector
from dkp.synthetic import synthesize
from dkp.tasks import SemiSupervisedTask
from dkp.tasks.terms import total_loss

# The main job's adaptation, as configs/people/adapted.yaml has it.
LABELLED, INSTANTS, VIEWS, SIGMA = 12, 4, 4, 0.1

SUBJECTS, FRAMES, CAMERAS = 4, 8, 6
IMPORTS = ("torch", "dkp.losses", "dkp.tasks", "dkp.cli")


def bench_pipeline(repeats: int = 15) -> dict[str, Any]:
    """Measure the pipeline on a small rendered capture.

    Returns:
        "renderer" (views_per_second), "opening" (seconds to open a capture, its views decoded "anew" or "cached"),
        "loader" (batches_per_second of the main process, and batches_per_step, how many it makes in the time of a
        training step), "step" (seconds of data, network, loss, optimiser and whole, and the shares of waiting and of
        the multiview loss) and "import" (seconds by module).
    """
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "capture"
        start = time.perf_counter()
        synthesize(capture, subjects=SUBJECTS, frames=FRAMES, cameras=CAMERAS, size=128)
        rendered = time.perf_counter() - start
        opening = opening_times(capture, Path(folder) / "cache", min(repeats, 5))
        alone = loader_speed(make_data(capture, 0), repeats)
        step = bench_step(make_data(capture, 1), repeats)
    return {
        "renderer": {"views_per_second": SUBJECTS * FRAMES * CAMERAS / rendered},
        "opening": opening,
        "loader": {
            "batches_per_second": alone,
            "batches_per_step": alone * step["whole"],
        },
        "step": step,
        "import": {module: min(import_time(module) for _ in range(2)) for module in IMPORTS},
    }


def opening_times(capture: Path, cache: Path, repeats: int) -> dict[str, float]:
    """Return the times of reading a capture for the main job, "anew" and "cached" [s]."""
    make_data(capture, 0, cache)
    times = take_turns({"anew": lambda: make_data(capture, 0), "cached": lambda: make_data(capture, 0, cache)}, repeats)
    return {name: one.least for name, one in times.items()}


def make_data(capture: Path, workers: int, cache: Path | None = None) -> SemiSupervisedDataModule:
    """Return the data of the main job on a capture, decoded anew or taken from a cache."""
    data = SemiSupervisedDataModule(
        unlabelled=str(capture),
        labelled_batch_size=LABELLED,
        unlabelled_batch_size=INSTANTS,
        views_per_instant=VIEWS,
        steps_per_epoch=10_000,
        num_workers=workers,
        cache=None if cache is None else str(cache),
    )
    data.setup("fit")
    return data


def loader_speed(data: SemiSupervisedDataModule, batches: int) -> float:
    """Training batches (both parts) that one process makes a second, after the first two."""
    iterator = iter(data.train_dataloader())
    for _ in range(2):
        next(iterator)
    return 1 / take_turns({"batch": lambda: next(iterator)}, batches)["batch"].median


class KnownForeground(MultiviewTerm):
    """L_M between the cells that the masks show; an untrained detector would hand it any number of cells."""

    def __call__(self, context: LossContext) -> LossValue:
        """L_M over all valid pairs of the batch at once."""
        return self.between(context.field, flatten_views(context.views, "mask"), context.pairs)

    def between(self, field: Field, masks: Tensor, pairs: ViewPairs) -> LossValue:
        """L_M of the pairs of views whose masks (B V, N, N) are given."""
        assert isinstance(field, EmbeddingField)
        cells = functional.avg_pool2d(masks.float(), field.stride) >= 0.5
        known = EmbeddingField(torch.where(cells, 5.0, -5.0), field.coordinate, field.stride)
        return self.loss(known[pairs.first], known[pairs.second], pairs.fundamental)


def bench_step(data: SemiSupervisedDataModule, repeats: int) -> dict[str, float]:
    """Return the times of the parts of a training step [s]."""
    term = KnownForeground(sigma=SIGMA)
    terms = {"labelled": LabelledTerm(), "multiview": term, "distillation": DistillationTerm()}
    task = SemiSupervisedTask(Detector(norm="batch"), terms=terms)
    task.configure_models("fit")
    task.train()
    iterator = iter(data.train_dataloader())
    optimiser = torch.optim.AdamW(task.detector.parameters(), lr=1e-4)
    batch: TrainingBatch = next(iterator)[0]
    views = batch["unlabelled"]
    images, masks, pairs = flatten_views(views), flatten_views(views, "mask"), view_pairs(views)

    def fetch() -> TrainingBatch:
        found: TrainingBatch = next(iterator)[0]
        return found

    def whole() -> None:
        optimiser.zero_grad(set_to_none=True)
        total_loss(task.training_terms(fetch())).backward()
        optimiser.step()

    def network() -> None:
        for some in (batch["labelled"]["image"], images):
            field = task(some)
            (field.foreground.sum() + field.coordinate.sum()).backward()
        task.teacher_field(views)

    fixed = task.teacher_field(views)
    assert isinstance(fixed, EmbeddingField)

    def multiview() -> None:
        coordinate = fixed.coordinate.detach().requires_grad_()
        term.between(EmbeddingField(fixed.foreground, coordinate, fixed.stride), masks, pairs).value.backward()

    network()  # gradients for the optimiser
    alternatives = {"data": fetch, "network": network, "loss": multiview, "optimiser": optimiser.step, "whole": whole}
    times = {name: one.least for name, one in take_turns(alternatives, repeats).items()}
    steps = waiting(iterator, task, optimiser, 3 * repeats)
    return {**times, **steps, "loss_share": times["loss"] / times["whole"]}


def waiting(iterator: Any, task: SemiSupervisedTask, optimiser: torch.optim.Optimizer, steps: int) -> dict[str, float]:
    """Return the share of the wall time of a run of steps that goes by waiting for the workers' batches."""
    waited = 0.0
    begun = time.perf_counter()
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(iterator)[0]
        waited += time.perf_counter() - start
        optimiser.zero_grad(set_to_none=True)
        total_loss(task.training_terms(batch)).backward()
        optimiser.step()
    return {"waiting_share": waited / (time.perf_counter() - begun)}


def import_time(module: str) -> float:
    """Processor time of importing a module in a fresh process, the interpreter's start included [s]."""
    before = os.times()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = os.times()
    return (after.children_user + after.children_system) - (before.children_user + before.children_system)
