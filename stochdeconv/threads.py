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
    """
    with one_blas_thread(), ThreadPoolExecutor(max(1, min(n_processors(), n))) as pool:
        return list(pool.map(make, range(n)))


def n_processors() -> int:
    """Count the processors that this process may use: not all of the machine's where a scheduler gave it a part of them."""
    # Not known on every system.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
