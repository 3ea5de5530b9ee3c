"""`Checkpoint`: a folder where a clock writes down, every so often, all that it needs to go on."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from torch import Tensor

from daynight.data.tasks import Task, glimpse
from daynight.errors import DamagedFileError, DataError, SettingError
from daynight.networks.masked import MaskedNetwork
from daynight.nights.budgets import Budget
from daynight.storage.identity import describe, digest
from daynight.support import archive, atomic, checks
from daynight.support.archive import pack, unpack
from daynight.training.preflight import tried
from daynight.training.settings import Training

#: Two checkpoints are so many times as long apart as it took to write the first, to stay below 2 % of the time.
_APART = 100
#: In a phase with a deadline one is written if there is so many times as long left as the last one took.
_MARGIN = 10
#: Where something is in the memory of a process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")


State = tuple[dict[str, Any], dict[str, Tensor], Any]


class Checkpoint:
    """The file that holds a clock's state, and when it is due to be written again.

    Args:
        folder: Where it is; made if need be.
        every: Seconds from one time to the next, 0 or more.

    Raises:
        OutputError: If the folder cannot be made or written to.
        SettingError: If `folder` names none, or another process works in it.
    """

    def __init__(self, folder: str | os.PathLike[str], every: float) -> None:
        self._every = every
        self.path = atomic.check_folder(folder) / "clock.dn"
        self._lock = atomic.of_folder(self.path.parent)
        for left in self.path.parent.glob(f".{self.path.stem}.*{self.path.suffix}"):
            left.unlink(missing_ok=True)  # of a process that was killed as it wrote
        self._written, self._took = time.monotonic(), 0.0

    def is_due(self, seconds_left: float) -> bool:
        """Tell whether it is time to write.

        Args:
            seconds_left: Seconds that the phase under way still has; infinite if it has no deadline.
        """
        passed = time.monotonic() - self._written
        return seconds_left > _MARGIN * self._took and passed >= max(self._every, _APART * self._took)

    def write(self, state_of: Callable[[], State]) -> None:
        """Write; what was written before stays until the new file is whole.

        Args:
            state_of: Gives what JSON can say, tensors by name, and nested values (see `daynight.support.archive`).

        Raises:
            OutputError: If it cannot be written.
        """
        began = time.monotonic()
        about, tensors, state = state_of()
        packed, more = pack(state)
        try:
            archive.write(self.path, "clock", {**about, "state": packed}, {**tensors, **more})
        finally:
            self._written = time.monotonic()
            self._took = self._written - began

    def read(self) -> State | None:
        """Read what `write` wrote; None if nothing has been written.

        Raises:
            DamagedFileError: If it is damaged, of another kind, or by a newer version.
        """
        if not self.path.exists():
            return None
        try:
            about, tensors = archive.read(self.path, "clock")
        except DamagedFileError as error:
            raise DamagedFileError(f"{error} To begin anew, delete it or name another folder.") from error
        network = {name: tensor for name, tensor in tensors.items() if not name.startswith("state.")}
        return about, network, unpack(about["state"], tensors)

    def check_settings(self, said: Mapping[str, Any], now: Mapping[str, Sequence[str]]) -> None:
        """Refuse a run with other settings than those that it was begun with.

        Args:
            said: What was written of it.
            now: What `described` returns for this one.

        Raises:
            SettingError: If something is another.
        """
        others = []
        for name, (digested, text) in now.items():
            was, shown = said["settings"].get(name, ("", ""))
            if was != digested:
                others.append(f"another {name}" + (f" ({shown} then, {text} now)" if shown != text else ""))
        if others:
            n_days, n_begun = len(said["agent"]["days"]), len(said["agent"]["tasks"])
            where = "in the midst of" if n_begun > n_days else "before"
            raise SettingError(
                f"{self.path} is of a run with {', '.join(others)}. Give what it was begun with, to go "
                f"on; or another folder, to begin anew. It is {where} day {n_days}.", page="files",
            )  # fmt: skip

    def check_tasks(self, found: Sequence[str], stream: Sequence[Task], first_day: int) -> None:
        """Refuse a stream whose tasks are not those that a run has had so far.

        Args:
            found: Their marks.
            stream: The tasks.
            first_day: The day of the first of them.

        Raises:
            DataError: If there are fewer, or one is another.
        """
        way_on = "Give the tasks that it was begun with, to go on; or another folder, to begin anew."
        if len(found) > len(stream):
            raise DataError(f"{self.path} is of a run that has had {len(found)} tasks; the stream has fewer. {way_on}")
        for index, known in enumerate(found):
            if glimpse(stream[index]) != known:
                raise DataError(
                    f"{self.path} is of a run whose task of day {first_day + index} was not the one that the stream "
                    f"has. {way_on}"
                )


def check_packs(training: Training, network: MaskedNetwork) -> None:
    """Make sure that optimizer and scheduler can be kept in a file, on a trial of them.

    Raises:
        SettingError: If they cannot, or have a state beside that which they tell.
    """
    parameters = [parameter for parameter in network.module.parameters() if parameter.requires_grad]
    optimizer, scheduler, changed = tried(training, parameters)
    if changed:
        raise SettingError(
            f"Training: with this optimizer no checkpoint can be made: a step changes its {', '.join(changed)}, which "
            "state_dict() does not tell. Keep what changes in its state or its parameter groups.", page="files",
        )  # fmt: skip
    for name, part in (("optimizer", optimizer), ("scheduler", scheduler)):
        try:
            pack(None if part is None else part.state_dict())
        except SettingError as error:
            raise SettingError(
                f"Training: with this {name} no checkpoint can be made: {error}", page="files"
            ) from error


def described(**settings: Any) -> dict[str, Sequence[str]]:
    """Give a digest of each setting, by which it is known again: by its values, and its code if it is a user's.

    Returns:
        By name the digest, and what stands for the setting in an error.

    Raises:
        SettingError: If there is something whose value cannot be told.
    """
    found = dict[str, Sequence[str]]()
    for name, value in settings.items():
        try:
            about = describe(_compared(value) if isinstance(value, Budget) else value)
        except SettingError as error:
            raise SettingError(f"no checkpoint can be made with this {name}: {error}", page="files") from error
        if _ADDRESS.search(repr(about)):
            raise SettingError(
                f"no checkpoint can be made with this {name}: it is or holds {value!r}, of which another process could "
                "not tell whether it has the same. Give functions and objects that are told by code and values.",
                page="files",
            )
        found[name] = digest(about), _ADDRESS.sub("", checks.shown(value))
    return found


def _compared(budget: Budget) -> Any:
    """Give what makes a budget equal to another one, if it says so."""
    if not attrs.has(type(budget)):
        return budget
    kind: Any = type(budget)
    return kind, {field.name: getattr(budget, field.name) for field in attrs.fields(kind) if field.eq}
