"""A data loader whose finished batches are waiting in the main process when training asks for them."""

from typing import Any

from torch.utils.data import DataLoader

from dkp.workers import read_ahead

AHEAD = 2
"""Batches that wait for training."""


class ReadAheadLoader(DataLoader):
    """A `DataLoader` that takes its workers' batches out of their queue in a thread.

    Taking a batch over from another process costs milliseconds, which a training step would otherwise wait for. torch
    has such a thread for pinned memory only; where that is asked for, or there is no worker, nothing is added.
    """

    def __iter__(self) -> Any:
        batches = super().__iter__()
        return batches if self.pin_memory or self.num_workers == 0 else read_ahead(batches, AHEAD)
