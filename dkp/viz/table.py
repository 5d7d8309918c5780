"""The comparison of detectors as a table, for the terminal and for Markdown."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dkp.metrics.names import is_detail

Summary = Mapping[str, Mapping[str, float | None]]
"""Detector -> metric -> value; None where it was not or cannot be measured."""

REFERENCE = "trivial"
"""The column that is no detector: coordinate = position in the crop. It is never the best."""

EXACT = "exact labels"
"""Likewise: dense labels, taken as if they were a field."""

COLUMNS = ("teacher", "control", "adapted", "oracle", REFERENCE)


@dataclass(frozen=True)
class Row:
    """How one metric is shown.

    Attributes:
        key: In the summary.
        title: For people.
        unit: "cm", "px", or "" for a share.
        better: Whether lower or higher values are better.
    """

    key: str
    title: str
    unit: str
    better: Literal["lower", "higher"]

    @property
    def heading(self) -> str:
        """Title, unit and an arrow towards better."""
        unit = f" [{self.unit}]" if self.unit else ""
        return f"{self.title}{unit} {'↓' if self.better == 'lower' else '↑'}"


ROWS = (
    Row("geodesic_median_cm", "geodesic error, median", "cm", "lower"),
    Row("geodesic_mean_cm", "geodesic error, mean", "cm", "lower"),
    Row("coverage", "labelled pixels covered", "", "higher"),
    Row("auc30", "recall curve, area to 30 cm", "", "higher"),
    Row("pck10", "points within 10 cm", "", "higher"),
    Row("iou", "foreground IoU", "", "higher"),
    Row("mask_iou", "IoU with the captured masks", "", "higher"),
    Row("epipolar_median_px", "epipolar distance, median", "px", "lower"),
    Row("epipolar_mean_px", "epipolar distance, mean", "px", "lower"),
    Row("matched_share", "foreground matched across views", "", "higher"),
    Row("joint_cm", "joint error, median", "cm", "lower"),
    Row("left_right_exchanged", "left and right exchanged", "", "lower"),
    Row("joint_on_foreground", "joints on the foreground", "", "higher"),
)


def _columns(summary: Summary) -> list[str]:
    """Known detectors in their order, others after them, the reference last."""
    names = [name for name in COLUMNS if name in summary and name != REFERENCE]
    names += [name for name in summary if name not in COLUMNS]
    return [*names, REFERENCE] if REFERENCE in summary else names


def _value(summary: Summary, column: str, key: str) -> float | None:
    value = summary[column].get(key)
    return None if value is None or not math.isfinite(value) else float(value)


def _decimals(row: Row, values: Sequence[float]) -> int:
    """Three for shares; for lengths as many as give the smallest value three digits, one to three."""
    positive = [abs(value) for value in values if value]
    if not row.unit or not positive:
        return 3 if not row.unit else 1
    return min(3, max(1, 2 - math.floor(math.log10(min(positive)))))


def _cells(summary: Summary) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Per metric its heading, and per column the text and whether it is the best of the detectors."""
    columns = _columns(summary)
    for row in ROWS:
        values = [_value(summary, column, row.key) for column in columns]
        if all(value is None for value in values):
            continue
        decimals = _decimals(row, [value for value in values if value is not None])
        shown = [None if value is None else round(value, decimals) for value in values]
        rivals = [
            value
            for column, value in zip(columns, shown, strict=True)
            if value is not None and column not in (REFERENCE, EXACT)
        ]
        best = (min if row.better == "lower" else max)(rivals) if len(rivals) > 1 else None
        yield (
            row.heading,
            [
                (
                    "–" if value is None else f"{value:.{decimals}f}",
                    value is not None and value == best and column not in (REFERENCE, EXACT),
                )
                for column, value in zip(columns, shown, strict=True)
            ],
        )


