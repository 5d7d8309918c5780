"""The captures of a main job: which are made, which are taken as they are, which are refused."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dkp.captures import CaptureWriter
from dkp.errors import InputError
from dkp.pipeline import captures
from dkp.pipeline.captures import SCRATCH, check_same_surface, choose_teacher, prepare_source, prepare_target

from ..conftest import camera_at

QUIET = Console(quiet=True)


@pytest.fixture
def made(monkeypatch, planes) -> list[tuple[str, Path, dict]]:
    """What would be rendered or imported; nothing is."""
    calls: list[tuple[str, Path, dict]] = []

    def record(name):
        def make(*paths, **options):
            out = next(path for path in reversed(paths) if isinstance(path, Path))
            calls.append((name, out, {**options, "recording": paths[0] if len(paths) > 1 else None}))

        return make

    for name in ("synthesize", "synthesize_board", "import_board", "import_person"):
        monkeypatch.setattr(captures, name, record(name))
    monkeypatch.delenv("DKP_DATA", raising=False)
    return calls


@pytest.fixture
def opened(monkeypatch) -> list[Path]:
    """Paths that are opened, without the captures being there."""
    paths: list[Path] = []
    monkeypatch.setattr(captures.Capture, "open", lambda path: paths.append(path))
    return paths


# The target


def test_a_capture_of_your_own_is_taken_as_it_is(planes, made, tmp_path):
    assert prepare_target(str(planes / "mine"), tmp_path, 0, None, QUIET) == planes / "mine"
    assert made == []


def test_a_folder_that_is_no_capture_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        prepare_target(str(tmp_path / "nowhere"), tmp_path, 0, None, QUIET)


@pytest.mark.parametrize(
    ("capture", "folder", "species"), [("synthetic", "target-seed3", "human"), ("dog", "dog-target-seed3", "dog")]
)
def test_the_rendered_target_depends_on_species_and_seed(capture, folder, species, made, opened, tmp_path):
    assert prepare_target(capture, tmp_path, 3, None, QUIET) == tmp_path / folder
    ((name, out, options),) = made
    assert (name, out, options["domain"], options["seed"]) == ("synthesize", tmp_path / folder, "target", 1003)
    assert options["species"] == species
    assert opened == [tmp_path / folder]


@pytest.mark.parametrize("capture", ["synthetic", "dog", "board", "person"])
def test_a_target_that_is_there_is_used_again(capture, made, opened, tmp_path):
    path = tmp_path / {"synthetic": "target-seed0", "dog": "dog-target-seed0"}.get(capture, capture)
    path.mkdir()
    assert prepare_target(capture, tmp_path, 0, None, QUIET) == path
    assert made == []


def test_the_board_needs_its_recording(made, tmp_path):
    with pytest.raises(InputError, match=r"neither --data nor the environment variable DKP_DATA.*holds board/"):
        prepare_target("board", tmp_path, 0, None, QUIET)
    assert made == []


def test_recordings_come_from_the_option_before_the_environment(made, opened, monkeypatch, tmp_path):
    monkeypatch.setenv("DKP_DATA", "from/environment")
    prepare_target("board", tmp_path, 0, None, QUIET)
    prepare_target("board", tmp_path, 0, "from/option", QUIET)
    assert [options["recording"] for _, _, options in made] == [
        Path("from/environment/board"),
        Path("from/option/board"),
    ]


def test_the_person_is_fetched_where_there_is_no_recording(made, opened, tmp_path):
    prepare_target("person", tmp_path, 0, str(tmp_path), QUIET)
    (tmp_path / "data" / "person").mkdir(parents=True)
    prepare_target("person", tmp_path, 0, str(tmp_path / "data"), QUIET)
    assert [options["source_dir"] for _, _, options in made] == [None, tmp_path / "data" / "person"]


# The source


def test_the_source_of_the_board_is_rendered_boards(made, tmp_path, planes):
    assert prepare_source("board", tmp_path, 2, None, planes / "mine", None, QUIET) == tmp_path / "board-source-seed2"
    assert [(name, options["seed"]) for name, _, options in made] == [("synthesize_board", 2)]


@pytest.mark.parametrize(
    ("capture", "domain", "shipped", "expected"),
    [
        ("synthetic", None, None, "varied"),
        ("person", None, None, "sport-many"),
        ("person", None, "human-small", "sport"),
        ("own", None, None, "varied-many"),
        ("own", "sport", "human-small", "sport"),
    ],
)
def test_the_source_of_people_is_rendered_in_a_domain(capture, domain, shipped, expected, made, tmp_path, people):
    path = prepare_source(capture, tmp_path, 0, domain, people / "bare", shipped, QUIET)
    assert path == tmp_path / f"source-{expected}-seed0"
    domain = expected.removesuffix("-many")
    assert [(name, out, options["domain"]) for name, out, options in made] == [("synthesize", path, domain)]


def test_the_source_of_ones_own_dogs_is_rendered_dogs(made, tmp_path):
    cameras = {"a": camera_at(-0.5), "b": camera_at(0.5)}
    with CaptureWriter(tmp_path / "own", name="own", surface="dog", cameras=cameras, splits={}) as writer:
        for camera in cameras:
            writer.add_view("f0", camera, np.zeros((32, 32, 3), np.uint8), time=0)
    path = prepare_source(str(tmp_path / "own"), tmp_path, 0, None, tmp_path / "own", None, QUIET)
    assert path == tmp_path / "dog-source-varied-many-seed0"
    assert [(name, out, options["species"]) for name, out, options in made] == [("synthesize", path, "dog")]


def test_a_source_that_is_there_is_used_again(made, tmp_path, people):
    for name in ("source-varied-seed0", "board-source-seed0"):
        (tmp_path / name).mkdir()
    for capture in ("synthetic", "board"):
        prepare_source(capture, tmp_path, 0, None, people / "bare", None, QUIET)
    assert made == []


def test_another_surface_needs_a_source(made, planes, tmp_path):
    with pytest.raises(InputError, match=r"mine.*cannot render; expected --source"):
        prepare_source(str(planes / "mine"), tmp_path, 0, None, planes / "mine", None, QUIET)
    assert made == []


def test_source_and_target_share_a_surface(planes, people):
    check_same_surface(planes / "labelled", planes / "mine")
    for other in (planes / "wide", people / "bare"):
        with pytest.raises(InputError, match=rf"labelled is on the surface.*{other.name}.*expected one surface"):
            check_same_surface(planes / "labelled", other)


# The teacher


def test_the_teacher_is_the_shipped_detector_of_the_surface_unless_asked(people, planes, tmp_path):
    (tmp_path / "teacher.yaml").touch()
    person = people / "bare"
    assert choose_teacher(None, None, person) == choose_teacher("human-small", tmp_path, person) == "human-small"
    assert choose_teacher(None, tmp_path / "other", person) == "human-small"
    assert choose_teacher(SCRATCH, None, person) is None
    assert choose_teacher(None, tmp_path, person) is None  # recipes that train a teacher
    assert choose_teacher(None, None, planes / "mine") is None  # nothing is shipped for it
