"""The same work on many things, each for itself: by processes of this machine or of a cluster.

What comes out depends on the work alone: each thing is worked on by one thread, and results come in the order of the
things, however many processes there are and wherever they run.
"""

from __future__ import annotations

import os
import pickle
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

from rich.console import Console

from dkp.errors import InputError
from dkp.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What keeps a process that is started with it to one thread."""

AHEAD = 4
"""So many things wait for each process: it is never idle, and little waits in memory."""

BEAT = 2.0
"""How often it is shown that work goes on, where a thing takes long [s]."""

GRACE = 10.0
"""Longest wait for a thread at the end [s]: an interpreter that is shutting down has stopped it for good."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkersLost(RuntimeError):
    """Processes that worked have ended; the message is one sentence."""


class Workers(Generic[Item, Result]):
    """Does the same work on many things, inside its ``with`` block.

    Args:
        make: called once in every process that works; returns what is called with each thing. Both, things and results
            are sent between processes, unless this process works alone.
        count: processes of this machine; None = one for each core that this process may use, 1 = this one alone.
        executor: "local" for processes of this machine, or "dask:ADDRESS" for those of the dask.distributed cluster
            whose scheduler has this address; `count` then does not count.

    Attributes:
        ahead: how many things may wait to be worked on, beside each other.
        alone: whether this process works alone.

    Raises:
        InputError: an argument is out of range, or the cluster cannot be reached.
    """

    def __init__(
        self, make: Callable[[], Callable[[Item], Result]], count: int | None, executor: str = "local"
    ) -> None:
        if count is not None and count < 1:
            raise InputError(f"workers is {count}, expected at least 1")
        kind, _, self._address = executor.partition(":")
        if executor != "local" and (kind != "dask" or not self._address):
            raise InputError(f"executor is {executor!r}, expected local or dask:ADDRESS")
        self._make = make
        self._count = count or cores()
        self._executor: Executor | None = None
        self._client: Any = None
        self._work: Callable[[Item], Result] | None = None
        self.alone = self._count == 1 and not self._address
        self.ahead = 0 if self.alone else AHEAD * self._count

    def __enter__(self) -> Workers[Item, Result]:
        if self._address:
            self._client = connected(self._address)
            self.ahead = AHEAD * max(1, sum(self._client.nthreads().values()))
            self._executor = self._client.get_executor(pure=False)
        elif not self.alone:
            self._executor = ProcessPoolExecutor(self._count, get_context("spawn"))
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._executor, ProcessPoolExecutor):
            self._executor.shutdown(cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def submit(self, item: Item) -> Future[Result]:
        """Have a thing worked on; where this process works alone, it is done at the return."""
        if self._executor is not None:
            with single_threaded_children():
                return self._executor.submit(work_on, pickle.dumps(self._make), pickle.dumps(item))
        done: Future[Result] = Future()
        try:
            with one_thread():
                self._work = self._work or self._make()
                done.set_result(self._work(item))
        except Exception as error:
            done.set_exception(error)
        return done

    def result(self, future: Future[Result]) -> Result:
        """Wait for what `submit` returned.

        Raises:
            WorkersLost: the process that worked on it has ended.
            Exception: what the work raised.
        """
        try:
            return future.result()
        except BrokenExecutor as error:
            raise WorkersLost("a process that worked has ended, was killed or ran out of memory") from error
        except Exception as error:
            if type(error).__name__ != "KilledWorker":
                raise
            raise WorkersLost(f"the workers of the cluster that tried it have ended ({error})") from error

    def map(self, items: Sequence[Item], title: str, unit: str) -> Iterator[Result]:
        """Work on things and show how far it is.

        Args:
            items: the things; a single one is worked on by this process.
            title: of the work, for people.
            unit: what a thing is called.

        Yields:
            The results in the order of the things.
        """
        if len(items) < 2 and not self._address:
            self._executor = None
        waiting: deque[Future[Result]] = deque()
        left = deque(items)
        with Progress(Console()) as progress, progress.shown(title, unit) as show:
            for number in range(len(items)):
                show(number, len(items))
                while left and len(waiting) <= self.ahead:
                    waiting.append(self.submit(left.popleft()))
                while wait([waiting[0]], BEAT).not_done:
                    show(number, len(items))
                yield self.result(waiting.popleft())


def call(task: Callable[[], Any]) -> Any:
    """Return what a call without arguments does."""
    return task()


def calls() -> Callable[[Callable[[], Any]], Any]:
    """For `Workers`: things are calls without arguments, such as `functools.partial` makes them."""
    return call


def connected(address: str) -> Any:
    """Connect to a cluster.

    Raises:
        InputError: dask is not installed, or there is no scheduler.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("executor dask needs the package distributed, expected dkp[dask] to be installed") from error
    try:
        return Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"executor dask:{address}: no scheduler answers there ({error})") from error


_made = threading.local()
"""What this thread of a worker works with."""


def work_on(make: bytes, item: bytes) -> Any:
    """Work on a thing, in a worker.

    Args:
        make: pickled; see `Workers`.
        item: the thing, pickled here: torch would send its tensors as files in shared memory.
    """
    if getattr(_made, "make", None) != make:
        import cv2
        import torch

        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        _made.work, _made.make = pickle.loads(make)(), make
    return _made.work(pickle.loads(item))


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, this process works with one thread, as a worker does."""
    import cv2
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


@contextmanager
def single_threaded_children() -> Iterator[None]:
    """Give the processes started inside one thread each for their matrix products."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def read_ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
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
