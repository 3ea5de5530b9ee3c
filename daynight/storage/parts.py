"""`Parts`: what checkpoints hold of finished days, in files beside the checkpoint that are written once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from daynight.errors import DamagedFileError, DataNotFoundError
from daynight.history import History
from daynight.history.records import short_row_of
from daynight.networks.views import stamp_of
from daynight.storage import agents
from daynight.storage.contents import About
from daynight.support import archive, atomic, expected
from daynight.support.digests import digest

#: A part is written when so many finished days are in none.
N_DAYS = 10
Json = Any
Read = tuple[Json, dict[str, Tensor]]
#: What the names of tensors that belong to a finished task begin with; the index of the task follows.
_OF_TASKS = ("heads", "private", "keepsakes", "gate")
#: The form of what a part holds: by day, its values.
_CONTENT = expected.fields({"days": expected.mapping(expected.mapping(expected.anything))})


@attrs.frozen(eq=False)
class Finished:
    """What checkpoints hold of a finished day. Most days stay as they are for the rest of a life.

    Attributes:
        values: Values by name, which are compared by ``==``.
        tensors: Tensors by name.
        stamps: A stamp for each tensor (see `daynight.networks.views.stamp_of`); None if it has none.
    """

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    stamps: Mapping[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Finished:
        """Make it of values and tensors as they are now."""
        return cls(values, tensors, {name: _stamp(tensor) for name, tensor in tensors.items()})

    def to_json(self) -> Json:
        """Return the values for a file."""
        found = dict(self.values)
        found["records"] = list(map(short_row_of, found["records"]))
        return found | {name: agents.to_json(found[name]) for name in ("day", "form") if name in found}

    def has(self, other: Finished) -> bool:
        """Return whether all that `other` holds is here, too. A task that has retired since leaves less."""
        is_here = all(name in self.values and self.values[name] == value for name, value in other.values.items())
        return is_here and all(self._has(name, tensor, other.stamps[name]) for name, tensor in other.tensors.items())

    def _has(self, name: str, tensor: Tensor, stamp: Any) -> bool:
        mine = self.tensors.get(name)
        if mine is None or self.stamps[name] is None:
            return False
        # Some tensors are made anew at each call.
        return self.stamps[name] == stamp or (_stamp(mine) == self.stamps[name] and digest(mine) == digest(tensor))


class Parts:
    """The files with the finished days of a life, each of which names some days and is never written again.

    The checkpoint names the parts with their digests, with which their names end, too. So a run replaces no part of
    another one. A part that no checkpoint names, which a killed process has left, is in nobody's way.

    Args:
        path: The file of the checkpoint. Parts lie beside it: of ``clock.dn``, they are ``clock-0-1f3a5c7e.dn`` and so
            on.

    Attributes:
        named: Name and digest of each part.
        days: The days that are in them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.named: list[list[str]] = []
        self.days = set[int]()
        self._held: dict[int, Finished] = {}  # by day, what the parts hold
        self._read: dict[int, Read] = {}  # the same, of parts that were read

    def forget(self) -> None:
        """Begin without any part."""
        self.named, self.days, self._held, self._read = [], set(), {}, {}

    def _name(self, index: int, written: str) -> str:
        return f"{self._path.stem}-{index}-{written[:8]}{self._path.suffix}"

    def keep(self, days: Mapping[int, Finished]) -> set[int]:
        """Write a new part if enough days are in none.

        Args:
            days: The finished days, by index.

        Returns:
            The days of which the parts hold all.

        Raises:
            OutputError: If a part cannot be written.
        """
        for day in self._read.keys() & days.keys():
            if _is_as_read(days[day], *self._read[day]):
                self._held[day] = days[day]
        self._read = {}
        new = {day: now for day, now in days.items() if day not in self._held or not self._held[day].has(now)}
        if len(new) >= N_DAYS:
            about = {"days": {str(day): now.to_json() for day, now in new.items()}}
            tensors = {name: tensor for now in new.values() for name, tensor in now.tensors.items()}
            content, written = archive.encoded("days", about, tensors)
            name = self._name(len(self.named), written)
            with atomic.replacing(self._path.with_name(name)) as temporary:
                temporary.write_bytes(content)
            self.named.append([name, written])
            self.days |= new.keys()
            new = {}
        # Without what tasks that have retired had.
        self._held = {day: now for day, now in days.items() if day not in new}
        return set(self._held)

    def read(self, named: Sequence[Sequence[str]]) -> dict[int, Read]:
        """Read the parts that a checkpoint names.

        Args:
            named: Name and digest of each part.

        Returns:
            By day, its values and tensors.

        Raises:
            DamagedFileError: If a part is missing or damaged, or is that of another checkpoint.
            ValueError: If what it holds has another form.
        """
        found = dict[int, Read]()
        for index, (name, wanted) in enumerate(named):
            if name != self._name(index, wanted):
                raise ValueError(f"it names a part {name}")
            path = self._path.with_name(name)
            try:
                about, tensors = archive.read(path, "days", wanted)
            except DataNotFoundError as error:
                raise DamagedFileError(f"{self._path} cannot be read without {path}, which is missing.") from error
            _CONTENT("", about)
            of_day = dict[int | None, dict[str, Tensor]]()
            for key, tensor in tensors.items():
                of_day.setdefault(day_of(key), {})[key] = tensor
            for key, values in about["days"].items():
                found[int(key)] = values, of_day.get(int(key), {})
        self.named, self.days, self._held, self._read = [list(each) for each in named], set(found), {}, found
        return found


