"""The captures of a main job: rendered, imported, or the user's own."""

import os
from pathlib import Path

from rich.console import Console

from dkp.captures import Capture
from dkp.errors import InputError
from dkp.importers import import_board, import_person
from dkp.importers.fields import import_fields
from dkp.synthetic import synthesize, synthesize_board
from dkp.synthetic.species import SPECIES
from dkp.weights import card, shipped_for

SCRATCH = "scratch"
"""In place of a teacher's name: one is trained on the source."""

RENDERED = {"synthetic": "human", "dog": "dog"}
"""Targets that dkp renders: their species."""

BUILT_IN = (*RENDERED, "board", "person")
"""Targets that dkp renders or imports itself."""


def prepare_target(capture: str, captures: Path, seed: int, data: str | None, console: Console) -> Path:
    """Return the target capture: rendered, imported, or the user's own."""
    if capture not in BUILT_IN:
        Capture.open(capture)
        return Path(capture)
    recordings = data or os.environ.get("DKP_DATA")
    if capture in RENDERED:
        species = RENDERED[capture]
        path = captures / f"{prefix(species)}target-seed{seed}"
        if not path.exists():
            console.print(f"rendering the unlabelled target into {path}")
            synthesize(
                path, subjects=20, frames=12, cameras=6, size=192, seed=1000 + seed, domain="target", species=species
            )
    elif capture == "board":
        path = captures / "board"
        if not path.exists():
            if recordings is None:
                raise InputError(
                    "the board recording: found neither --data nor the environment variable DKP_DATA, expected the "
                    "folder that holds board/"
                )
            console.print(f"importing the board recording into {path}")
            import_board(Path(recordings) / "board", path)
    else:
        path = captures / "person"
        local = Path(data) / "person" if data else None
        if not path.exists():
            console.print(f"importing the person recording into {path}")
            import_person(path, source_dir=local if local and local.is_dir() else None)
    Capture.open(path)
    return path


def prepare_source(
    capture: str, captures: Path, seed: int, domain: str | None, target: Path, shipped: str | None, console: Console
) -> Path:
    """Return the labelled source capture, rendered unless it is there.

    A real recording differs from renderings in more ways than renderings from each other, so that a teacher for it is
    trained on more people and poses; a shipped teacher has seen enough, and needs a reminder.
    """
    if capture == "board":
        path = captures / f"board-source-seed{seed}"
        if not path.exists():
            console.print(f"rendering the labelled source into {path}")
            synthesize_board(path, views=6000, seed=seed)
        return path
    species = Capture.open(target).surface.name
    if species not in SPECIES:
        raise InputError(
            f"{target}: its surface is {species}, which dkp cannot render; expected --source with a labelled capture "
            "on the same surface"
        )
    domain = domain or ("sport" if capture == "person" else "varied")
    many = capture not in RENDERED and shipped is None
    path = captures / f"{prefix(species)}source-{domain}{'-many' if many else ''}-seed{seed}"
    if not path.exists():
        console.print(f"rendering the labelled source into {path}")
        subjects, frames, clip = (80, 15, 1) if many else (40, 10, 2)
        synthesize(
            path, subjects=subjects, frames=frames, clip=clip, cameras=6, size=192, seed=seed, domain=domain,
            species=species,
        )  # fmt: skip
    return path


def prepare_fields(fields: Path, target: Path, captures: Path, console: Console) -> Path:
    """Return a capture of the target's images with saved fields as labels, made unless it is there."""
    path = captures / f"{target.resolve().name}-by-{fields.resolve().name}"
    if not path.exists():
        console.print(f"making labels of the fields in {fields} in {path}")
        import_fields(target, fields, path)
    return path


def prefix(species: str) -> str:
    """Start of the names of a species' captures; people have none."""
    return "" if species == "human" else f"{species}-"


def check_same_surface(source: Path, target: Path) -> None:
    """Source and target have to be labelled on one surface."""
    first, second = Capture.open(source).surface, Capture.open(target).surface
    if first.vertices.shape != second.vertices.shape or abs(first.vertices - second.vertices).max() > 1e-4:
        raise InputError(
            f"{source} is on the surface {first.name} and {target} on {second.name}, expected one surface for both"
        )


def choose_teacher(teacher: str | None, recipes: Path | None, target: Path) -> str | None:
    """Return the name of the shipped detector that is the teacher; None = one is trained.

    Args:
        teacher: a name, `SCRATCH`, or None for the shipped detector of the target's surface, where there is one.
        recipes: folder of the user's own recipes, which ask for a trained teacher where there is a teacher.yaml.
        target: folder of the target.

    Raises:
        InputError: there is no such detector, or it is of another surface than the target's.
    """
    surface = Capture.open(target).surface.name
    if teacher == SCRATCH or (teacher is None and recipes is not None and (recipes / "teacher.yaml").exists()):
        return None
    if teacher is None:
        return shipped_for(surface)
    if card(teacher).surface != surface:
        raise InputError(f"{target} is on the surface {surface}, expected {card(teacher).surface}, that of {teacher}")
    return teacher
