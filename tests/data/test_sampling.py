"""Tests of the order of training samples."""

import pytest

from dkp.data import KeyedSampler


def test_every_sample_once_per_turn():
    keys = list(KeyedSampler(7, 21))
    assert [serial for _, serial in keys] == list(range(21))
    for turn in range(3):
        assert sorted(index for index, _ in keys[7 * turn : 7 * turn + 7]) == list(range(7))
    assert [i for i, _ in keys[:7]] != [i for i, _ in keys[7:14]]


def test_epochs_continue_and_repeat():
    sampler = KeyedSampler(5, 8, seed=3)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert second[0][1] == 8
    assert list(KeyedSampler(5, 16, seed=3)) == first + second
    assert list(KeyedSampler(5, 8, seed=4)) != first


def test_processes_share_one_sequence():
    whole = list(KeyedSampler(6, 12, seed=1))
    parts = [list(KeyedSampler(6, 6, seed=1, rank=rank, world=2)) for rank in range(2)]
    assert sorted(parts[0] + parts[1], key=lambda key: key[1]) == whole
    assert not set(parts[0]) & set(parts[1])


def test_nothing_to_draw_from():
    with pytest.raises(ValueError, match="size and draws are 0 and 4"):
        KeyedSampler(0, 4)
