"""The detectors that dkp ships: sound, small, quick to load, and found by name on the command line."""

import hashlib
import time

import pytest
import torch

from dkp.cli import main
from dkp.surface import Surface
from dkp.weights import card, load, names, shipped_for, weights_file

LARGEST = 8_000_000


@pytest.mark.parametrize("name", names())
def test_sound_small_and_quick(name):
    found = card(name)
    assert hashlib.sha256(found.file.read_bytes()).hexdigest() == found.sha256
    assert found.file.stat().st_size <= LARGEST
    load(name)  # imports
    start = time.perf_counter()
    detector = load(name)
    assert time.perf_counter() - start < 1.0
    assert not detector.training
    field = detector(torch.rand(1, 3, found.size, found.size))
    assert field.size == (found.size // found.options["stride"],) * 2
    assert bool(field.coordinate.isfinite().all())
    centre, half_extent = Surface.load(found.surface).bounds
    torch.testing.assert_close(detector.surface_centre.double(), torch.as_tensor(centre).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        detector.surface_half_extent.double(), torch.as_tensor(half_extent).double(), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("name", names())
def test_card_is_complete(name):
    found = card(name)
    assert found.summary
    assert found.licence
    assert found.recipe
    assert found.data
    assert found.limits
    assert found.metrics
    assert weights_file(name) == found.file


def test_there_is_one_for_people_and_one_for_dogs(capsys):
    assert [shipped_for(surface) for surface in ("human", "dog", "board")] == ["human-small", "dog-small", None]
    main(["weights"])
    assert {"human-small", "dog-small"} <= set(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["weights", "human-smal"])
    assert "no weights 'human-smal' (did you mean human-small?)" in capsys.readouterr().err
    main(["weights", "human-small"])
    assert card("human-small").sha256 in capsys.readouterr().out
