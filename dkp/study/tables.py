"""A study's results as Markdown."""

from collections.abc import Iterable, Sequence

from dkp.study.plan import Ablation, Method
from dkp.study.summary import (
    CEILING,
    EXACT,
    FLOOR,
    GAP_METRICS,
    HIGHER,
    TRIVIAL,
    Results,
    mean_and_spread,
    verdicts,
)

NOTHING = "no result yet"
CONTROL = "control"

HEADINGS = {
    "geodesic_median_cm": "geodesic median [cm]",
    "geodesic_mean_cm": "geodesic mean [cm]",
    "coverage": "coverage",
    "auc10": "AUC10",
    "auc30": "AUC30",
    "pck5": "PCK5",
    "pck10": "PCK10",
    "gps": "GPS",
    "iou": "IoU",
    "epipolar_median_px": "epipolar median [px]",
    "epipolar_mean_px": "epipolar mean [px]",
    "matched_share": "matched",
    "surface_median_mm": "surface median [mm]",
    "surface_mean_mm": "surface mean [mm]",
    "to_surface_median_mm": "to surface, median [mm]",
    "surface_recovered": "recovered",
    "mpjpe_mm": "MPJPE [mm]",
    "pa_mpjpe_mm": "PA-MPJPE [mm]",
    "pck3d_150": "PCK3D",
    "reprojection_median_px": "reprojection [px]",
    "joint_cm": "joint error, median [cm]",
    "joint_mean_cm": "joint error, mean [cm]",
    "left_right_exchanged": "left and right exchanged",
    "joint_on_foreground": "joints on the foreground",
    "mask_iou": "IoU with the masks",
}

ACCURACY = ("geodesic_median_cm", "geodesic_mean_cm", "coverage", "auc10", "auc30", "pck5", "pck10", "gps", "iou")
CONSISTENCY = ("epipolar_median_px", "epipolar_mean_px", "matched_share")
JOINTS = ("joint_cm", "joint_mean_cm", "left_right_exchanged", "joint_on_foreground", "mask_iou")
SPACE = (
    "surface_median_mm",
    "surface_mean_mm",
    "to_surface_median_mm",
    "surface_recovered",
    "mpjpe_mm",
    "pa_mpjpe_mm",
    "pck3d_150",
    "reprojection_median_px",
)
BRIEF = (
    "geodesic_median_cm", "geodesic_mean_cm", "coverage", "iou", "epipolar_median_px", "epipolar_mean_px",
    "matched_share", "surface_median_mm",
)  # fmt: skip


def heading(metric: str) -> str:
    """Return a column's title with an arrow towards better."""
    return f"{HEADINGS.get(metric, metric)} {'↑' if metric in HIGHER else '↓'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left.

    Examples:
        >>> print(table(["", "a"], [["x", "1"]]))
        | | a |
        |:--|--:|
        | x | 1 |
    """
    lines = [f"| {' | '.join(head)} |".replace("|  |", "| |"), "|:--|" + "--:|" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def number(pair: tuple[float, float | None] | None, decimals: int) -> str:
    """Mean ± spread.

    Examples:
        >>> number((13.14, 0.21), 1), number((0.5, None), 2), number(None, 1)
        ('13.1 ± 0.2', '0.50', '–')
    """
    if pair is None:
        return "–"
    return f"{pair[0]:.{decimals}f}" + ("" if pair[1] is None else f" ± {pair[1]:.{decimals}f}")


def decimals(metric: str) -> int:
    """How many decimals a metric is given with."""
    return {"cm": 2, "mm": 1, "px": 2}.get(metric.rpartition("_")[2], 3)


def present(results: Results, capture: str, metrics: Sequence[str]) -> list[str]:
    """Those of some metrics that any method has on a capture."""
    methods = results.values.get(capture, {})
    return [metric for metric in metrics if any(metric in found for found in methods.values())]


def row(
    results: Results, capture: str, method: str, title: str, metrics: Sequence[str], only: Sequence[int] | None = None
) -> list[str]:
    """Return a method's row: title, seeds (only some, or all), values; or that there is no result yet."""
    seeds = [seed for seed in results.seeds(capture, method) if only is None or seed in only]
    if not seeds:
        return [title, NOTHING, *[""] * len(metrics)]
    values = [number(results.mean(capture, method, metric, seeds), decimals(metric)) for metric in metrics]
    return [title, ", ".join(map(str, seeds)), *values]


def capture_page(results: Results, capture: str, command: str) -> str:
    """All tables of a capture's methods; `command` begins the command that makes a row."""
    plan = results.plan
    methods = plan.methods_on(capture)
    titles = {m.name: m.title for m in methods} | {TRIVIAL: "trivial field"}
    if EXACT in results.values.get(capture, {}):
        titles[EXACT] = "exact labels: the best that a field can reach"
    parts = [f"## {plan.captures[capture].title}"]
    if capture not in results.values:
        return f"{parts[0]}\n\n{NOTHING.capitalize()}. Command: `{command} {capture}`.\n"
    groups = {"Accuracy": ACCURACY, "Joints": JOINTS, "Consistency": CONSISTENCY, "In three dimensions": SPACE}
    for title, metrics in groups.items():
        shown = present(results, capture, metrics)
        if metrics[0] not in shown:
            continue
        head = ["", "seeds", *map(heading, shown)]
        rows = [row(results, capture, name, text, shown) for name, text in titles.items()]
        parts += [f"**{title}**", table(head, rows)]
    if {FLOOR, CEILING} <= set(plan.methods):
        parts += [
            "**Share of the gap closed** between labelled only and oracle; in brackets each seed",
            gap(results, capture),
        ]
    rivals = [m.name for m in methods if m.name not in (CEILING, "ours")]
    parts += verdicts(results, capture, "ours", rivals)
    names = [m.name for m in methods]
    parts += ["**Cost**", cost(results, capture, methods), provenance(results, capture, names, f"{command} {capture}")]
    return "\n\n".join(parts) + "\n"


