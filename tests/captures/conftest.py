"""The small scene with exact labels, and a capture of it."""

from pathlib import Path

import pytest

from ..scene import Scene


@pytest.fixture
def scene() -> Scene:
    """Three cameras without distortion."""
    return Scene()


@pytest.fixture(scope="session")
def board_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small capture that tests may read but not change."""
    path = tmp_path_factory.mktemp("board") / "capture"
    Scene().write(path)
    return path