def day_of(name: str) -> int | None:
    """Return the index of the finished task that a tensor of this name in a checkpoint belongs to; None if to none."""
    kind, _, rest = name.partition(".")
    index = rest.partition(".")[0]
    return int(index) if kind in _OF_TASKS and index.isdecimal() else None


def finished(
    about: About, tensors: Mapping[str, Tensor], n_noted: int, history: History, marks: Mapping[int, str]
) -> dict[int, Finished]:  # fmt: skip
    """Return what checkpoints hold of each finished day, by index.

    Args:
        about: The description of the agent.
        tensors: Its tensors, by name.
        n_noted: Number of days whose records are whole.
        history: The records.
        marks: By day, the digest of its task.
    """
    of_day: dict[int | None, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        of_day.setdefault(day_of(name), {})[name] = tensor
    values: dict[int, dict[str, Any]] = {day: {"records": history.items(day)} for day in range(n_noted)}
    for day in values.keys() & marks.keys():
        values[day]["mark"] = marks[day]
    for record, form in zip(about.days, about.tasks, strict=False):
        values.get(record.day, {}).update(day=record, form=form)
    for record, sealed in zip(about.days, about.seals, strict=False):
        values.get(record.day, {}).update(seal=sealed)
    return {day: Finished.of(found, of_day.get(day, {})) for day, found in values.items()}


def merged(about: dict[str, Any], tensors: dict[str, Tensor], days: Mapping[int, Read]) -> None:
    """Put what parts hold into what the file of a checkpoint holds, which counts if both have something of a day.

    Args:
        about: The values of the checkpoint.
        tensors: Its tensors.
        days: What `Parts.read` returned.

    Raises:
        ValueError, LookupError, TypeError: If values do not have the form that a clock gives them.
    """
    agent, n_own = about["agent"], len(about["agent"]["days"])
    rows = zip(agent["days"], agent["tasks"], agent["seals"] or [None] * n_own, strict=False)
    own = {row["day"]: (row, form, seal) for row, form, seal in rows}
    living = [day for day in about["living"] if day not in own]
    own |= {day: tuple(days[day][0].get(name) for name in ("day", "form", "seal")) for day in living}
    found = [own[day] for day in about["living"]]
    agent["days"] = [row for row, _, _ in found]
    agent["tasks"] = [form for _, form, _ in found] + agent["tasks"][n_own:]
    agent["seals"] = [seal for _, _, seal in found if seal is not None]
    noted, past = {row["day"] for row in about["records"]}, [days[day][0] for day in sorted(days)]
    about["marks"] = [values["mark"] for values in past if "mark" in values] + about["marks"]
    earlier = [row for day in sorted(days) if day not in noted for row in days[day][0]["records"]]
    about["records"] = earlier + about["records"]
    tensors.update({name: tensor for day in living for name, tensor in days[day][1].items()})


def _is_as_read(now: Finished, values: Json, tensors: Mapping[str, Tensor]) -> bool:
    """Return whether all of a finished day is in what was read from a part."""
    told = now.to_json()
    held = {name: value for name, value in values.items() if name in told}
    return json.dumps(told, sort_keys=True) == json.dumps(held, sort_keys=True) and all(
        name in tensors and digest(tensors[name]) == digest(tensor) for name, tensor in now.tensors.items()
    )


def _stamp(tensor: Tensor) -> Any:
    found = stamp_of([tensor])
    # A detached tensor is another object with the same memory and the same count of writes.
    return None if found is None else (*found[0][1:], tensor.shape, tensor.dtype, tensor.stride())
