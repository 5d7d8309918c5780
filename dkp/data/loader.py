"""A data loader whose finished batches are waiting in the main process when training asks for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

Batch = TypeVar("Batch")

AHEAD = 2
"""Batches that wait for training."""

GRACE = 10.0
"""Longest wait for the thread at the end [s]: an interpreter that is shutting down has stopped it for good."""


class ReadAheadLoader(DataLoader):
    """A `DataLoader` that takes its workers' batches out of their queue in a thread.

    Taking a batch over from another process costs milliseconds, which a training step would otherwise wait for. torch
    has such a thread for pinned memory only; where that is asked for, or there is no worker, nothing is added.
    """

    def __iter__(self) -> Any:
        batches = super().__iter__()
        return batches if self.pin_memory or self.num_workers == 0 else read_ahead(batches, AHEAD)


def read_ahead(items: Iterator[Batch], depth: int) -> Iterator[Batch]:
    """Yield the same items in the same order, drawn by a thread up to `depth` before they are asked for.

    The thread starts with the first item that is asked for and ends when the items do, when drawing one fails (the
    exception is raised here, in its turn), or when this iterator is closed or forgotten.

    Args:
        items: are drawn by that thread alone.
        depth: 1 or more.
    """
    drawn: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    closed = threading.Event()

    def hand_over(entry: tuple[str, Any]) -> None:
        while not closed.is_set():
            try:
                return drawn.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def draw() -> None:
        try:
            for item in items:
                hand_over(("item", item))
                if closed.is_set():
                    return
            hand_over(("end", None))
        except BaseException as error:  # whatever it is, it belongs to the one who asks
            hand_over(("error", error))

    thread = threading.Thread(target=draw, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = drawn.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        closed.set()
        thread.join(GRACE)
