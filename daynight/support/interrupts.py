"""Ctrl-C and SIGTERM: deferred during blocks that must not be left half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: Signals that ask a program to stop.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Defer an interrupt (SIGINT, SIGTERM) that comes during a block: handle it at the end of the block.

    Use this for short blocks that write several files or values that belong together. Python handles signals in the
    main thread only, so in other threads nothing is deferred. Handlers that are not Python's are left alone.
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
    """Raise `Terminated` at a SIGTERM that comes during a block, unless the program has its own handler.

    By default, Python ends at once at a SIGTERM, without any clean-up.
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
    """Whether the program was asked to stop (SIGINT, SIGTERM) during a block of `patient`.

    Attributes:
        is_heard: Whether `give_way` is handling the request. The program ends unless the handler returns.
    """

    def __init__(self) -> None:
        self.is_heard = False
        self._came: tuple[int, FrameType | None] | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __bool__(self) -> bool:
        return self._came is not None

    def give_way(self) -> None:
        """Handle the request now, if there was a request."""
        if self._came is not None:
            (number, frame), self._came = self._came, None
            self.is_heard = True
            self._handlers[number](number, frame)
            self.is_heard = False  # the handler lets the program continue

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:  # the second request
            self._came = None
            self._handlers[number](number, frame)
        else:
            self._came = number, frame


@contextlib.contextmanager
def patient(is_wanted: bool = True) -> Iterator[Asked]:
    """Let a block choose when it handles an interrupt (SIGINT, SIGTERM). A second interrupt is handled at once.

    An interrupt that the block has not handled is handled at the end of the block. For threads and other handlers see
    `deferred`.

    Args:
        is_wanted: If False, interrupts are handled as usual.
    """
    asked = Asked()
    if is_wanted and threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in SIGNALS}
        asked._handlers = {number: handler for number, handler in found.items() if callable(handler)}
    for number in asked._handlers:
        signal.signal(number, asked._handle)
    try:
        yield asked
    finally:
        for number, handler in asked._handlers.items():
            signal.signal(number, handler)
    asked.give_way()
