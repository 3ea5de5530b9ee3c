"""States that runs of a study share and resume from."""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daynight._version import __version__
from daynight.agent import Agent
from daynight.clock import Clock
from daynight.data.tasks import TaskStream
from daynight.errors import MissingPackageError, SettingError
from daynight.storage.identity import describe, digest
from daynight.support import atomic

#: The stream, and the clock at its first dusk, of the run that was done last, by what they depend on: runs that
#: differ after it share it.
_dusk: dict[tuple[int, str], tuple[TaskStream, Clock]] = {}


def _at_dusk(
    new_agent: Callable[[], Agent],
    new_clock: Callable[[Agent], Clock],
    stream: TaskStream,
    about: list[Any],
    state: Path | None,
) -> Clock:
    """Give a clock at its first dusk: the one that was asked for last, one put by, or one that begins now.

    Args:
        new_agent: Makes the agent.
        new_clock: Makes the clock of an agent.
        stream: The tasks.
        about: All else that the first wake depends on.
        state: A file in whose folder dusks are put by.
    """
    clock = new_clock(new_agent())
    name = _named([about, clock.remembered()])
    if name is None:  # nobody can tell which other runs could share it
        clock.check()
        clock.to_dusk()
        return clock
    if (id(stream), name) not in _dusk:
        path = None if state is None else state.with_name(f"dusk-{digest([name, describe(stream)])}.pkl")
        found = None if path is None else _restored(new_clock, path)
        if found is None:
            clock.check()
            clock.to_dusk()
            if path is not None:
                _put_by(clock, path)
        _dusk.clear()
        _dusk[id(stream), name] = stream, found or clock  # with the stream, so that no other comes by its id
    return _dusk[id(stream), name][1]


def _put_by(clock: Clock, path: Path) -> None:
    try:
        import cloudpickle  # for functions that no module has
    except ImportError as error:
        raise MissingPackageError(
            "a study needs cloudpickle. Install it with: pip install 'daynight[study]'"
        ) from error
    with atomic.whole(path) as temporary:
        temporary.write_bytes(cloudpickle.dumps((_library(), clock.agent, clock.history)))


def _restored(new_clock: Callable[[Agent], Clock], path: Path) -> Clock | None:
    """Take up what was put by; None if there is nothing of use, and all begins anew: it may be damaged, or outdated."""
    try:
        library, *parts = pickle.loads(path.read_bytes())
        if library != _library():
            return None
        agent, history = parts
    except Exception:
        return None
    clock = new_clock(agent)
    clock.history = history
    return clock


@functools.cache
def _library() -> str:
    """Give a digest of daynight's own source, for a state is of use to that very code alone."""
    found = hashlib.sha256(__version__.encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _named(about: list[Any]) -> str | None:
    """Give a name to what a wake depends on; None if it cannot be told."""
    try:
        return digest([describe(about), _library()])
    except SettingError:
        return None
