"""Ratios of measured speeds, which another machine can be held to, and the comparison with those committed."""

from collections.abc import Mapping
from typing import Any

ALLOWED = 0.25
"""A ratio may be worse by this share before the comparison fails."""


MOST_DENSE = 2048
"""Cells up to which times are compared with the dense engine's: larger matrices are bound by the memory's speed, which
any other work on the machine shares."""

LEAST_SECONDS = 0.005
"""Shorter runs are not compared: on a busy machine they vary by as much as is allowed."""

LEAST_MEMORY = 50e6
"""Peaks below so many bytes are how an allocator happens to grow; they count as this."""


class SlowerThanCommitted(Exception):
    """A ratio of the bench is worse than the committed one by more than is allowed."""


def ratios(result: Mapping[str, Any]) -> dict[str, float]:
    """Ratios of a result, each the better the larger.

    Args:
        result: With any of "loss" (of `bench_loss`), "pipeline" (of `bench_pipeline`) and "predict" (of
            `bench_predict`).

    Returns:
        Such as "fused over tiled at 8192" (how many times faster), "dense memory over fused at 8192",
        "batches loaded per step".
    """
    found: dict[str, float] = {}
    # The committed ratios are of single pairs of views.
    runs = {(run["engine"], run["cells"]): run for run in result.get("loss", {}).get("runs", []) if run["pairs"] == 1}
    for (engine, cells), run in runs.items():
        for slower in ("dense", "tiled"):
            other = runs.get((slower, cells))
            if other is None or ENGINE_ORDER[engine] <= ENGINE_ORDER[slower]:
                continue
            if run["seconds"] >= LEAST_SECONDS and (slower != "dense" or cells <= MOST_DENSE):
                found[f"{engine} over {slower} at {cells}"] = other["seconds"] / run["seconds"]
            if slower == "dense" and run["memory_bytes"] and (other["memory_bytes"] or 0) > 2 * LEAST_MEMORY:
                memory = max(run["memory_bytes"], LEAST_MEMORY)
                found[f"dense memory over {engine} at {cells}"] = other["memory_bytes"] / memory
    pipeline = result.get("pipeline")
    if pipeline:
        step = pipeline["step"]
        found["step over loss"] = step["whole"] / step["loss"]
        found["step over network"] = step["whole"] / step["network"]
        if "opening" in pipeline:  # results of older versions have none
            found["opening anew over cached"] = pipeline["opening"]["anew"] / pipeline["opening"]["cached"]
        found["batches loaded per step"] = pipeline["loader"]["batches_per_step"]
        found["torch import over dkp.losses import"] = pipeline["import"]["torch"] / pipeline["import"]["dkp.losses"]
    speeds = result.get("predict", {})
    found |= {
        f"prediction {name} over eager": speed / speeds["eager"] for name, speed in speeds.items() if name != "eager"
    }
    return found


ENGINE_ORDER = {"dense": 0, "tiled": 1, "fused": 2}


def compare(found: Mapping[str, float], committed: Mapping[str, float]) -> list[str]:
    """Sentences on the ratios that got worse by more than `ALLOWED`; only ratios in both are compared."""
    return [
        f"{name} is {value:.3g}, committed {committed[name]:.3g}"
        for name, value in found.items()
        if name in committed and value < (1 - ALLOWED) * committed[name]
    ]
