"""No dependency asks for more than a notice, but for the named exceptions; the table in the documentation is theirs."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from .licences import EXCEPTIONS, allowed, canonical, closure, exception, licence_of, table

ROOT = Path(__file__).parents[1]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonical(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def test_every_dependency_may_be_used():
    packages = closure()
    assert {"torch", "kornia", "pytest"} <= packages.keys()
    refused = {name: licence_of(package) for name, package in packages.items()}
    assert {name: licence for name, licence in refused.items() if not allowed(name, licence)} == {}


def test_what_always_is_needed_has_no_copyleft():
    """The exceptions are for tests, for what huggingface_hub and wandb bring along, and for CUDA."""
    inside = {name for name in closure(()) if exception(name) and not name.startswith(("nvidia", "cuda"))}
    assert inside <= {"certifi", "tqdm"}


def test_the_documentation_lists_them():
    installed = {name: package.version.split("+")[0] for name, package in closure().items()}
    other = {name for name, version in pinned().items() if installed.get(name, version) != version}
    if other:
        pytest.skip(f"other releases than the tested ones are installed: {', '.join(sorted(other))}")
    listed = (ROOT / "docs" / "licences.md").read_text().splitlines()
    missing = [line for line in table().splitlines() if line not in listed]
    assert not missing, "python tests/licences.py prints the table of docs/licences.md"


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("Apache-2.0 AND (MIT OR BSD-3-Clause)", True),
        ("GPL-3.0-only AND (MIT OR BSD-3-Clause)", False),
        ("(GPL-3.0-only OR MIT) AND ISC", False),  # brackets are not taken apart: someone has to look
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("MPL-2.0", False),
        ("MIT AND LGPL-2.1-or-later", False),
        ("CC-BY-NC-4.0", False),
        ("unknown", False),
    ],
)
def test_the_rule(licence, expected):
    assert allowed("something", licence) is expected


def test_exceptions_say_why():
    assert all(": " in reason for reason in EXCEPTIONS.values())
