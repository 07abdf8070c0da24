"""Work on several threads: as many as this process may use, in order, linear algebra of each on one."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from stochdeconv.threads import n_processors, side_by_side


def test_only_the_processors_of_this_process_count(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 7, 9}, raising=False)
    assert n_processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert n_processors() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert n_processors() == 1


def test_things_come_in_order_made_at_the_same_time(monkeypatch):
    monkeypatch.setattr("stochdeconv.threads.n_processors", lambda: 3)
    together = threading.Barrier(3, timeout=20)  # nobody goes on alone

    def make(number):
        together.wait()
        threads = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
        return number, threads

    np.zeros((2, 2)) @ np.zeros((2, 2))
    made = side_by_side(make, 3)
    assert [number for number, _ in made] == [0, 1, 2]
    assert all(threads <= {1} for _, threads in made)
    assert side_by_side(make, 0) == []


def test_what_a_thread_raises_is_raised_and_no_more_is_made():
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda number: 1 // number, 2)
    begun = []

    def make(number):
        begun.append(number)
        time.sleep(0.01)
        return 1 // (number - 5)

    with pytest.raises(ZeroDivisionError):
        side_by_side(make, 10_000)
    assert max(begun) < 100


def test_ctrl_c_ends_it_after_what_is_being_made(monkeypatch):
    monkeypatch.setattr("stochdeconv.threads.n_processors", lambda: 2)
    begun = []

    def make(number):
        begun.append(number)
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        side_by_side(make, 10_000)
    assert max(begun) < 1_000
