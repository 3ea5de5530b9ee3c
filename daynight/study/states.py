"""The states from which runs of a study resume, and the first dusks that they share: checkpoints in folders.

A run's state is a folder, with one inner folder per version of daynight's code. The inner folder has the run's own
checkpoint (``run``). Until the run's first dusk, it also has the checkpoint of a second clock (``dusk``), whose
settings are the same for all runs that can share this dusk. At the dusk, ``dusk`` is moved next to the runs' states, as
``dusk-NAME``. Nothing is written to it afterwards; other runs start from a copy.
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

#: Settings that a checkpoint compares, but on which a first wake does not depend: all shared dusks have these.
_CAPACITY, _NIGHT = Capacity(keep_per_night=1.0), Epochs(0)

#: Makes a clock with its checkpoints in a folder; None is a clock without checkpoints.
_NewClock = Callable[[Path | None], Clock]

#: The stream, and the clock at its first dusk, of the run that was done last, by all that these depend on. The runs of
#: a process that differ only after their first dusk share it.
_dusks: dict[tuple[int, str], tuple[TaskStream, Clock]] = {}


class Remembering(Wrapper):
    """The policy `inner`, with wakes that also keep weights for nights of other policies.

    Args:
        inner: The policy that chooses the cycles.
        shares: Shares of each wake, 0 to 1. The weights at each of these points are kept.
    """

    def __init__(self, inner: SleepPolicy, shares: tuple[float, ...]) -> None:
        super().__init__(inner)
        self.shares = shares

    @property
    def rewinds(self) -> tuple[float, ...]:
        """The shares to which `inner` rewinds, and `shares`."""
        return (*self.inner.rewinds, *self.shares)

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the cycles of `inner`."""
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

    If there is a state, the clock writes checkpoints into it, unless this is not possible or another process uses the
    state. A state is ignored if it is damaged, or of other code or settings. In all cases the results are, bit for bit,
    those of a run alone and without a state.

    Args:
        new_agent: Makes the run's agent.
        days: The tasks of the agent's days.
        policy: Chooses the cycles of each night.
        wake: Budget of each wake.
        night: Budget of each night.
        stream: The tasks from which `days` were made; a shared dusk's name depends on them.
        about: All other values on which the first wake depends.
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
    except SettingError:  # without a name, no other run can share the dusk
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
        _dusks[id(stream), name] = stream, dusk  # with the stream, so that no other stream gets its id
    dusk = _dusks[id(stream), name][1]

    def new_fork(checkpoint: Path | None) -> Clock:
        fork = new_clock(dusk.agent.fork(capacity), checkpoint)
        fork.history = History(dusk.history)
        return fork

    return _begun(new_fork, run)


def forget() -> None:
    """Forget the dusk that the runs of this process share, as if the process were new."""
    _dusks.clear()


@functools.cache
def library() -> str:
    """Return a digest of daynight's own source: a state is usable only with the code that wrote it."""
    found = hashlib.sha256(__version__.encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _first_dusk(new_clock: _NewClock, own: Path | None, shared: Path | None) -> Clock:
    """Return a clock at its first dusk, without checkpoints.

    Args:
        new_clock: Makes the clock, with its checkpoints in a folder.
        own: The folder for the clock's checkpoints until the dusk.
        shared: The folder of the dusk. If it does not exist yet, `own` is moved there. If two processes run the same
            wake at the same time, the first one to finish stores the dusk; the other process has an equal dusk.
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
        with contextlib.suppress(OSError):  # another process has stored the dusk
            own.rename(shared)
        shutil.rmtree(own, ignore_errors=True)
    return clock.fork()


def _resumed(new_clock: _NewClock, folder: Path | None) -> Clock | None:
    """Return the clock that resumes from a folder's checkpoint. If none is usable, empty the folder; return None."""
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
    """Return a clock that writes checkpoints into a folder, emptied before; or none, if no checkpoint can be made."""
    lock = _lock(folder)
    if lock is not None:
        with contextlib.suppress(SettingError):
            clock = new_clock(folder)
            clock.resume()  # writes the first checkpoint
            return clock
    return new_clock(None)


def _lock(folder: Path | None) -> atomic.Lock | None:
    """Return the lock of a folder, which is made if it does not exist; None if another process uses the folder.

    Raises:
        OutputError: If the folder cannot be made or written to.
    """
    if folder is None:
        return None
    try:
        return atomic.of_folder(atomic.check_folder(folder))
    except SettingError:
        return None
