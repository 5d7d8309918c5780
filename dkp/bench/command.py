"""The command `dkp bench`."""

import json as json_format
from pathlib import Path
from typing import Any, Literal

import torch

from dkp.bench.loss import bench_loss, parse_sizes
from dkp.bench.machine import describe_machine, load
from dkp.bench.ratios import SlowerThanCommitted, compare, ratios
from dkp.bench.report import plot_loss, plot_step, print_tables
from dkp.errors import InputError
from dkp.files import write_text

SIZES = "1024,4096,8192,16384,65536"


def bench(
    what: Literal["all", "loss", "pipeline", "predict", "reconstruct"] = "all",
    *,
    sizes: str = SIZES,
    pairs: int = 1,
    repeats: int = 15,
    threads: int | None = None,
    json: str | None = None,
    plots: str | None = None,
    check: str | None = None,
) -> None:
    """Measure speed side by side: the loss's engines, a training step, loader, renderer, prediction.

    Args:
        what: "loss" (the engines of the pairwise loss), "pipeline" (training step, loader, renderer, imports),
            "predict" (PyTorch as it is, compiled, and ONNX Runtime), "reconstruct" (instants of a rendered person) or
            "all".
        sizes: Cells of each view for the loss, separated by commas.
        pairs: Pairs of views in a call of the loss; memory is measured for one only.
        repeats: Rounds of measuring; fewer for what takes long.
        threads: Threads of torch; None = as many as it takes by itself. With one, processor time is measured instead of
            wall time, so that the ratios hold on a busy machine, too.
        json: File to write the numbers to.
        plots: Folder to write pictures to.
        check: File of committed numbers; fail where a ratio is worse than there by more than a quarter.

    Raises:
        InputError: A size, a number or the file to compare with is not as expected.
        SlowerThanCommitted: A ratio is worse than the committed one.
    """
    cells = parse_sizes(sizes)
    for name, value in (("pairs", pairs), ("repeats", repeats), ("threads", 1 if threads is None else threads)):
        if value < 1:
            raise InputError(f"--{name} is {value} where 1 or more is expected")
    committed = None if check is None else read_ratios(check)
    if threads is not None:
        torch.set_num_threads(threads)
    result: dict[str, Any] = {"machine": describe_machine()}
    if what in ("all", "loss"):
        result["loss"] = bench_loss(cells, repeats, pairs)
    if what in ("all", "pipeline"):
        from dkp.bench.pipeline import bench_pipeline  # imports Lightning and the renderer

        result["pipeline"] = bench_pipeline(repeats)
    if what in ("all", "predict"):
        from dkp.bench.predict import bench_predict

        result["predict"] = bench_predict(repeats)
    if what in ("all", "reconstruct"):
        from dkp.bench.reconstruct import bench_reconstruct

        result["reconstruct"] = bench_reconstruct(repeats)
    result["load_after"] = load()
    result["ratios"] = ratios(result)
    print_tables(result)
    if json is not None:
        Path(json).parent.mkdir(parents=True, exist_ok=True)
        write_text(json, json_format.dumps(result, indent=1) + "\n")
    if plots is not None:
        Path(plots).mkdir(parents=True, exist_ok=True)
        if "loss" in result:
            plot_loss(result["loss"], Path(plots) / "loss.png")
        if "pipeline" in result:
            plot_step(result["pipeline"], Path(plots) / "step.png")
    if committed is not None:
        worse = compare(result["ratios"], committed)
        if worse:
            raise SlowerThanCommitted(f"{len(worse)} ratios are worse than in {check}: {'; '.join(worse)}")
        print(f"dkp: {len(set(committed) & set(result['ratios']))} ratios compared with {check}, none is worse")


def read_ratios(path: str) -> dict[str, float]:
    """Return the ratios of a file that `dkp bench --json` wrote.

    Raises:
        InputError: It is no such file.
    """
    try:
        held = json_format.loads(Path(path).read_text())["ratios"]
        return {str(name): float(value) for name, value in held.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: found {type(error).__name__}, expected a file that dkp bench --json wrote"
        ) from error
