"""What a check of a capture found: plain numbers, tables in text, and a dictionary for JSON."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from dkp.captures.check.judge import Finding

RESIDUAL_KINDS = ("label", "points", "joints")


@dataclass(frozen=True)
class CameraRow:
    """A camera: image size [px], focal length [px], distance from the subject [m] and number of views."""

    name: str
    size: list[int]
    focal: float
    distance: float | None
    views: int


@dataclass(frozen=True)
class SplitRow:
    """A split: how many instants and views it has, and how many of the views have a mask, labels, points, joints."""

    name: str
    instants: int
    views: int
    masks: int
    labels: int
    points: int
    joints: int


@dataclass(frozen=True)
class Residual:
    """Symmetric epipolar distance of corresponding points.

    Attributes:
        matches: number of corresponding points.
        mean, median: distance [px of the stored images].
        source_mean, source_median: distance [px of the source frames], for which the cameras are calibrated.
    """

    matches: int
    mean: float
    median: float
    source_mean: float
    source_median: float


@dataclass(frozen=True)
class PairRow:
    """A pair of cameras over the instants that were looked at.

    Attributes:
        cameras: the two names.
        instants: number of instants in which both have a view.
        angle: median angle under which the two see the subject [degrees].
        epipole_inside: share of instants in which one image shows the other camera's epipole.
        eligible: share of instants in which the pair suits training (:func:`dkp.geometry.eligible_pairs`).
        residuals: what gave corresponding points ("label", "points", "joints") -> how well they fit the cameras.
    """

    cameras: list[str]
    instants: int
    angle: float
    epipole_inside: float
    eligible: float
    residuals: dict[str, Residual]


@dataclass(frozen=True)
class LabelAgreement:
    """Dense labels against the posed surface: distance from a pixel to where its surface point projects.

    Attributes:
        pixels: number of labelled pixels.
        mean_px: mean distance in the image [px of the stored images].
        max_px: largest.
        mean_cm: mean distance of the surface point from the pixel's line of sight [cm].
        max_cm: largest.
    """

    pixels: int
    mean_px: float
    max_px: float
    mean_cm: float
    max_cm: float


@dataclass(frozen=True)
class CheckReport:
    """The result of :func:`dkp.captures.check_capture`; ``str()`` gives tables.

    Attributes:
        name, path, unit, fps, surface, source: of the capture.
        subject: (3,) about where the subject stands in the world [m]; None where nothing fixes it.
        cameras, splits, pairs: a row each.
        residuals: as in a pair, over the matches of all pairs together.
        labels: agreement of dense labels with the posed surface; None where either is missing.
        seen: camera -> share of its joints that a detector sees in its images, of a few instants; empty without one.
        findings: what explains that views disagree, with figures.
        problems: files that cannot be used, one sentence each.
        warnings: what looks wrong but can be used.
    """

    name: str
    path: str
    unit: str
    fps: float | None
    surface: str
    source: str
    subject: list[float] | None
    cameras: list[CameraRow]
    splits: list[SplitRow]
    pairs: list[PairRow]
    residuals: dict[str, Residual]
    labels: LabelAgreement | None
    seen: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the report as tables in plain text."""
        console = Console(file=io.StringIO(), width=150, force_terminal=False, color_system=None, markup=False)
        rate = "" if self.fps is None else f", {self.fps:g} instants per second"
        told = f"unit {self.unit}{rate}, surface {self.surface}"
        console.print(f"capture {self.name} in {self.path}: {told}", soft_wrap=True)
        if self.source:
            console.print(f"source: {self.source}", soft_wrap=True)
        console.print(self._camera_table(), self._split_table(), self._pair_table())
        if self.residuals:
            console.print(self._residual_table())
        if self.labels is not None:
            console.print(
                f"labels against the posed surface, {self.labels.pixels} pixels: mean {self.labels.mean_px:.3f} px and "
                f"{self.labels.mean_cm:.3f} cm, largest {self.labels.max_px:.3f} px and {self.labels.max_cm:.3f} cm",
                soft_wrap=True,
            )
        if self.seen:
            shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.seen.items())
            console.print(f"joints that a detector sees where they are: {shares}", soft_wrap=True)
        if not self.problems:
            console.print("every file can be read")
        for kind, sentences in (("problem", self.problems), ("warning", self.warnings)):
            for sentence in sentences[:20]:
                console.print(f"{kind}: {sentence}", soft_wrap=True)
            if len(sentences) > 20:
                console.print(f"{kind}: {len(sentences) - 20} more")
        return console.file.getvalue().rstrip()  # type: ignore[attr-defined]

    def _camera_table(self) -> Table:
        table = _table("camera", "size px", "focal px", "from subject m", "views")
        for row in self.cameras:
            table.add_row(
                row.name, f"{row.size[0]}x{row.size[1]}", f"{row.focal:g}", _number(row.distance, 2), f"{row.views}"
            )
        return table

    def _split_table(self) -> Table:
        table = _table("split", "instants", "views", "masks", "labels", "points", "joints")
        for row in self.splits:
            counts = (row.instants, row.views, row.masks, row.labels, row.points, row.joints)
            table.add_row(row.name, *(str(count) for count in counts))
        return table

    def _pair_table(self) -> Table:
        table = _table("pair", "instants", "angle °", "epipole in image", "trains")
        for row in self.pairs:
            cells = (f"{row.instants}", f"{row.angle:.0f}", _share(row.epipole_inside), _share(row.eligible))
            table.add_row(" ".join(row.cameras), *cells)
        return table

    def _residual_table(self) -> Table:
        columns = ("matches", "mean px", "median px", "mean source px", "median source px")
        table = _table("epipolar residual", "from", *columns)
        rows = [(" ".join(row.cameras), kind, r) for row in self.pairs for kind, r in row.residuals.items()]
        rows += [("all pairs", kind, residual) for kind, residual in self.residuals.items()]
        for name, kind, found in rows:
            numbers = (found.mean, found.median, found.source_mean, found.source_median)
            table.add_row(name, kind, f"{found.matches}", *(f"{number:.2f}" for number in numbers))
        return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: float) -> str:
    return {0.0: "no", 1.0: "yes"}.get(value, f"{100 * value:.0f} %")
