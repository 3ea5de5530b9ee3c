"""`Checkpoint`: a folder where a clock writes down, every so often, all that it needs to go on."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from daynight import checks, containers, files, seals
from daynight.errors import DataError, OutputError, SettingError
from daynight.identity import describe, digest
from daynight.lazy import LazyInputs
from daynight.network import MaskedNetwork
from daynight.packing import pack, unpack
from daynight.rehearsal import tried
from daynight.tasks import Task
from daynight.training import Training

#: Two checkpoints are so many times as long apart as it took to write the first, to stay below 2 % of the time.
_APART = 100
#: In a phase with a deadline one is written if there is so many times as long left as the last one took.
_MARGIN = 4
#: A task is known again by its targets and so many of its inputs.
_N_GLIMPSED = 16


State = tuple[dict[str, Any], dict[str, Tensor], Any]


class Checkpoint:
    """The file that holds a clock's state, and when it is due to be written again.

    Args:
        folder: Where it is; made if need be.
        every: Seconds from one time to the next, 0 or more.

    Raises:
        OutputError: If the folder cannot be made or written to.
        SettingError: If `every` is no such number.
    """

    def __init__(self, folder: str | os.PathLike[str], every: float) -> None:
        self._every = checks.finite("every: seconds between checkpoints", every, least=0)
        self.path = files.check_folder(folder) / "clock.dn"
        for left in self.path.parent.glob(f".{self.path.stem}.*{self.path.suffix}"):
            left.unlink(missing_ok=True)  # of a process that was killed as it wrote
        self._written, self._took = time.monotonic(), 0.0

    def is_due(self, seconds_left: float) -> bool:
        """Tell whether it is time to write.

        Args:
            seconds_left: Seconds that the phase under way still has; infinite if it has no deadline.
        """
        passed = time.monotonic() - self._written
        # How long it takes is not known before the first time, which then is not within a phase with a deadline.
        has_time = seconds_left > (_MARGIN * self._took or torch.inf) or seconds_left == torch.inf
        return has_time and passed >= max(self._every, _APART * self._took)

    def write(self, state_of: Callable[[], State]) -> None:
        """Write; if that cannot be done, warn, and leave what was written before.

        Args:
            state_of: Gives what JSON can say, tensors by name, and nested values and tensors (see `daynight.packing`).
        """
        began = time.monotonic()
        about, tensors, state = state_of()
        packed, more = pack(state)
        try:
            containers.write(self.path, "clock", {**about, "state": packed}, {**tensors, **more})
        except OutputError as error:
            warnings.warn(f"no checkpoint: {error} What was written before stays, and the run goes on.", stacklevel=2)
        self._written = time.monotonic()
        self._took = self._written - began

    def read(self) -> State | None:
        """Read what `write` wrote; None if nothing has been written.

        Raises:
            DamagedFileError: If it is damaged, of another kind, or by a newer version.
        """
        if not self.path.exists():
            return None
        about, tensors = containers.read(self.path, "clock")
        network = {name: tensor for name, tensor in tensors.items() if not name.startswith("state.")}
        return about, network, unpack(about["state"], tensors)

    def check_settings(self, found: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Refuse a run with other settings than those that it was begun with.

        Args:
            found: What `named` gave then.
            now: What it gives now.

        Raises:
            SettingError: If something is another.
        """
        others = [name for name in now if found.get(name) != now[name]]
        if others:
            raise SettingError(
                f"{self.path} is of a run with another {', another '.join(others)}. Give what it was begun with, to go "
                "on; or another folder, to begin anew."
            )

    def check_tasks(self, found: Sequence[str], stream: Sequence[Task]) -> None:
        """Refuse a stream whose tasks are not those that a run has had so far.

        Args:
            found: Their marks.
            stream: The tasks.

        Raises:
            DataError: If there are fewer, or one is another.
        """
        for day, known in enumerate(found):
            if day >= len(stream) or mark(stream[day]) != known:
                raise DataError(
                    f"{self.path} is of a run whose task of day {day} was not the one that the stream has there. Give "
                    "the tasks that it was begun with, to go on; or another folder, to begin anew."
                )


def check_packs(training: Training, network: MaskedNetwork) -> None:
    """Make sure that optimizer and scheduler can be kept in a file, on a trial of them.

    Raises:
        SettingError: If they cannot.
    """
    made = tried(training, [parameter for parameter in network.module.parameters() if parameter.requires_grad])
    for name, part in zip(("optimizer", "scheduler"), made, strict=True):
        try:
            pack(None if part is None else part.state_dict())
        except SettingError as error:
            raise SettingError(f"Training: with this {name} no checkpoint can be made: {error}") from error


def named(**settings: Any) -> dict[str, str]:
    """Give a digest of each setting, by which it is known again: by its values, and its code if it is a user's.

    Raises:
        SettingError: If there is something whose value cannot be told.
    """
    return {name: digest(describe(value)) for name, value in settings.items()}


def mark(task: Task) -> str:
    """Give a digest of a task's targets, and of a few of its inputs if they are in memory."""
    parts = [task.train.targets, torch.tensor([len(task.train), task.n_outputs])]
    if not isinstance(task.train.inputs, LazyInputs):
        index = torch.linspace(0, len(task.train) - 1, min(_N_GLIMPSED, len(task.train))).round().long()
        parts.append(task.train.subset(index).load()[0])
    return "".join(seals.digest(part)[:16] for part in parts)