def gap(results: Results, capture: str) -> str:
    """Shares of the gap closed, of every method between floor and ceiling."""
    plan = results.plan
    methods = plan.methods_on(capture)
    titles = {m.name: m.title for m in methods if m.name not in (FLOOR, CEILING)} | {TRIVIAL: "trivial field"}
    rows = []
    for name, title in titles.items():
        closed = {metric: results.gap(capture, name, metric) for metric in GAP_METRICS}
        if not any(closed.values()):
            rows.append([title, NOTHING, *[""] * (len(GAP_METRICS) - 1)])
            continue
        rows.append([title, *(shares(values) for values in closed.values())])
    return table(["", *(HEADINGS[metric].split(" [")[0] for metric in GAP_METRICS)], rows)


def shares(values: dict[int, float]) -> str:
    """Return a mean share and each seed's, in per cent.

    Examples:
        >>> shares({0: 0.5, 1: 0.4}), shares({})
        ('45 % (50, 40)', '–')
    """
    pair = mean_and_spread(values.values())
    if pair is None:
        return "–"
    each = f" ({', '.join(f'{100 * values[seed]:.0f}' for seed in sorted(values))})" if len(values) > 1 else ""
    return f"{100 * pair[0]:.0f} %{each}"


def cost(results: Results, capture: str, methods: Sequence[Method]) -> str:
    """Return the steps and wall time of methods."""
    rows = []
    for method in methods:
        names = [f"{capture}/{method.name}/seed{seed}" for seed in results.seeds(capture, method.name)]
        records = [results.records[name] for name in names]
        if not records:
            rows.append([method.title, NOTHING, "", ""])
            continue
        minutes = mean_and_spread(record.minutes for record in records)
        threads = sorted({stage.threads for record in records for stage in record.stages.values()})
        rows.append([method.title, str(records[0].steps), number(minutes, 1), ", ".join(map(str, threads))])
    return table(["", "steps after its teacher's", "minutes, tests included", "threads"], rows)


def provenance(results: Results, capture: str, methods: Iterable[str], command: str) -> str:
    """Where the numbers of a table come from: command, commits, machines, time."""
    records = [
        results.records[f"{capture}/{method}/seed{seed}"]
        for method in methods
        for seed in results.seeds(capture, method)
        if method != TRIVIAL
    ]
    lines = [f"Command: `{command}`."]
    if records:
        commits = sorted({record.commit for record in records})
        machines = sorted({machine(record.machine) for record in records})
        days = sorted({record.started[:10] for record in records})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        count = "1 cell" if len(records) == 1 else f"{len(records)} cells"
        lines.append(f"{count}, commit {', '.join(commits)}, {when}, on {'; '.join(machines)};")
        lines.append(f"{sum(record.minutes for record in records):.0f} minutes of wall time in all.")
    return " ".join(lines)


def machine(found: dict) -> str:
    """Return a machine in a few words."""
    device = found.get("gpu") or f"{found.get('cores')} cores of {found.get('processor')}"
    return f"{device} (torch {found.get('torch')})"


def ablation_page(results: Results, command: str) -> str:
    """Return a table for every ablation on each of its captures; beside every row the command that runs it alone."""
    parts = []
    for ablation in results.plan.ablations.values():
        for capture in ablation.captures:
            parts += [f"## {ablation.title}: {results.plan.captures[capture].title}"]
            parts += [ablation_table(results, ablation, capture, command)]
            parts += [
                provenance(
                    results,
                    capture,
                    ablation.rows,
                    f"{command} {','.join(f'{capture}/{name}' for name in ablation.rows)}",
                )
            ]
    return "\n\n".join(parts) + "\n"


def ablation_table(results: Results, ablation: Ablation, capture: str, command: str) -> str:
    """Rows of an ablation between those that every table has: labelled only, control, the base, the trivial field.

    A capture without labels has the errors at its joints in place of geodesic ones.
    """
    plan = results.plan
    shown = present(results, capture, BRIEF) or list(BRIEF)
    if BRIEF[0] not in shown:
        shown = [*present(results, capture, JOINTS), *shown]
    names = [name for name in (FLOOR, CONTROL, ablation.base) if name in plan.methods]
    rows = []
    for name in [*names, *ablation.rows]:
        found = row(results, capture, name, plan.methods[name].title, shown, ablation.seeds)
        rows.append([*found, f"`{command} {capture}/{name}`"])
    rows.append([*row(results, capture, TRIVIAL, "trivial field", shown, ablation.seeds), ""])
    return table(["", "seeds", *map(heading, shown), "command"], rows)
