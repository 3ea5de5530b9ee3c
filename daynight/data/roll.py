"""`Roll`: the tasks that an agent knows, and how they are asked for by index or name."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import attrs

from daynight.data.signatures import Form
from daynight.data.tasks import Task, seen_of, titled, warn_of_new_classes
from daynight.errors import DataError, SettingError, StateError
from daynight.support import checks


@attrs.frozen
class Views:
    """What a user asks for: which tasks a task sees, and which one it succeeds, by their names or indices.

    Attributes:
        succeeds: The task that it succeeds; None if there is none.
        sees: The tasks that it sees; None is all earlier tasks or, for a successor, those that its predecessor sees.
        is_tried: Whether trials choose what it sees; `sees` is then None.
    """

    succeeds: int | str | None = None
    sees: tuple[int | str, ...] | None = None
    is_tried: bool = False

    @classmethod
    def of_task(cls, task: Task) -> Views:
        """Return the views that a task asks for."""
        return cls.of(task.succeeds, "all" if task.sees is None else task.sees)

    @classmethod
    def of(cls, succeeds: Any, sees: Any = "all") -> Views:
        """Return the views that a user asks for.

        Raises:
            SettingError: If a value is not valid, or both are given.
        """
        if succeeds is not None and not isinstance(succeeds, str):
            succeeds = checks.integer("succeeds, the name or index of a task", succeeds, least=0)
        sees = seen_of(sees)
        if succeeds is not None and sees != "all":
            raise SettingError("a task that succeeds another sees what that task sees: leave sees= out.")
        return cls(succeeds, () if sees == "none" else None if isinstance(sees, str) else sees, sees == "best")

    @property
    def are_usual(self) -> bool:
        """Whether the task sees all earlier tasks and succeeds none."""
        return self.succeeds is None and self.sees is None and not self.is_tried


class Roll:
    """The forms of the tasks that an agent knows: the finished ones that have not retired, and that of the day.

    Attributes:
        forms: The forms, by index of the task.
        day: Number of finished days.
    """

    def __init__(self) -> None:
        self.forms: dict[int, Form] = {}
        self.day = 0

    def named(self, name: str) -> list[int]:
        """Return the indices of the tasks that can be asked for by a name."""
        return [task for task, form in self.forms.items() if name and name in form.names]

    def index_of(self, task: Any, call: str = "") -> int:
        """Return the index of a task. A name stands for the latest finished version of the task with that name.

        Args:
            task: Index or name.
            call: What asks, for the error.

        Raises:
            StateError: If there is no such task, or several tasks have the name.
        """
        where, last = f"{call}: " if call else "", max(self.forms, default=-1)
        if isinstance(task, str):
            known = self.named(task)
            finished = [index for index in known if index < self.day] or known
            if len(finished) > 1:
                raise StateError(f"{where}tasks {', '.join(map(str, finished))} are named {task!r}. Give the index.")
            if finished:
                return finished[0]
        elif not isinstance(task, bool) and isinstance(task, numbers.Integral):
            if int(task) in self.forms:
                return int(task)
            if 0 <= int(task) < self.day:
                living = [index for index in self.forms if index < self.day]
                raise StateError(f"{where}task {task} has retired. The living tasks are {living}.")
        names = sorted({name for form in self.forms.values() for name in form.names})
        more = f" The names are {', '.join(map(repr, names))}." if isinstance(task, str) and names else ""
        those = f"tasks 0 to {last} have" if last > 0 else "task 0 has" if last == 0 else "none has"
        raise StateError(f"{where}task {task!r} has not been learnt: {those} so far.{more}")

    def predecessor(self, task: Task, views: Views) -> int | None:
        """Return the index of the living task that a task of the next day succeeds; None if there is none.

        Raises:
            StateError: If there is no such task.
            DataError: If the task has fewer outputs.
        """
        if views.succeeds is None or (views.succeeds == task.name and not self.named(task.name)):
            return None  # the first of its name
        index = self.index_of(views.succeeds, "succeeds")
        _check_outputs(task, f"task {index}", self.forms[index])
        return index

    def check_seen(self, task: Task, before: Sequence[Task]) -> None:
        """Raise StateError if a task of a later day names a task to see that there will not be.

        Args:
            task: The task.
            before: The tasks of the days from the current or next one to the day before the task's day.
        """
        coming = {name for each in before for name in (each.name, each.succeeds)}
        for other in task.sees if isinstance(task.sees, tuple) else ():
            is_coming = other in coming if isinstance(other, str) else self.day <= other < self.day + len(before)
            if not is_coming:
                self.index_of(other, "sees")

    def is_successor(self, task: Task, before: Sequence[Task]) -> bool:
        """Return whether a task of a later day will succeed another.

        Args:
            task: The task.
            before: The tasks of the days from the current or next one to the day before the task's day.

        Raises:
            StateError: If there will be no such task.
            DataError: If the task has fewer outputs than the one that it succeeds.
        """
        if task.succeeds is None:
            return False
        other = self._coming(task.succeeds, before)
        if other is not None:
            _check_outputs(task, _named(task.succeeds), other)
        elif task.succeeds != task.name:
            raise StateError(
                f"{titled(task.name)} is to succeed {task.succeeds!r}, and there will be no such living task. Give the "
                "name or index of a task that is learnt before; or its own name, for the first day of a job."
            )
        return other is not None

    def warn_of_new_classes(self, task: Task, views: Views, before: Sequence[Task] = ()) -> None:
        """Warn if a task of the next day or a later one has more outputs than the one that it succeeds (see `Task`).

        Args:
            task: The task.
            views: Which task it succeeds.
            before: The tasks of the days from the next one to the day before the task's day.
        """
        if views.succeeds is not None and (other := self._coming(views.succeeds, before)) is not None:
            warn_of_new_classes(task, _named(views.succeeds), other.n_outputs)

    def _coming(self, succeeds: int | str, before: Sequence[Task]) -> Form | Task | None:
        """Return what a task of a later day succeeds, as far as it is known; see `is_successor`."""
        if isinstance(succeeds, str):
            found = next((each for each in reversed(before) if succeeds in (each.name, each.succeeds)), None)
            known = self.named(succeeds)
            return self.forms[known[-1]] if found is None and known else found
        place = succeeds - self.day
        return before[place] if 0 <= place < len(before) else self.forms.get(succeeds)


def _named(task: int | str) -> str:
    return f"task {task!r}" if isinstance(task, str) else f"task {task}"


def _check_outputs(task: Task, name: str, other: Form | Task) -> None:
    begin = f"{titled(task.name)} has {_outputs(task.n_outputs)}, and {name}, which it succeeds, has {other.n_outputs}."
    if not task.classifies and (task.n_outputs < other.n_outputs or (isinstance(other, Task) and other.classifies)):
        raise DataError(
            f"{begin} Its targets are floating point, which means regression. If earlier versions have class labels, "
            "give whole numbers from 0 (in pandas, a column of labels becomes floating point as soon as one is missing "
            "or a fraction); if not, give as many targets as before, or leave succeeds= out for a new task.",
            page="nightly",
        )
    if task.n_outputs < other.n_outputs:
        raise DataError(
            f"{begin} A successor keeps all outputs. If these are right, give n_outputs={other.n_outputs}, also on a "
            "day without examples of some class. If the earlier task has too many because of wrong labels, take the "
            "agent's file from before its day, correct the labels, and learn from that day on again.", page="nightly",
        )  # fmt: skip
    if task.n_outputs > other.n_outputs and not task.classifies:
        raise DataError(
            f"{titled(task.name)} has {task.n_outputs} targets an example, and {name}, which it succeeds, has "
            f"{other.n_outputs}. Only classes can be added: give as many, or leave succeeds= out for a new task. If "
            "earlier versions have class labels, give whole numbers from 0.", page="nightly",
        )  # fmt: skip


def _outputs(n: int) -> str:
    return f"{n} output{'' if n == 1 else 's'}"
