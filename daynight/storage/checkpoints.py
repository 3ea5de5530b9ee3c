"""`Checkpoint`: the file from which a clock resumes, and when it is due to be written again."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from daynight.data.tasks import Task, glimpse
from daynight.errors import DamagedFileError, DataError, SettingError
from daynight.networks.masked import MaskedNetwork
from daynight.nights.budgets import Budget
from daynight.storage import agents
from daynight.storage.identity import describe, digest
from daynight.storage.parts import Parts, merged
from daynight.support import archive, atomic, checks, expected, seeding
from daynight.support.archive import pack, unpack
from daynight.training.preflight import Tried
from daynight.training.settings import Training
from daynight.training.together import load

#: Time between two checkpoints, in units of the time that writing one takes, so that it stays below 2 % of the time.
APART = 100
#: In a phase with a deadline, a checkpoint is written only if the time left is this many times that of the last write.
MARGIN = 10
#: An address in the memory of a process, as text.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")


#: The form of the values for JSON. Those of the agent, the records and the state are checked by what reads them.
_CONTENT = expected.fields({
    "agent": expected.mapping(expected.anything), "settings": expected.mapping(expected.listed(expected.text(), 2)),
    "marks": expected.listed(expected.text()), "records": expected.listed(expected.anything),
    "n_noted": expected.whole(), "state": expected.anything,
}, {"doubtful": expected.listed(expected.whole()), "parts": expected.listed(expected.listed(expected.text(), 2)),
    "living": expected.listed(expected.whole())})  # fmt: skip
#: Attributes of optimizers that are stored in another way, or are PyTorch's notes for its warnings and checks.
_NOT_STATE = {
    "state", "param_groups", "_opt_called", "_warned_capturable_if_run_uncaptured",
    "_need_device_dtype_check_for_fused",
}  # fmt: skip
_ADVICE = (
    "Let state_dict() and load_state_dict() have all that its steps depend on; and if it is made of several "
    "optimizers, return a list of them instead."
)
_NO_CHECKPOINT = "Training: with this optimizer no checkpoint can be made"
#: Number of steps after which an optimizer is stored to try it, since some state matters only after a few. With more
#: numbers than the second, it is one step, which may take long.
_N_STEPS, _MOST_OF_MANY_STEPS = 10, 10**7
State = tuple[dict[str, Any], dict[str, Tensor], Any]


class Checkpoint:
    """The file that holds a clock's state, and when it is due to be written again.

    Args:
        folder: Folder of the file; it is made if it does not exist.
        every: Seconds from one checkpoint to the next, 0 or more.

    Attributes:
        path: The file.
        parts: What it names: files beside it, which hold what it does not hold of finished days.

    Raises:
        OutputError: If the folder cannot be made or written to.
        SettingError: If `folder` is not valid, or another process uses it.
    """

    def __init__(self, folder: str | os.PathLike[str], every: float) -> None:
        self._every = every
        self.path = atomic.check_folder(folder).absolute() / "clock.dn"  # the program may change its folder
        self.parts = Parts(self.path)
        self._lock = atomic.of_folder(self.path.parent)
        for left in self.path.parent.glob(f".{self.path.stem}*.*{self.path.suffix}"):
            left.unlink(missing_ok=True)  # of a process that was killed while it wrote
        self._written, self._took = time.monotonic(), 0.0

    def is_due(self, seconds_left: float) -> bool:
        """Return whether it is time to write the file.

        Args:
            seconds_left: Seconds that the current phase still has; infinite if it has no deadline.
        """
        passed = time.monotonic() - self._written
        return seconds_left > MARGIN * self._took and passed >= max(self._every, APART * self._took)

    def write(self, state_of: Callable[[], State]) -> None:
        """Write the file; the last one stays until the new one is complete.

        Args:
            state_of: Returns values for JSON, tensors by name, and nested values (see `daynight.support.archive`).

        Raises:
            OutputError: If the file cannot be written.
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
        """Return what `write` wrote; None if nothing has been written.

        Raises:
            DamagedFileError: If the file is damaged, of another kind, or was written by a newer version.
        """
        if not self.path.exists():
            return None
        try:
            about, tensors = archive.read(self.path, "clock")
        except DamagedFileError as error:
            raise DamagedFileError(f"{error} To begin anew, delete it or name another folder.") from error
        with agents.fitting(self.path, "state of a run"):
            _CONTENT("", about)
            if "parts" in about:
                merged(about, tensors, self.parts.read(about["parts"]))
            network = {name: tensor for name, tensor in tensors.items() if not name.startswith("state.")}
            return about, network, unpack(about["state"], tensors)

    def check_settings(self, said: Mapping[str, Any], now: Mapping[str, Sequence[str]]) -> None:
        """Raise SettingError unless a run has the settings that it was begun with.

        Args:
            said: The values in the checkpoint.
            now: What `described` returns for this run.
        """
        others = []
        usual = ("", "the default")  # a setting that files leave out while it has its default
        for name in {**now, **said["settings"]}:
            (digested, text), (was, shown) = now.get(name, usual), said["settings"].get(name, usual)
            if was != digested:
                others.append(f"another {name}" + (f" ({shown} then, {text} now)" if shown != text else ""))
        if others:
            n_living, n_begun = len(said["agent"]["days"]), len(said["agent"]["tasks"])
            n_days, where = said["agent"].get("n_days", n_living), "in" if n_begun > n_living else "before"
            raise SettingError(
                f"{self.path} is of a run with {', '.join(others)}. Give what it was begun with, to resume it; or "
                f"another folder, to begin anew. It is {where} day {n_days}.", page="files",
            )  # fmt: skip

    def check_tasks(self, found: Sequence[str], stream: Sequence[Task], first_day: int) -> None:
        """Raise DataError unless a stream begins with the tasks that a run has had so far.

        Args:
            found: Digests of the run's tasks, from the checkpoint.
            stream: The tasks of the stream.
            first_day: The day of the stream's first task.
        """
        advice = "Give the tasks that it was begun with, to resume it; or another folder, to begin anew."
        if len(found) > len(stream):
            raise DataError(f"{self.path} is of a run that has had {len(found)} tasks; the stream has fewer. {advice}")
        for index, known in enumerate(found):
            if glimpse(stream[index]) != known:
                raise DataError(
                    f"{self.path} is of a run whose task of day {first_day + index} was not the one that the stream "
                    f"has. {advice}"
                )


