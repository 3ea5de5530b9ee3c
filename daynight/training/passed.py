"""`Passed`: which tasks have passed the checks before a day, so that none is tried or warned of twice."""

from __future__ import annotations

import weakref
from collections.abc import Hashable

from daynight.data.tasks import Task
from daynight.training.settings import Training


class Passed:
    """Which tasks have passed `preflight`. A copy, as in another process, knows none."""

    def __init__(self) -> None:
        self._tasks = weakref.WeakValueDictionary[int, Task]()
        self._seen = weakref.WeakSet[Task]()
        self._training: Training | None = None  # with which the forms have passed
        self._forms = set[Hashable]()

    def __reduce__(self) -> tuple[type[Passed], tuple[()]]:
        return Passed, ()

    def is_new(self, task: Task) -> bool:
        """Return whether this is the first call with a task."""
        is_new = task not in self._seen
        self._seen.add(task)
        return is_new

    def note(self, task: Task, day: int) -> None:
        """Note that a task has passed for a day that has not begun."""
        self._tasks[day] = task

    def knows_form(self, training: Training, form: Hashable) -> bool:
        """Return whether a task of a form has passed with these settings."""
        return training is self._training and form in self._forms

    def note_form(self, training: Training, form: Hashable) -> None:
        """Note that a task of a form has passed with these settings."""
        if training is not self._training:
            self._training, self._forms = training, set()
        self._forms.add(form)

    def begins(self, task: Task, day: int) -> bool:
        """Return whether a task has passed for a day, and forget it."""
        return self._tasks.pop(day, None) is task
