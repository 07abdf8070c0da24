import contextlib
import os
import signal
import threading

import pytest

from stochdeconv.interruption import interrupts_held


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_counts_after_what_would_have_swallowed_it():
    finished = []

    def imports():
        with interrupts_held(), contextlib.suppress(BaseException):
            press()
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        imports()
    assert finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_meanwhile_is_told_before_the_ctrl_c():
    def fails():
        with interrupts_held():
            press()
            raise ValueError("of the import")

    with pytest.raises(ValueError, match="of the import"):
        fails()


def test_nothing_is_held_where_no_handler_can_be_set():
    held = []

    def hold():
        with interrupts_held():
            held.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert held == [signal.default_int_handler]


def test_where_nobody_listens_to_ctrl_c_it_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_held():
            # Which processes that are started meanwhile inherit.
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            press()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
