"""Ctrl-C where a library would swallow it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let a Ctrl-C of meanwhile count at the end: imports, and whatever catches all that is raised, would lose it."""
    before = signal.getsignal(signal.SIGINT)
    # None: of code that is not Python's. Elsewhere than in the main thread no handler can be set, and none is called. Where nobody
    # listens it stays so, for processes that are started meanwhile too.
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield
        return
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)
