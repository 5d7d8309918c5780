"""Reading ahead: the same batches in the same order, errors in their place, and no thread left behind."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dkp.data.loader import ReadAheadLoader
from dkp.workers import read_ahead


class Squares(Dataset):
    def __init__(self, bad: int | None = None) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == self.bad:
            raise ValueError(f"sample {index} is bad")
        return torch.tensor(float(index**2))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def loader(kind: type[DataLoader], workers: int, bad: int | None = None) -> DataLoader:
    return kind(
        Squares(bad), batch_size=4, num_workers=workers, persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_a_plain_loader_epoch_after_epoch(workers: int) -> None:
    ahead, plain = loader(ReadAheadLoader, workers), loader(DataLoader, 0)
    for _ in range(3):
        assert torch.equal(torch.stack(list(ahead)), torch.stack(list(plain)))
    assert not threads()


def test_an_epoch_left_in_the_middle_does_not_disturb_the_next() -> None:
    ahead = loader(ReadAheadLoader, 1)
    first = iter(ahead)
    next(first)
    assert len(threads()) == 1
    first.close()
    assert not threads()
    assert torch.equal(torch.cat(list(ahead)), torch.arange(24).square().float())


def test_an_error_of_a_worker_is_raised_at_its_place() -> None:
    batches = iter(loader(ReadAheadLoader, 1, bad=9))
    next(batches)
    next(batches)
    with pytest.raises(ValueError, match="sample 9 is bad"):
        next(batches)
    assert not threads()


def test_items_are_drawn_before_they_are_asked_for_but_not_without_end() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    ahead = read_ahead(items(), 2)
    assert drawn == []
    assert next(ahead) == 0
    deadline = time.monotonic() + 20
    while len(drawn) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert drawn == [0, 1, 2, 3]  # one given, two waiting, one in the thread's hand
    ahead.close()
    assert not threads()


def test_waiting_for_a_slow_reader_is_hidden() -> None:
    def items() -> Iterator[int]:
        for number in range(6):
            time.sleep(0.05)
            yield number

    waited = 0.0
    ahead = read_ahead(items(), 2)
    next(ahead)
    for _ in range(4):
        time.sleep(0.15)
        start = time.monotonic()
        next(ahead)
        waited += time.monotonic() - start
    ahead.close()
    assert waited < 0.15  # 0.2 s without reading ahead