def check_packs(training: Training, network: MaskedNetwork) -> None:
    """Raise SettingError unless optimizer and scheduler can be stored, and resumed; new ones are made to try this.

    The ``state_dict`` of each must contain its whole state.
    """
    named = {name: parameter for name, parameter in network.module.named_parameters() if parameter.requires_grad}
    try:
        with seeding.forked(0, "store"):
            _try_packs(training, named)
    except SettingError as error:
        if training.scheduler is None or _NO_CHECKPOINT not in str(error):
            raise
        check_packs(attrs.evolve(training, scheduler=None), network)
        raise SettingError(
            "Training: with this scheduler no checkpoint can be made: a new one that has taken over its state_dict() "
            "sets other rates, or cannot take it over. Keep what changes in attributes of the scheduler that "
            "state_dict() returns and load_state_dict() takes, and not in variables of a function.", page="optimizers",
        ) from error  # fmt: skip


def _try_packs(training: Training, named: Mapping[str, Tensor]) -> None:
    """Raise SettingError unless optimizer and scheduler go on as they were, after some steps, from their stored states.

    Args:
        training: The settings.
        named: The parameters by name.
    """
    first = Tried.of(training, named)
    before = _attributes(first.optimizer)
    is_large = sum(parameter.numel() for parameter in named.values()) > _MOST_OF_MANY_STEPS
    for _ in range(1 if is_large else _N_STEPS):
        first.step()
    changed = {name: text for name, text in _attributes(first.optimizer).items() if text != before.get(name)}
    states = []
    for name, part in (("optimizer", first.optimizer), ("scheduler", first.scheduler)):
        try:
            packed, tensors = pack(None if part is None else part.state_dict())
            states.append(unpack(packed, {key: tensor.clone() for key, tensor in tensors.items()}))
        except (SettingError, ValueError) as error:
            raise SettingError(
                f"Training: with this {name} no checkpoint can be made: {error}", page="files"
            ) from error
    second = Tried.of(training, dict(zip(named, first.parameters, strict=True)))
    try:
        load(second.optimizer, states[0])
        if second.scheduler is not None:
            second.scheduler.load_state_dict(states[1])
        is_same = _step_alike(first, second)
    except Exception as error:
        raise SettingError(
            f"{_NO_CHECKPOINT}: a new one does not take over its state_dict(): {error!r}. {_ADVICE}",
            page="optimizers",
        ) from error
    last, after = _attributes(first.optimizer), _attributes(second.optimizer)
    if lost := [name for name in changed if last.get(name) != after.get(name)]:
        raise SettingError(
            f"{_NO_CHECKPOINT}: a step changes its {', '.join(lost)}, which state_dict() does not contain. Keep what "
            "changes in its state or its parameter groups.", page="files",
        )  # fmt: skip
    if not is_same:
        raise SettingError(
            f"{_NO_CHECKPOINT}: a new one that has taken over its state_dict() takes other steps. {_ADVICE}",
            page="optimizers",
        )


