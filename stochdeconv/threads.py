"""Work on several threads whose bytes do not depend on how many there are."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

T = TypeVar("T")

# The limit is the whole process's: two threads that set it and take it back at the same time would leave it in place.
_LIMITING = threading.RLock()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let linear algebra run on one thread, whose sums are the same on every number of processors; others wait meanwhile."""
    with _LIMITING, threadpool_limits(1, user_api="blas"):
        yield


def side_by_side(make: Callable[[int], T], n: int) -> list[T]:
    """Make things 0 to n - 1 on as many threads as there are processors for this process, linear algebra of each on one.

    Parameters
    ----------
    make : callable
        number -> thing
    n : int

    Returns
    -------
    list

    Raises
    ------
    Exception
        What the first that fails raises; and KeyboardInterrupt on Ctrl-C. Those that are being made are finished, no others begun.
    """
    made: dict[int, T] = {}
    numbers, stopped = iter(range(n)), threading.Event()

    def work() -> None:
        try:
            # Each takes the next number: all handed out beforehand, they would be made though somebody has pressed Ctrl-C.
            for number in numbers:
                if stopped.is_set():
                    return
                made[number] = make(number)
        except BaseException:
            stopped.set()
            raise

    n_threads = max(1, min(n_processors(), n))
    with one_blas_thread(), ThreadPoolExecutor(n_threads) as pool:
        try:
            for worker in [pool.submit(work) for _ in range(n_threads)]:
                worker.result()
        finally:
            stopped.set()
    return [made[number] for number in range(n)]


def n_processors() -> int:
    """Count the processors that this process may use: not all of the machine's where a scheduler gave it a part of them."""
    # Not known on every system.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
