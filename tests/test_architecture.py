"""The rooms of the package: what each may import, no import circle between files, no file with two subjects."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dkp"
MOST_LINES = 400

FLOORS = (
    "geometry surface",
    "fields",
    "losses models metrics captures",
    "reconstruction weights",
    "importers synthetic data",
    "tasks viz",
    "callbacks",
    "runs inference",
    "pipeline",
    "bench",
    "study sweep",
    "cli",
)
"""The rooms from the ground up: each imports itself and floors below, never its own floor."""

INNER = (
    ("captures", "captures.check"),
    ("surface", "surface.bake"),
    ("importers.cameras importers.media", "importers.datasets"),
    ("synthetic.human synthetic.dog synthetic.board", "synthetic.species synthetic.synthesis"),
)
"""Within a room: the left may not import the right."""


def modules() -> dict[str, Path]:
    """Dotted name -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(path: Path) -> set[str]:
    """The package's modules that a file imports, anywhere in it: in functions and for the type checker, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = names & MODULES.keys()
            found |= inner | ({str(node.module)} if len(inner) < len(names) else set())
    return found & MODULES.keys()


IMPORTS = {name: imported(path) - {name} for name, path in MODULES.items()}


def room(name: str) -> str:
    """The room of a module, or the module itself where it lies in none: the second part of its name."""
    return [*name.split("."), ""][1]


def inside(name: str, rooms: str) -> bool:
    """Whether a module is one of the named ones or lies in one of them."""
    return any(name == f"dkp.{one}" or name.startswith(f"dkp.{one}.") for one in rooms.split())


def require_order(imports: dict[str, set[str]]) -> None:
    """Fail where names import each other in a circle, and print it."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_import_circle_between_files():
    require_order(IMPORTS)


def test_no_import_circle_between_rooms():
    rooms: dict[str, set[str]] = {}
    for name, others in IMPORTS.items():
        rooms.setdefault(room(name), set()).update(room(other) for other in others)
    require_order({name: others - {name, ""} for name, others in rooms.items() if name})


def test_every_room_has_a_floor():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(" ".join(FLOORS).split())


def test_rooms_import_downwards_only():
    floor = {name: height for height, names in enumerate(FLOORS) for name in names.split()}
    wrong = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if room(name) != room(other)
        and {room(name), room(other)} <= floor.keys()
        and floor[room(name)] <= floor[room(other)]
    ]
    assert wrong == []


@pytest.mark.parametrize(("lower", "upper"), INNER)
def test_inner_rooms_import_downwards_only(lower, upper):
    below = [name for name in MODULES if inside(name, lower) and not inside(name, upper)]
    assert below
    assert [f"{name} imports {other}" for name in below for other in IMPORTS[name] if inside(other, upper)] == []


def test_files_have_one_subject():
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_the_page_names_every_room_and_only_files_that_exist():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:dkp|tests)/[\w/.]+)`", page))
    assert {name for name in named if not (PACKAGE.parent / name).exists()} == set()
    assert {f"dkp/{name}" for name in " ".join(FLOORS).split()} <= named
