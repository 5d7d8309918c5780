"""The plan of a study: which methods on which captures with which seeds, as a YAML file says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from dkp.config_files import read_mapping
from dkp.errors import InputError
from dkp.pipeline.captures import BUILT_IN
from dkp.recipes import recipe_folder
from dkp.weights import card

Experiment = Literal["teacher", "labelled_only", "oracle", "bootstrapping", "control", "adapted"]
"""What a method trains, on what: by the recipe of the teacher, the control or the adapted detector."""

Options = Mapping[str, Any]
"""Dotted names of `dkp fit` and their values."""

PLAN_KEYS = ("seeds", "metrics", "captures", "methods", "ablations", "cuts", "ordering", "check", "pictures")
"""What a plan's file may say."""


@dataclass(frozen=True)
class CaptureSetting:
    """A target and where its methods find labels.

    Attributes:
        name: in names of cells.
        title: for people.
        kind: a name of `BUILT_IN`, whose recipes are taken.
        source: folder of the labelled capture; None = rendered, as for `dkp train --capture KIND`.
        target: folder of the target; None = rendered or imported, likewise.
        labels: where labels come from: the source, or the target itself.
        share: share of the labelled instants that methods see (the oracle sees all of the target's).
        options: for every fit.
        pseudo_label: options of `dkp pseudo-label`.
        teacher: name of a shipped detector, which is the method "teacher" and whose recipes are taken; None = one is
            trained.
    """

    name: str
    title: str
    kind: str
    source: str | None = None
    target: str | None = None
    labels: Literal["source", "target"] = "source"
    share: float = 1.0
    options: Options = field(default_factory=dict)
    pseudo_label: Options = field(default_factory=dict)
    teacher: str | None = None


@dataclass(frozen=True)
class Method:
    """How a detector is trained.

    Attributes:
        name: in names of cells.
        title: for people.
        experiment: what is trained, on what.
        files: files of configs/ that are put on the recipe, in order.
        options: for its fits.
        start: the method whose detector it starts from; None for a teacher.
        rounds: fits one after the other, each from the detector before it, which share the steps.
        registered: before each fit the target is labelled by registration, as `labels` of the adapted recipe says.
        subject: whether its source is the target's own subjects, rendered in their rig as `subject` of the adapted
            recipe says; None = as in `dkp train`: where a recording was registered.
        share: in place of the capture's share of labelled instants.
        captures: on these only; None = all.
        seeds: in place of the plan's.
        group: the ablation that it is a row of.
        line, x: the curve that it is a point of, and where.
    """

    name: str
    title: str
    experiment: Experiment
    files: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)
    start: str | None = "teacher"
    rounds: int = 1
    registered: bool = False
    subject: bool | None = None
    share: float | None = None
    captures: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    group: str | None = None
    line: str | None = None
    x: float | None = None

    @property
    def pseudo_labelled(self) -> bool:
        """Whether the detector before each fit labels the target for it."""
        return self.registered or self.experiment == "bootstrapping"

    @property
    def semi_supervised(self) -> bool:
        """Whether it learns from unlabelled views."""
        return self.experiment in ("control", "adapted")