def _step_alike(first: Tried, second: Tried) -> bool:
    """Return whether two optimizers take equal steps, and other equal steps when their rates are halved."""
    for factor in (1.0, 0.5):
        for one in (first, second):
            for group in one.optimizer.param_groups:
                if factor != 1.0 and group.get("lr") is not None:
                    group["lr"] = group["lr"] * factor
            with seeding.forked(0, "step", str(factor)):
                one.step()
        # Many steps along the same gradients may overflow.
        if not all(
            torch.equal(one.nan_to_num(), other.nan_to_num())
            for one, other in zip(first.parameters, second.parameters, strict=True)
        ):
            return False
    return True


def _attributes(optimizer: torch.optim.Optimizer) -> dict[str, str]:
    """Return an optimizer's attributes as text, without its state, its groups, and the attributes that PyTorch adds."""
    return {name: _ADDRESS.sub("", repr(value)) for name, value in vars(optimizer).items() if name not in _NOT_STATE}


def check_ledgers(**budgets: Budget) -> None:
    """Raise SettingError unless the ledgers that these budgets open can be stored."""
    for name, budget in budgets.items():
        ledger = budget.open(1)
        try:
            pack(ledger.state())
        except (SettingError, AttributeError) as error:
            raise SettingError(
                f"{name}: no checkpoint can be made with {budget!r}: {error} The ledger's fields must name "
                "attributes that are numbers, texts, None, or dicts and lists of them.", page="files",
            )  from error  # fmt: skip


def described(**settings: Any) -> dict[str, Sequence[str]]:
    """Return a digest of each setting: of its values and, if its code is the user's, of that code.

    Returns:
        By name, the digest and the text that stands for the setting in an error.

    Raises:
        SettingError: If the value of a setting cannot be described.
    """
    found = dict[str, Sequence[str]]()
    for name, value in settings.items():
        try:
            about = describe(_compared(value) if isinstance(value, Budget) else value)
        except SettingError as error:
            raise SettingError(f"no checkpoint can be made with this {name}: {error}", page="files") from error
        if _ADDRESS.search(repr(about)):
            raise SettingError(
                f"no checkpoint can be made with this {name}: it is or holds {value!r}, which another process could "
                "not recognise. Give functions and objects that can be described by code and values.",
                page="files",
            )
        found[name] = digest(about), _ADDRESS.sub("", checks.shown(value))
    return found


def _compared(budget: Budget) -> Any:
    """Return the class and the compared fields of a budget; the budget itself if its class has no fields."""
    if not attrs.has(type(budget)):
        return budget
    kind: Any = type(budget)
    return kind, {field.name: getattr(budget, field.name) for field in attrs.fields(kind) if field.eq}