def summary_table(summary: Summary, title: str | None = None) -> Table:
    """Return the summary as a table for a terminal.

    Args:
        summary: Detector -> metric -> value; a missing, None or not finite value is shown as a dash.
        title: Above the table.

    Returns:
        A rich table; the best detector of each row, and those equal to it as printed, in bold.
    """
    table = Table(
        title=None if title is None else Text(title), title_justify="left", header_style="none", box=SIMPLE_HEAD
    )
    table.add_column("")
    for column in _columns(summary):
        table.add_column(column, justify="right", style="dim" if column == REFERENCE else "none")
    for heading, cells in _cells(summary):
        table.add_row(Text(heading), *(Text(text, style="bold" if best else "") for text, best in cells))
    return table


def evaluation_text(metrics: Mapping[str, float], title: str) -> str:
    """Return what an evaluation found as text: a table of the detector and what it is compared with, one of the joints.

    Args:
        metrics: As logged, STAGE/KEY, STAGE/trivial/KEY, STAGE/exact_KEY and STAGE/joint/NAME/KEY -> value.
        title: Above the table, such as what was evaluated.

    Returns:
        Lines for a terminal; values of training and of single pairs of cameras are left out.
    """
    stages: dict[str, dict[str, dict[str, float]]] = {}
    joints: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        stage, _, key = name.partition("/")
        if stage == "train":
            continue
        if key.startswith("joint/"):
            _, joint, kind = key.split("/")
            joints.setdefault(joint, {})[kind] = value
        elif not is_detail(name):
            column = REFERENCE if key.startswith("trivial/") else EXACT if key.startswith("exact_") else "detector"
            key = key.removeprefix("trivial/").removeprefix("exact_")
            stages.setdefault(stage, {}).setdefault(column, {})[key] = value
    console = Console(file=(text := StringIO()), width=100)
    for number, (stage, columns) in enumerate(stages.items()):
        shown = {name: columns[name] for name in ("detector", EXACT, REFERENCE) if name in columns}
        console.print(summary_table(shown, title if len(stages) == 1 else f"{title}: {stage}"))
        if number == len(stages) - 1:
            console.print("Arrows point to better; cm on the surface, px of a 128 px image.")
    if joints:
        table = Table("joint", title_justify="left", header_style="none", box=SIMPLE_HEAD)
        shown_joints = {"cm": "mean error [cm]", "exchanged": "exchanged", "on_foreground": "on the foreground"}
        for heading in shown_joints.values():
            table.add_column(Text(heading), justify="right")
        for joint, values in joints.items():
            table.add_row(joint, *(f"{values[kind]:.3f}" if kind in values else "–" for kind in shown_joints))
        console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def summary_markdown(summary: Summary) -> str:
    """Return the summary as a Markdown table; arguments as for ``summary_table``.

    Examples:
        >>> print(summary_markdown({"teacher": {"iou": 0.7}, "adapted": {"iou": 0.75}, "trivial": {"iou": None}}))
        | | teacher | adapted | trivial |
        |:--|--:|--:|--:|
        | foreground IoU ↑ | 0.700 | **0.750** | – |
    """
    columns = _columns(summary)
    lines = [f"| | {' | '.join(columns)} |", "|:--|" + "--:|" * len(columns)]
    for heading, cells in _cells(summary):
        texts = (f"**{text}**" if best else text for text, best in cells)
        lines.append(f"| {heading} | {' | '.join(texts)} |")
    return "\n".join(lines)


def summary_html(summary: Summary) -> str:
    """Return the summary as an html table; arguments as for ``summary_table``.

    Examples:
        >>> summary_html({"teacher": {"iou": 0.7}}).splitlines()[1]
        '<tr><td>foreground IoU ↑</td><td>0.700</td></tr>'
    """
    rows = [[("", False), *((column, False) for column in _columns(summary))]]
    rows += [[(heading, False), *cells] for heading, cells in _cells(summary)]
    lines = [
        "".join(f"<td>{f'<b>{escape(text)}</b>' if best else escape(text)}</td>" for text, best in row) for row in rows
    ]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