@dataclass(frozen=True)
class Ablation:
    """Rows that vary one thing.

    Attributes:
        name: of the group.
        title: for people.
        captures: that its rows run on.
        base: the method that its rows vary.
        rows: names of the rows.
        seeds: of its rows, and those over which the other rows of its table are averaged; None = all.
        axis: what a curve's x is; None = no curve.
        lines: further methods that lie on a curve: name -> (line, x).
    """

    name: str
    title: str
    captures: tuple[str, ...]
    base: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...] | None = None
    axis: str | None = None
    lines: Mapping[str, tuple[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One method on one capture with one seed."""

    capture: CaptureSetting
    method: Method
    seed: int

    @property
    def name(self) -> str:
        """CAPTURE/METHOD/seedN."""
        return f"{self.capture.name}/{self.method.name}/seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A study.

    Attributes:
        path: the file.
        seeds: of everything random.
        metrics: settings of the tests, see `dkp.tasks.EvaluationSettings`.
        captures: by name.
        methods: by name; rows of ablations after the others.
        ablations: by name.
        cuts: name -> patterns of cells.
        ordering: methods from worst to best by the first key metric, which a reproduction is to show.
        check: the cell that is run again to check committed results, and "tolerance": metric -> relative difference.
        pictures: methods whose training is shown, each in every capture with the first seed.
    """

    path: Path
    seeds: tuple[int, ...]
    metrics: Options
    captures: Mapping[str, CaptureSetting]
    methods: Mapping[str, Method]
    ablations: Mapping[str, Ablation]
    cuts: Mapping[str, tuple[str, ...]]
    ordering: tuple[str, ...]
    check: Options
    pictures: tuple[str, ...]

    def cells(self) -> list[Cell]:
        """All cells, methods before rows of ablations, seed after seed, what others start from first."""
        return [
            Cell(capture, method, seed)
            for rows in (False, True)
            for seed in sorted({*self.seeds, *(s for m in self.methods.values() for s in m.seeds or ())})
            for capture in self.captures.values()
            for method in self.methods.values()
            if (method.group is not None) == rows
            and (method.captures is None or capture.name in method.captures)
            and seed in (method.seeds or self.seeds)
        ]

    def methods_on(self, capture: str) -> list[Method]:
        """Return the methods of a capture that are no rows of ablations."""
        return [m for m in self.methods.values() if m.group is None and (not m.captures or capture in m.captures)]

    def start(self, cell: Cell) -> Cell | None:
        """Return the cell whose detector a cell starts from."""
        name = cell.method.start
        return None if name is None else Cell(cell.capture, self.methods[name], cell.seed)

    def select(self, patterns: tuple[str, ...]) -> list[Cell]:
        """Return the cells that match a pattern, and those that they start from.

        Args:
            patterns: CAPTURE/METHOD/seedN or a beginning of it, with * and ? as wildcards; none = all.

        Raises:
            InputError: a pattern matches no cell.
        """
        cells = self.cells()
        if not patterns:
            return cells
        wanted: dict[str, Cell] = {}
        for pattern in patterns:
            matching = [cell for cell in cells if matches(cell.name, pattern)]
            if not matching:
                raise InputError(f"{pattern!r} matches no cell of {self.path}; `dkp study status` lists them")
            for cell in matching:
                chain = [cell]
                while (start := self.start(chain[0])) is not None:
                    chain.insert(0, start)
                wanted |= {one.name: one for one in chain}
        order = {cell.name: number for number, cell in enumerate(cells)}
        return sorted(wanted.values(), key=lambda cell: order[cell.name])


def matches(name: str, pattern: str) -> bool:
    """Whether CAPTURE/METHOD/seedN, or a beginning of it as long as the pattern, fits a pattern."""
    parts, wanted = name.split("/"), pattern.strip("/").split("/")
    return len(wanted) <= len(parts) and all(fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=False))


def read_plan(name: str) -> Plan:
    """Read a plan.

    Args:
        name: a file, or the name of a file in configs/study.

    Raises:
        InputError: it is missing or not as expected; the sentence says where.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else recipe_folder() / "study" / f"{name}.yaml"
    return PlanReader(path).plan(read_mapping(path, f"plan {path}"))


class PlanReader:
    """Makes a plan of a YAML file's content, and says what does not fit.

    Args:
        path: the file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def refused(self, what: str) -> InputError:
        """Return the error of a plan that does not fit."""
        return InputError(f"plan {self.path}: {what}")

    def plan(self, content: Any) -> Plan:
        """Return the plan."""
        self.keys(content, "the plan", PLAN_KEYS, ("seeds", "captures", "methods"))
        captures = {name: self.capture(name, entry) for name, entry in content["captures"].items()}
        methods = {name: self.method(name, entry) for name, entry in content["methods"].items()}
        given = {key: content.get(key) or {} for key in PLAN_KEYS}
        ablations = {name: self.ablation(name, entry, methods) for name, entry in given["ablations"].items()}
        plan = Plan(
            self.path,
            tuple(content["seeds"]),
            given["metrics"],
            captures,
            methods,
            ablations,
            {name: tuple(patterns) for name, patterns in given["cuts"].items()},
            tuple(given["ordering"]),
            given["check"],
            tuple(given["pictures"]),
        )
        self.references(plan)
        return plan

    def keys(self, entry: Any, where: str, known: Sequence[str], needed: Sequence[str] = ("title",)) -> None:
        """Refuse unknown and missing keys."""
        if not isinstance(entry, Mapping):
            raise self.refused(f"{where} is {entry!r} where keys with values are expected")
        for key in entry:
            if key not in known:
                raise self.refused(f"{where} has the key {key!r}, expected one of {', '.join(known)}")
        for key in needed:
            if key not in entry:
                raise self.refused(f"{where} has no key {key!r}")

    def choice(self, where: str, found: str, known: Sequence[str]) -> None:
        """Refuse a word that is none of a choice."""
        if found not in known:
            raise self.refused(f"{where} is {found!r}, expected one of {', '.join(known)}")

    def capture(self, name: str, entry: Any) -> CaptureSetting:
        """Return a capture's entry."""
        where = f"captures.{name}"
        self.keys(entry, where, list(CaptureSetting.__dataclass_fields__)[1:], ("title", "kind"))
        setting = CaptureSetting(name, **entry)
        self.choice(f"{where}.labels", setting.labels, ("source", "target"))
        self.choice(f"{where}.kind", setting.kind, BUILT_IN)
        if setting.teacher is not None:
            card(setting.teacher)
        return setting

    def method(self, name: str, entry: Any) -> Method:
        """Return a method's entry."""
        where, own = f"methods.{name}", ("name", "group")
        self.keys(entry, where, [key for key in Method.__dataclass_fields__ if key not in own], ("title", "experiment"))
        self.choice(f"{where}.experiment", entry["experiment"], get_args(Experiment))
        start = entry.get("start", None if entry["experiment"] == "teacher" else "teacher")
        return Method(name, **{**tuples(entry), "start": start})

    def ablation(self, name: str, entry: Any, methods: dict[str, Method]) -> Ablation:
        """Return a group of rows, which become methods."""
        where = f"ablations.{name}"
        self.keys(entry, where, list(Ablation.__dataclass_fields__)[1:], ("title", "captures", "base", "rows"))
        self.choice(f"{where}.base", entry["base"], list(methods))
        seeds = tuple(entry["seeds"]) if entry.get("seeds") else None
        for row, change in entry["rows"].items():
            own = ("title", "files", "options", "start", "rounds", "share", "line", "x", "base")
            self.keys(change, f"{where}.rows.{row}", own)
            base = methods.get(change.get("base", entry["base"]))
            if row in methods or base is None:
                problem = "is a method already" if row in methods else f"varies {change['base']!r}, which is no method"
                raise self.refused(f"{where}.rows.{row} {problem}")
            fields: dict[str, Any] = {"captures": entry["captures"], "seeds": seeds or base.seeds, **change}
            fields |= {"name": row, "group": name, "options": {**base.options, **(change.get("options") or {})}}
            methods[row] = replace(base, **tuples({key: fields[key] for key in fields if key != "base"}))
        lines = {method: (line, float(x)) for method, (line, x) in (entry.get("lines") or {}).items()}
        return Ablation(name, **{**tuples(entry), "rows": tuple(entry["rows"]), "seeds": seeds, "lines": lines})

    def references(self, plan: Plan) -> None:
        """Refuse names that stand for nothing."""
        for method in plan.methods.values():
            for name in method.captures or ():
                if name not in plan.captures:
                    raise self.refused(f"{method.name} runs on {name!r}, which is no capture")
            seen, start = {method.name}, method.start
            while start is not None:
                if start not in plan.methods or start in seen:
                    raise self.refused(f"{method.name} starts from {start!r}, which is no method before")
                seen.add(start)
                start = plan.methods[start].start
        named = {
            "ordering": plan.ordering,
            "pictures": plan.pictures,
            **{f"ablations.{name}.lines": tuple(ablation.lines) for name, ablation in plan.ablations.items()},
        }
        for key, names in named.items():
            for name in names:
                if name not in plan.methods:
                    raise self.refused(f"{key} has {name!r}, which is no method")
        for name, patterns in plan.cuts.items():
            for pattern in patterns:
                if not any(matches(cell.name, pattern) for cell in plan.cells()):
                    raise self.refused(f"cuts.{name} has {pattern!r}, which matches no cell")


def tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with its lists as tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
