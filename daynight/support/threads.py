"""Threads: which one may use what belongs to the whole process, and which one may use an object."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator

from daynight.errors import StateError


class Turns:
    """A lock that threads get in the order in which they ask for it. The thread that has it may take it again."""

    def __init__(self) -> None:
        self.depth = 0  # how often the thread that has the lock has taken it
        self._thread: int | None = None
        self._changed, self._waiting = threading.Condition(), deque[object]()

    @property
    def n_waiting(self) -> int:
        """Number of threads that wait for the lock."""
        return len(self._waiting)

    @property
    def is_mine(self) -> bool:
        """Whether this thread has the lock."""
        return self._thread == threading.get_ident()

    def take(self, depth: int = 1, check: Callable[[], None] | None = None) -> None:
        """Wait for the lock, unless this thread has it, and take it `depth` times.

        Args:
            depth: How often to take it.
            check: Called while this thread waits, at each change; what it raises ends the waiting.
        """
        me, ticket = threading.get_ident(), object()

        def is_next() -> bool:
            if self._thread is None:
                return self._waiting[0] is ticket
            if check is not None:
                check()
            return False

        with self._changed:
            if self._thread != me:
                self._waiting.append(ticket)
                try:
                    self._changed.wait_for(is_next)
                    self._thread = me
                finally:
                    self._waiting.remove(ticket)
                    self._changed.notify_all()
            self.depth += depth

    def look(self) -> None:
        """Let the threads that wait call their `check` now."""
        with self._changed:
            self._changed.notify_all()

    def give(self, depth: int = 1) -> None:
        """Give the lock back `depth` times."""
        with self._changed:
            self.depth -= depth
            if not self.depth:
                self._thread = None
                self._changed.notify_all()

    def pass_on(self) -> None:
        """Let all threads that wait now have the lock, and take it again as often as before."""
        depth = self.depth
        self.give(depth)
        self.take(depth)

    def after_fork(self) -> None:
        """Forget, in a new process, the threads that it does not have."""
        self._changed, self._waiting = threading.Condition(), deque()
        if self._thread != threading.get_ident():
            self._thread, self.depth = None, 0


class Keeper:
    """Keeps an object to one thread at a time. Copies of a keeper are new.

    A call waits until another thread's short call is over. While another thread is in a long one, it is refused.

    Args:
        within: Returns a context in which each call runs; it is told whether the call may take long.
    """

    def __init__(self, within: Callable[[bool], contextlib.AbstractContextManager[None]] | None = None) -> None:
        self._turns, self._long = Turns(), ""
        self._within = within or (lambda is_long: contextlib.nullcontext())

    def check(self, call: str) -> None:
        """Raise StateError if another thread is in a long call. The error names `call`."""
        if self._long and not self._turns.is_mine:
            raise StateError(
                f"{call}: another thread is training this agent, in its {self._long}. Wait until that is over. To "
                "predict meanwhile, use a second agent: a fork, or one loaded from a file, made before."
            )

    def __reduce__(self) -> tuple[type[Keeper], tuple[()]]:
        return Keeper, ()

    @contextlib.contextmanager
    def short(self, call: str) -> Iterator[None]:
        """Use the object in a block that ends soon.

        Raises:
            StateError: If another thread is in a long call.
        """
        with self._taken(call), self._within(False):
            yield

    @contextlib.contextmanager
    def _taken(self, call: str) -> Iterator[None]:
        self._turns.take(check=lambda: self.check(call))
        try:
            yield
        finally:
            self._turns.give()

    @contextlib.contextmanager
    def long(self, call: str) -> Iterator[None]:
        """Use the object in a block that may take long, such as training.

        Raises:
            StateError: If another thread is in a long call, or this one is, as in a hook.
        """
        with self._taken(call):
            if self._long:
                raise StateError(
                    f"{call}: the agent is in its {self._long}, which has called this function, for example as a hook. "
                    f"Call {call} when {self._long} has returned."
                )
            self._long = call
            self._turns.look()
            try:
                with self._within(True):
                    yield
            finally:
                self._long = ""


_filters = threading.RLock()


@contextlib.contextmanager
def quiet(message: str = "", category: type[Warning] = Warning, *, is_error: bool = False) -> Iterator[None]:
    """Ignore warnings during a short block, or raise them as errors.

    Filters of warnings belong to the whole process. So one thread at a time changes them and puts them back.

    Args:
        message: A regular expression with which the texts of these warnings begin.
        category: Their category.
        is_error: Whether they are raised.
    """
    with _filters, warnings.catch_warnings():
        warnings.filterwarnings("error" if is_error else "ignore", message, category)
        yield
