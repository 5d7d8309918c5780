"""Names of values: those of one pair of cameras or one joint are many, and are left out of tables."""

from __future__ import annotations

from collections.abc import Mapping


def is_detail(name: str) -> bool:
    """Whether a value is of one pair of cameras or of one joint, by its name with or without the stage."""
    return any(part in ("pair", "joint") for part in name.split("/")[:-1])


def summary(metrics: Mapping[str, float]) -> str:
    """Return the metrics of an evaluation as lines, and a table of the joints; those of single pairs are left out."""
    shown = {name: value for name, value in metrics.items() if not is_detail(name) and not name.startswith("train/")}
    lines = [f"{name:<36} {value:10.4f}" for name, value in shown.items()]
    joints: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        before, _, after = name.partition("/joint/")
        if after and not before.startswith("train"):
            joint, _, kind = after.partition("/")
            joints.setdefault(joint, {})[kind] = value
    if joints:
        lines += ["", f"{'joint':<36} {'error cm':>10} {'exchanged':>10}"]
    for joint, values in joints.items():
        exchanged = f"{values['exchanged']:10.4f}" if "exchanged" in values else f"{'-':>10}"
        lines.append(f"{joint:<36} {values['cm']:10.4f} {exchanged}")
    return "\n".join(lines)
