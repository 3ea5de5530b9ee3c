"""The states from which runs of a study resume, and the first dusks that they share: checkpoints in folders.

A run's state is a folder with one folder per version of daynight's code. This has the run's own checkpoint (``run``)
and, up to its first dusk, the checkpoint of a clock whose settings all runs share that can share the dusk (``dusk``).
At the dusk, that folder is moved next to the runs' states (``dusk-NAME``). It is not written to any more; other runs
start from a copy.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from daynight._version import __version__
from daynight.agent import Agent
from daynight.clock import Clock
from daynight.data.tasks import Task, TaskStream
from daynight.errors import DaynightError, SettingError
from daynight.history import History
from daynight.nights.budgets import Budget, Epochs
from daynight.nights.cycle import Cycle, Night
from daynight.nights.policy import SleepPolicy
from daynight.nights.schedules import OneShot
from daynight.nights.wrappers import Wrapper
from daynight.pruning.capacity import Capacity
from daynight.storage.identity import describe, digest
from daynight.support import atomic

#: A checkpoint compares these settings, and a first wake does not depend on them: every shared dusk has the same ones.
_CAPACITY, _NIGHT = Capacity(keep_per_night=1.0), Epochs(0)

#: Makes a clock with its checkpoints in a folder, or without them.
_NewClock = Callable[[Path | None], Clock]

#: The stream, and the clock at its first dusk, of the run that was done last, by what they depend on: the runs of a
#: process that differ only after it share it.
_dusks: dict[tuple[int, str], tuple[TaskStream, Clock]] = {}


class Remembering(Wrapper):
    """Another policy, whose wakes keep weights for other nights than its own.

    Args:
        inner: The other policy.
        shares: Shares of each wake, 0 to 1, whose weights are kept.
    """

    def __init__(self, inner: SleepPolicy, shares: tuple[float, ...]) -> None:
        super().__init__(inner)
        self.shares = shares

    @property
    def rewinds(self) -> tuple[float, ...]:
        """The shares that the other policy rewinds to, and the further ones."""
        return (*self.inner.rewinds, *self.shares)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the other policy's cycles."""
        yield from self.inner.cycles(night)


def begin(
    new_agent: Callable[[], Agent],
    days: TaskStream | list[Task],
    *,
    policy: SleepPolicy,
    wake: Budget,
    night: Budget,
    stream: TaskStream,
    about: list[Any],
    state: Path | None = None,
) -> Clock:
    """Return the clock of a run: resumed from its state, at a first dusk that runs share, or at its first wake.

    The clock writes checkpoints into the state, if there is one, unless no checkpoint can be made or another process
    uses the state. A state is ignored if it is damaged, or of other code or settings. In all cases the run ends, to the
    bit, as it would without a state and alone.

    Args:
        new_agent: Makes the run's agent.
        days: The tasks of the agent's days.
        policy: Lays out the nights.
        wake: Budget of each wake.
        night: Budget of each night.
        stream: The tasks that `days` were made of, which name a shared dusk.
        about: All else that the first wake depends on.
        state: The folder of the run's state; shared dusks are next to it.
    """

    def new_clock(agent: Agent, checkpoint: Path | None = None) -> Clock:
        return Clock(agent, days, policy=policy, wake=wake, night=night, checkpoint=checkpoint)

    home = None if state is None else state / library()
    run = None if home is None else home / "run"
    resumed = _resumed(lambda folder: new_clock(new_agent(), folder), run)
    if resumed is not None:
        return resumed
    clock = new_clock(new_agent())
    shares, capacity = clock.remembered(), clock.agent.capacity
    try:
        name = digest([describe([about, shares, stream]), library()])
    except SettingError:  # unknown which other runs could share the dusk
        return _begun(lambda folder: new_clock(clock.agent, folder), run)
    if (id(stream), name) not in _dusks:
        clock.check()
        dusk = _first_dusk(
            lambda folder: Clock(
                clock.agent.fork(_CAPACITY), days, policy=Remembering(OneShot(), shares), wake=wake, night=_NIGHT,
                checkpoint=folder,
            ),
            None if home is None else home / "dusk", None if state is None else state.with_name(f"dusk-{name}"),
        )  # fmt: skip
        _dusks.clear()
        _dusks[id(stream), name] = stream, dusk  # with the stream, so that no other one gets its id
    dusk = _dusks[id(stream), name][1]

    def new_fork(checkpoint: Path | None) -> Clock:
        fork = new_clock(dusk.agent.fork(capacity), checkpoint)
        fork.history = History(dusk.history)
        return fork

    return _begun(new_fork, run)


def forget() -> None:
    """Forget the dusk that the runs of this process share, as another process would begin."""
    _dusks.clear()


@functools.cache
def library() -> str:
    """Return a digest of daynight's own source: a state is of use to this very code alone."""
    found = hashlib.sha256(__version__.encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _first_dusk(new_clock: _NewClock, own: Path | None, shared: Path | None) -> Clock:
    """Return a clock at its first dusk, without checkpoints.

    Args:
        new_clock: Makes the clock, with its checkpoints in a folder.
        own: The folder for its checkpoints on the way to the dusk.
        shared: The folder of the dusk. If there is none yet, `own` becomes it. If two processes run the same wake at
            the same time, the first to finish stores the dusk; the other's is the same.
    """
    lock, is_copy = _lock(own), False
    if lock is not None and own is not None and shared is not None:
        with contextlib.suppress(OSError):
            shutil.copytree(shared, own, dirs_exist_ok=True)
            is_copy = True
    clock = _resumed(new_clock, own)
    if clock is None:
        if is_copy and shared is not None:  # damaged
            shutil.rmtree(shared, ignore_errors=True)
        clock = _begun(new_clock, own)
    clock.to_dusk()
    if lock is not None and own is not None and shared is not None:
        with contextlib.suppress(OSError):  # it is there
            own.rename(shared)
        shutil.rmtree(own, ignore_errors=True)
    return clock.fork()


def _resumed(new_clock: _NewClock, folder: Path | None) -> Clock | None:
    """Return the clock that resumes from the checkpoint in a folder; None, and an empty folder, if none is of use."""
    lock = _lock(folder)
    if folder is None or lock is None:
        return None
    if any(folder.iterdir()):
        with contextlib.suppress(DaynightError):  # damaged, or of other settings
            clock = new_clock(folder)
            if clock.resume():
                return clock
        for path in folder.iterdir():
            path.unlink()
    return None


def _begun(new_clock: _NewClock, folder: Path | None) -> Clock:
    """Return a clock with its checkpoints in an empty folder, or without them where none can be made."""
    lock = _lock(folder)
    if lock is not None:
        with contextlib.suppress(SettingError):
            clock = new_clock(folder)
            clock.resume()  # which writes the first checkpoint
            return clock
    return new_clock(None)


def _lock(folder: Path | None) -> atomic.Lock | None:
    """Return the lock of a folder, which is made if need be; None if another process is at work there.

    Raises:
        OutputError: If the folder cannot be made or written to.
    """
    if folder is None:
        return None
    try:
        return atomic.of_folder(atomic.check_folder(folder))
    except SettingError:
        return None
