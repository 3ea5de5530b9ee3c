"""Ctrl-C and the request to terminate: put off where half of something would be worse than none."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: What asks a program to stop, and lets it.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let a block end before an interrupt (SIGINT, SIGTERM) that comes in it is heard.

    For short blocks that write what belongs together. Signals are heard by the main thread alone, so in another
    there is nothing to put off; nor is there where somebody else hears them outside of Python.
    """
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in SIGNALS}
        handlers = {number: handler for number, handler in found.items() if callable(handler)}
    came: list[tuple[int, FrameType | None]] = []
    for number in handlers:
        signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            handlers[came[0][0]](*came[0])


class Terminated(SystemExit):
    """The program was asked to terminate (SIGTERM)."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn a request to terminate (SIGTERM) that comes in a block into `Terminated`, where nobody else hears it.

    By default Python ends at once, without a chance to leave things in order.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Asked:
    """Whether the program was asked to stop (SIGINT, SIGTERM) meanwhile.

    Attributes:
        is_heard: Whether it has given way, so that all that happens from then on is its end.
    """

    def __init__(self) -> None:
        self.is_heard = False
        self._came: tuple[int, FrameType | None] | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __bool__(self) -> bool:
        return self._came is not None

    def give_way(self) -> None:
        """Do what was asked for."""
        if self._came is not None:
            (number, frame), self._came = self._came, None
            self.is_heard = True
            self._handlers[number](number, frame)
            self.is_heard = False  # whoever hears it lets the program go on

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:  # for the second time
            self._came = None
            self._handlers[number](number, frame)
        else:
            self._came = number, frame


@contextlib.contextmanager
def patient(is_wanted: bool = True) -> Iterator[Asked]:
    """Let a block choose when it gives way to an interrupt (SIGINT, SIGTERM), once; the second one is heard at once.

    What it has not given way to is heard at its end. For the rest see `deferred`.

    Args:
        is_wanted: Whether it is so; else interrupts are heard as ever.
    """
    asked = Asked()
    if is_wanted and threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in SIGNALS}
        asked._handlers = {number: handler for number, handler in found.items() if callable(handler)}
    for number in asked._handlers:
        signal.signal(number, asked._hear)
    try:
        yield asked
    finally:
        for number, handler in asked._handlers.items():
            signal.signal(number, handler)
    asked.give_way()
