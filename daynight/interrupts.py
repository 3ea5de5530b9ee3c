"""Ctrl-C, put off where half of something would be worse than none."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let a block end before an interrupt (SIGINT) that comes in it is heard.

    For short blocks that write what belongs together. Signals are heard by the main thread alone, so in another
    there is nothing to put off; nor is there where somebody else hears them outside of Python.
    """
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])
