"""The licences of everything that dkp depends on, read from what is installed.

``python tests/licences.py`` prints the table of docs/licences.md.
"""

import re
import tomllib
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU",
    "BSL-1.0", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib", "Apache-2.0 WITH LLVM-exception",
}  # fmt: skip
"""Licences that ask for no more than a notice."""

EXCEPTIONS = {
    "certifi": "MPL-2.0: a list of certificates, used unchanged; the licence covers changes of its own files only",
    "hypothesis": "MPL-2.0: for tests only; the licence covers changes of its own files only",
    "pathspec": "MPL-2.0: for mypy and MkDocs only; the licence covers changes of its own files only",
    "tqdm": "MPL-2.0 AND MIT: used unchanged; the licence covers changes of its own files only",
    "openexr": "BSD-3-Clause: said in its own files, not in its metadata; for tests and `make weights` only",
    "nvidia": "NVIDIA's own terms: CUDA's runtime, which torch's CUDA builds ask for; not part of dkp",
    "cuda": "NVIDIA's own terms: CUDA's runtime, which torch's CUDA builds ask for; not part of dkp",
}
"""Packages (or the first part of their names) with other terms, and why they may stay."""

NAMES = {
    "apache": "Apache-2.0", "apache 2": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache software": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0", "mit license": "MIT",
    "apache software license": "Apache-2.0", "bsd license": "BSD", "bsd 3-clause license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "python software foundation license": "PSF-2.0",
    "psf": "PSF-2.0", "isc license (iscl)": "ISC", "the unlicense (unlicense)": "Unlicense",
    "bsd": "BSD", "mit": "MIT", "the mit license": "MIT", "bsd-3-clause license": "BSD-3-Clause",
    "historical permission notice and disclaimer (hpnd)": "HPND",
}  # fmt: skip
"""Older metadata name licences in words."""


def canonical(name: str) -> str:
    """A package's name as indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(extras: Sequence[str]) -> list[Requirement]:
    """What pyproject.toml asks for, with some of its extras."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def closure(extras: Sequence[str] = ("wandb", "sweep", "dask", "onnx", "docs", "dev")) -> dict[str, Distribution]:
    """All installed packages that dkp needs, directly or not, with some of its extras."""
    found: dict[str, Distribution] = {}
    waiting = [(canonical(requirement.name), frozenset(requirement.extras)) for requirement in named(extras)]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform
        found[canonical(name)] = package
        for line in package.requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*wanted, "")):
                waiting.append((canonical(requirement.name), frozenset(requirement.extras)))
    return dict(sorted(found.items()))


def licence_of(package: Distribution) -> str:
    """A package's licence as an SPDX expression where its metadata allow that, or as they put it."""
    metadata = package.metadata
    if metadata.get("License-Expression"):
        return metadata["License-Expression"]
    trove = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier", []) if line.startswith("License ::")]
    trove = [NAMES.get(name.lower(), name) for name in trove if name != "OSI Approved"]
    if trove:
        return " OR ".join(sorted(set(trove)))
    lines = (metadata.get("License") or "unknown").strip().splitlines()
    return NAMES.get(lines[0].strip().lower(), lines[0].strip())


def parts(expression: str) -> list[set[str]]:
    """The alternatives of an expression, each as the licences that hold together; with brackets, all that it names."""
    if "(" in expression and re.search(r"\s(AND|OR)\s", expression):
        return [set(re.split(r"\s+(?:AND|OR)\s+", re.sub("[()]", " ", expression).strip()))]
    return [set(re.split(r"\s+AND\s+", choice.strip())) for choice in re.split(r"\s+OR\s+", expression)]


def exception(name: str) -> str:
    """Why a package's other terms are accepted; empty where they are not."""
    return EXCEPTIONS.get(name) or EXCEPTIONS.get(name.split("-")[0], "")


def allowed(name: str, licence: str) -> bool:
    """Whether one of a licence's alternatives is of the allowed kind, or the package is an exception."""
    return bool(exception(name)) or any(choice <= ALLOWED for choice in parts(licence))


def table() -> str:
    """The table of the documentation."""
    own = closure(())
    lines = ["| package | licence | needed |", "|---|---|---|"]
    for name, package in closure().items():
        licence = exception(name).split(":")[0] or licence_of(package)
        lines.append(f"| {name} | {licence} | {'always' if name in own else 'by an extra'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
