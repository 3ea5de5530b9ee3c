"""`Clock`: turns days. It steers agent, policy and history, and never touches a tensor."""

from __future__ import annotations

from collections.abc import Iterable

from daynight.agent import Agent
from daynight.errors import SettingError
from daynight.history import Event, History, Hook, Record
from daynight.policies import SleepPolicy, planned_cycles
from daynight.progress import ProgressBar
from daynight.schedule import Budget, check_budget
from daynight.tasks import Pair, Task, TaskStream


class Clock:
    """Drives an agent through the days of a stream. `step` is one day, and `run` repeats it.

    Args:
        agent: The agent. It may have days behind it: the stream's first task is that of day 0 all the same.
        stream: The tasks of the days, in order: a `TaskStream`, or what makes one.
        policy: Lays out the nights.
        wake: Budget of each wake.
        night: Budget of each night.
        on_event: Called with each `Record` as it is made, and with `Progress` in between; one function
            or several.
        progress: Whether `run` shows a progress bar.

    Raises:
        SettingError: If a budget or the agent is of another kind.
        DataError: If a task breaks a rule.
    """

    def __init__(
        self,
        agent: Agent,
        stream: TaskStream | Iterable[Task | Pair],
        *,
        policy: SleepPolicy,
        wake: Budget,
        night: Budget,
        on_event: Hook | Iterable[Hook] = (),
        progress: bool = False,
    ) -> None:
        if not isinstance(agent, Agent):
            raise SettingError(f"the agent must be an Agent, not {agent!r}.")
        check_budget("wake", wake)
        check_budget("night", night)
        self.agent = agent
        self.stream = stream if isinstance(stream, TaskStream) else TaskStream(stream)
        self.policy, self.wake, self.night = policy, wake, night
        self.history = History()
        self._hooks: list[Hook] = (
            [on_event] if callable(on_event) or not isinstance(on_event, Iterable) else list(on_event)
        )
        if not all(callable(hook) for hook in self._hooks):
            raise SettingError(f"on_event must be a function or several, not {on_event!r}.")
        self._progress = progress

    @property
    def is_over(self) -> bool:
        """Whether all days of the stream are over."""
        return self.agent.day >= len(self.stream)

    def check(self) -> None:
        """Make sure that every day to come can be: tasks, capacity, and the policy's plans.

        Raises:
            DataError, NetworkError, CapacityError, PolicyError, SettingError: For the first rule broken.
        """
        for day in range(self.agent.day, len(self.stream)):
            self._check_day(day)

    def step(self) -> None:
        """Live one day, or what is left of one: wake, evaluate at dusk, sleep, evaluate at dawn.

        Raises:
            SettingError: If all days are over.
            DataError, NetworkError, CapacityError, PolicyError: If a rule of the day is broken, before it.
        """
        if self.is_over:
            raise SettingError(f"all {len(self.stream)} days of the stream are over.")
        day = self.agent.day
        task = self.stream[day]
        if self.agent.phase in ("between days", "wake"):
            self._check_day(day)
            self.agent.wake(task, self.wake, self._note)
            self._evaluate(day, "dusk")
        self.agent.sleep(self.policy, self.night, self._note)
        self._evaluate(day, "dawn")

    def run(self, until: int | None = None) -> History:
        """Live day after day.

        Args:
            until: Stop before this day, counted from 0; None is the stream's end.

        Returns:
            What happened, from the clock's first day on.
        """
        self.check()
        end = len(self.stream) if until is None else min(until, len(self.stream))
        bar = ProgressBar(len(self.stream), self._n_steps(end), self.agent.n_steps) if self._progress else None
        hooks = list(self._hooks)
        try:
            self._hooks += [bar] if bar else []
            while self.agent.day < end:
                self.step()
        finally:
            self._hooks = hooks
            if bar:
                bar.close()
        return self.history

    def _check_day(self, day: int) -> None:
        task = self.stream[day]
        self.agent.check(task, day, like=self.stream[0])
        planned_cycles(self.policy, self.agent.night(task, self.night, day))

    def _n_steps(self, end: int) -> int:
        """Count the agent's steps by the end of the run, as far as the budgets tell."""
        total = self.agent.n_steps
        for task in self.stream[self.agent.day : end] if self.agent.day < end else ():
            steps_per_epoch = self.agent.training.steps_per_epoch(task)
            total += sum(budget.open(steps_per_epoch).n_steps for budget in (self.wake, self.night))
        return total

    def _evaluate(self, day: int, phase: str) -> None:
        for index in range(day + 1):
            loss, score = self.agent.evaluate(self.stream[index], index)
            self._note(
                Record(
                    kind="evaluation", day=day, phase=phase, step=self.agent.n_steps, task=index, loss=loss, score=score
                )
            )

    def _note(self, event: Event) -> None:
        if isinstance(event, Record):
            self.history._append(event)
        for hook in self._hooks:
            hook(event)
