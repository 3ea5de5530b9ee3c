"""`Clock`: takes an agent through the days of a stream. It never touches a tensor."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from daynight.agent import Agent
from daynight.data.splits import Pair
from daynight.data.tasks import Days, Task, TaskStream, glimpse, warn_if_known
from daynight.errors import DataError, OutputError, SettingError
from daynight.history import Event, History, Hook, Record, hooks_of
from daynight.history.records import short_row_of
from daynight.loggers import ProgressBar, n_steps_after
from daynight.metrics import name_of
from daynight.nights.budgets import Budget
from daynight.nights.cycle import Cycle
from daynight.nights.policy import SleepPolicy, planned, remembered, require_policy
from daynight.pruning.capacity import Capacity
from daynight.storage import agents
from daynight.storage.checkpoints import Checkpoint, State, check_ledgers, check_packs, described
from daynight.storage.identity import describe_structure
from daynight.storage.parts import day_of, finished
from daynight.support import atomic, checks, interrupts
from daynight.training.consolidation import is_known
from daynight.training.preflight import check_memory


class Clock:
    """Drives an agent through the days of a stream. `step` is one day, and `run` repeats it.

    Args:
        agent: The agent. It may have days behind it.
        stream: The tasks of the days, in order: a `TaskStream`, or the tasks or pairs from which to make a stream.
        policy: Chooses the cycles of each night.
        wake: Budget of each wake.
        night: Budget of each night.
        on_event: A function, or several, called with each `Record` when it is made, and with `Progress` in between. If
            a function has a method ``begin``, this is called before the first day, with the history so far. If it has
            a method ``several``, this is called once with all records of scores that are carried over at a dusk or
            dawn, in place of a call with each.
        progress: Whether `run` shows a progress bar. The bar appears only in a terminal.
        checkpoint: Folder of the checkpoint, which is written from time to time. If the folder has the checkpoint of a
            run with the same settings, `resume`, or the first call that runs a day, continues that run, even within a
            wake or a night. The agent takes over the state in the checkpoint, and must not have more finished days than
            that. With budgets in epochs or steps, the results are then, bit for bit, the same as without the
            interruption.
        every: Seconds from one checkpoint to the next, 0 or more. Checkpoints are further apart if writing is slow, so
            that it takes less than 2 % of the time. A checkpoint is also written at each dawn and after `to_dusk`.
        first_day: Index of the day of the stream's first task, from 0 to the agent's number of finished days. Tasks of
            earlier days are not evaluated; their data may be gone.
        evaluate: What is evaluated at dusk and dawn. ``"changed"``: the day's task, and all those of which anything
            that `daynight.Agent.unmoved` compares has changed since their own dawn, or that this clock's history has no
            evaluation of at their own dawn. With freezing, this is usually the day's task alone; the scores of the
            others are carried over, as evaluations without `elapsed_seconds`. Test data are taken to be the same as
            then. ``"all"``: all living tasks, every time. Tasks that keep signatures are always evaluated, since their
            score without the task depends on all other tasks.

    Attributes:
        agent: As given.
        stream: As given, or the stream made from it.
        policy: As given.
        wake: As given.
        night: As given.
        first_day: As given.
        evaluate: As given.
        history: The records so far.
        hooks: The functions that are called with each event, in order.

    Raises:
        SettingError: If a budget, the policy or the agent is of the wrong type, or `first_day` is after the agent's
            current or next day.
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
        checkpoint: str | os.PathLike[str] | None = None,
        every: float = 60.0,
        first_day: int = 0,
        evaluate: Literal["changed", "all"] = "changed",
    ) -> None:
        if not isinstance(agent, Agent):
            raise SettingError(f"the agent must be an Agent, not {agent!r}.")
        require_policy(policy)
        agent.training.check_budget("wake", wake)
        agent.training.check_budget("night", night)
        self.agent = agent
        self.stream = stream if isinstance(stream, TaskStream) else TaskStream(stream)
        self.policy, self.wake, self.night = policy, wake, night
        self.first_day = checks.integer("first_day", first_day, least=0)
        if first_day > agent.day:
            raise SettingError(
                f"first_day={first_day} is too late: the agent is at day {agent.day}, for which the stream has no "
                f"task. Set first_day to {agent.day} or less."
            )
        checks.one_of("evaluate", evaluate, ("changed", "all"))
        self.evaluate = evaluate
        self.history = History()
        self._name_scores()
        self._doubtful = set[int]()  # tasks that were not as sealed when they were evaluated at their own dawn
        self._days = Days(self.stream, first_day)
        self._n_noted = agent.day  # days before this one are whole in the history, or older than it
        self.hooks = hooks_of(on_event)
        checks.flag("progress", progress)
        self._progress, self._asked = progress, interrupts.Asked()
        checks.finite("every: seconds between checkpoints", every, least=0)
        # The program may go to another folder before the first checkpoint.
        self._folder = None if checkpoint is None else atomic.folder_named(checkpoint).absolute()
        self._every = every
        self._checkpoint: Checkpoint | None = None  # None until it is opened
        self._is_open = False  # whether the checkpoint was read and the hooks have begun
        self._settings: Mapping[str, Sequence[str]] = {}  # digests of the settings that a checkpoint compares
        self._marks = list[str]()  # digests of the tasks so far

    @property
    def is_over(self) -> bool:
        """Whether all days of the stream are over."""
        return self.agent.day >= self._days.end

    def resume(self) -> bool:
        """Continue from the checkpoint, if there is one, and begin the hooks.

        `run`, `step`, `to_dusk`, `check` and `fork` do this first.

        Returns:
            Whether there was a checkpoint to resume from.

        Raises:
            SettingError: If the checkpoint is of a run with other settings, another process uses its folder, or some
                setting cannot be compared with that of another process.
            DataError: If the stream's tasks differ from those of the checkpoint, or are fewer.
            DamagedFileError: If the checkpoint is damaged, or was written by a newer version of daynight.
            OutputError: If the folder cannot be made or written to.
        """
        if self._is_open:
            return False
        is_resumed = False
        if self._folder is not None:
            if self._days.end < self.agent.day:
                raise DataError(
                    f"the stream has {len(self.stream)} tasks, and the agent {self.agent.day} days behind it. A stream "
                    "begins with the task of day 0, unless first_day says which."
                )
            self._settings = self._described()
            self._checkpoint = self._checkpoint or Checkpoint(self._folder, self._every)
            is_resumed = self._restore(self._checkpoint)
            # A first write shows whether writing is possible, and how long it takes.
            self._checkpoint.write(self._state)
        for hook in self.hooks:
            begin = getattr(hook, "begin", None)
            if callable(begin):
                begin(self.history)
        self._is_open = True
        return is_resumed

    def check(self, until: int | None = None) -> None:
        """Raise an error unless each day to come is possible: its task, the capacity, and the policy's plan.

        Args:
            until: Check the days before this one, counted from 0; None checks all days of the stream.

        Raises:
            DataError, NetworkError, CapacityError, PolicyError, SettingError, StateError: If a rule is broken. The
                error is about the first one.
        """
        end = self._days.end if until is None else checks.integer("until", until, least=0)
        self.resume()
        for day in range(self.first_day, min(end, self._days.end)):
            task, before = self._days[day], self._days.before(day)[self.agent.day - self.first_day :]
            self.agent.check(task, day, None if self.first_day else self.stream[0], before)
            if day >= self.agent.day:
                if task.succeeds is None:
                    warn_if_known(task.name, self.agent.task_names[: self.first_day])
                self._plan(day, is_tried=True)

    def step(self) -> None:
        """Run one day, or the rest of a day that has begun: wake, evaluate at dusk, sleep, evaluate at dawn.

        Raises:
            SettingError: If all days are over.
            StateError: If the day has begun with another task.
            DataError, NetworkError, CapacityError, PolicyError: If a rule is broken; checked before the day begins.
        """
        self._run_to_dusk()
        try:
            self.agent.sleep(self.policy, self.night, self._note)
        except Exception:
            self._save()  # the state after the last cycle without an error
            raise
        self._catch_up()
        self._save()

    def to_dusk(self) -> None:
        """Run until the end of the current wake, or of the next one if no wake is running, and evaluate at dusk.

        Raises:
            SettingError: If all days are over.
            StateError: If the day has begun with another task.
            DataError, NetworkError, CapacityError, PolicyError: If a rule is broken; checked before the day begins.
        """
        self._run_to_dusk()
        self._save()

    def _run_to_dusk(self) -> None:
        self.resume()
        if self.is_over:
            raise SettingError(f"all {len(self.stream)} days of the stream are over.")
        self._catch_up()
        day = self.agent.day
        if self.agent.phase in ("between days", "wake"):
            plan = self._plan(day, is_tried=self.agent.phase == "between days")  # the wake checks the task
            if self.agent.phase == "between days":
                self.history.forget_day(day)  # records of an earlier, abandoned try at the day
                self._test_first(day)
            self.agent.wake(self._days[day], self.wake, self._note, remember=remembered(self.policy, plan))
        else:
            self.agent.check_today(self._days[day])
        self._evaluate(day, "dusk")
        self._save(is_needed=False)

    def remembered(self) -> tuple[float, ...]:
        """Return the shares of the next wake, 0 to 1, to whose weights the night may rewind."""
        return remembered(self.policy, self._plan(self.agent.day))

    def fork(
        self,
        *,
        policy: SleepPolicy | None = None,
        night: Budget | None = None,
        capacity: Capacity | None = None,
        on_event: Hook | Iterable[Hook] = (),
    ) -> Clock:
        """Return a second clock, with a fork of the agent and a copy of the history.

        Runs that differ only after the first wake can share that wake: call `to_dusk`, and then `fork` for each run.
        The results are, bit for bit, those of separate runs.

        Args:
            policy: Policy of the new clock; None is this clock's.
            night: Budget of each night; None is this clock's.
            capacity: Capacity of the new agent; None is this agent's. It can differ only before the first night has
                passed.
            on_event: Hooks of the new clock. It has none of this clock's hooks, and no checkpoint.

        Raises:
            StateError: During a wake or a night, or if `capacity` differs after the first night.
        """
        self.resume()
        agent = self.agent.fork(capacity)
        twin = Clock(
            agent, self.stream, wake=self.wake, policy=self.policy if policy is None else policy,
            night=self.night if night is None else night, progress=self._progress, first_day=self.first_day,
            on_event=on_event, evaluate=self.evaluate,
        )  # fmt: skip
        twin.history, twin._n_noted, twin._doubtful = History(self.history), self._n_noted, set(self._doubtful)
        return twin

    def run(self, until: int | None = None) -> History:
        """Run day after day. SIGTERM ends the run in the same way as Ctrl-C, with SystemExit.

        With a checkpoint folder, a checkpoint is written before the run ends. A second signal ends the run at once.

        Args:
            until: Stop before this day, counted from 0; None runs all days of the stream.

        Returns:
            The records, from the clock's first day on.

        Raises:
            SettingError: If no day is left to run and `first_day` is not 0. If it is 0, there is only a warning.
        """
        end = self._days.end if until is None else min(checks.integer("until", until, least=0), self._days.end)
        self.check(end)
        if self.agent.day >= end > 0 and not len(self.history):
            if self.first_day:
                raise SettingError(
                    f"first_day={self.first_day}: the run ends before day {end}, and the agent has been through "
                    f"{self.agent.day} days, so that there is nothing to do. For a task to come, give "
                    f"first_day={self.agent.day}, or a later until."
                )
            warnings.warn(
                f"there is nothing to do: the agent had lived {self.agent.day} days before this clock was made, and "
                f"the run ends before day {end}. A stream begins with the task of day 0, unless first_day says which. "
                "To compare policies, use new agents, or fork.", stacklevel=2,
            )  # fmt: skip
        bar = self._bar(end) if self._progress else None
        hooks = list(self.hooks)
        try:
            self.hooks += [bar] if bar else []
            with interrupts.terminable(), interrupts.patient(self._checkpoint is not None) as self._asked:
                while self.agent.day < end:
                    self.step()
                self._catch_up()
        finally:
            self.hooks, self._asked = hooks, interrupts.Asked()
            if bar:
                bar.close()
        return self.history

    def _plan(self, day: int, is_tried: bool = False) -> tuple[Cycle, ...] | None:
        """Return the plan of the night of `day`; None if the night has no plan.

        With `is_tried`, it is also tried whether the scheduler can take the steps of the day.
        """
        task, before = self._days[day], self._days.before(day)[self.agent.day - self.first_day :]
        night = self.agent.night(task, self.night, day, before)
        plan = planned(self.policy, night)
        if is_tried:
            self.agent.check_scheduler(task, self.wake, night, plan)
        return plan

    def _bar(self, end: int) -> ProgressBar:
        """Make a progress bar for the days from the clock's first day to the last day before `end`."""
        agent = self.agent
        dawns = [0, *(record.step for record in agent.days)]
        to_come = self._days.before(end)[agent.day - self.first_day :]
        known = agent.n_steps if agent.phase == "between days" else dawns[-1]
        nights = [agent.night(task, self.night, agent.day + n, to_come[:n]) for n, task in enumerate(to_come)]
        n_steps = n_steps_after(known, [night.steps_per_epoch for night in nights], (self.wake, self.night))
        return ProgressBar(self._days.end, n_steps, agent.n_steps, dawns[self.first_day])

    def _catch_up(self) -> None:
        """Add the records of finished days that are missing because a day or a hook was interrupted."""
        refused = self.agent.refused
        records = {record.day: record for record in (*self.agent.days, *([] if refused is None else [refused]))}
        for day in range(self._n_noted, self.agent.day):
            if day not in records:
                continue  # it has retired since
            if not self.history.select(kind="day", day=day):
                self._note(records[day])
            self._evaluate(day, "dawn")
        self._n_noted = self.agent.day

    def _test_first(self, day: int) -> None:
        """Note how good the version at hand is on the day's data, before they are learnt."""
        began, task = time.perf_counter(), self._days[day]
        found = None if task.succeeds is None else self.agent.test_first(task)
        if found is not None:
            index, loss, score = found
            seconds = time.perf_counter() - began
            self._note(
                Record(kind="evaluation", day=day, phase="before", step=self.agent.n_steps, task=index, loss=loss,
                       score=score, elapsed_seconds=seconds)
            )  # fmt: skip

    def _evaluate(self, day: int, phase: str) -> None:
        """Evaluate every task so far that has no evaluation at this phase of the day yet, or carry its score over."""
        known, living = self.history.tested(day, phase), set(self.agent.living)
        left = [n for n in range(self.first_day, day + 1) if n not in known and (n in living or n >= self.agent.day)]
        unmoved = self.agent.unmoved() if self._carries else frozenset[int]()
        stand = unmoved & self.history.tested_at_their_dawn - self._doubtful
        for stands, run in itertools.groupby(left, stand.__contains__):
            if stands:
                self._carry(day, phase, list(run))
            else:
                for index in run:
                    self._measure(day, phase, index, unmoved)

    @property
    def _carries(self) -> bool:
        """Whether scores of tasks that are as at their dawn are carried over."""
        return self.evaluate == "changed" and self.agent.consolidation.freezes and "signature" not in self.agent.keeps

    def _carry(self, day: int, phase: str, tasks: Sequence[int]) -> None:
        place = day, phase, self.agent.n_steps
        one_by_one = [hook for hook in self.hooks if not callable(getattr(hook, "several", None))]
        if one_by_one:
            for task in tasks:
                self.history.carry(*place, [task])
                (record,) = self.history.carried(*place, [task])
                for hook in one_by_one:
                    hook(record)
        else:
            self.history.carry(*place, tasks)
        for hook in self.hooks:
            if hook not in one_by_one:
                hook.several(self.history.carried(*place, tasks))  # type: ignore[attr-defined]

    def _measure(self, day: int, phase: str, index: int, unmoved: frozenset[int]) -> None:
        began = time.perf_counter()
        loss, score = self.agent.evaluate(self._days[index], index)
        without = self.agent.score_without_task(self._days[index], index)
        seconds = time.perf_counter() - began
        if self._carries and phase == "dawn" and index == day:
            if self.hooks:  # which may have written to the network since
                unmoved = self.agent.unmoved()
            if index not in unmoved:
                self._doubtful.add(index)
        self._note(
            Record(kind="evaluation", day=day, phase=phase, step=self.agent.n_steps, task=index, loss=loss,
                   score=score, elapsed_seconds=seconds, score_without_task=without)
        )  # fmt: skip

    def _name_scores(self) -> None:
        """Name the scores of the history, if they are of one metric."""
        names = {name_of(self.agent.training.metric_of(task)) for task in self.stream}
        self.history.metric = (names.pop() if len(names) == 1 else None) or History.metric

    def _note(self, event: Event) -> None:
        if isinstance(event, Record):
            self.history.append(event)
        else:
            self._save(is_needed=False)
        self._tell(event)

    def _tell(self, event: Event) -> None:
        for hook in self.hooks:
            hook(event)

    def _described(self) -> Mapping[str, Sequence[str]]:
        """Return digests of the settings that must not change if a run is to be resumed."""
        about, agent = self.agent.about(), self.agent
        same = ["head", "frozen", "private", "biases", "restart", "capacity", "seed"]
        same += [name for name in ("mask", "keeps") if getattr(about, name)]  # older files have no such settings
        # One of a user's own is compared by its code and attributes.
        way = about.consolidation if is_known(about.consolidation) else agent.consolidation
        training = {f"training.{name}": value for name, value in agent.training.settings().items()}
        return described(
            network=describe_structure(agent.network.module, about.head, agent.snapshot),
            **{name: getattr(about, name) for name in same}, consolidation=way, criterion=agent.criterion, **training,
            policy=self.policy, wake=self.wake, night=self.night, first_day=self.first_day,
            **({} if agent.replay is None else {"replay": agent.replay}),
            **({} if agent.gate is None else {"gate": agent.gate}),
        )  # fmt: skip

    def _save(self, is_needed: bool = True) -> None:
        """Write a checkpoint if it is due or needed, or if a signal has asked the run to stop."""
        checkpoint = None if self._asked.is_heard else self._checkpoint
        if checkpoint is not None and (is_needed or self._asked or checkpoint.is_due(self.agent.seconds_left)):
            try:
                checkpoint.write(self._state)
            except OutputError as error:
                warnings.warn(f"no checkpoint: {error} The last one stays, and the run goes on.", stacklevel=2)
        self._asked.give_way()

    def _state(self) -> State:
        """Return the state of the clock and its agent; `_restore` takes it."""
        about, tensors, today = self.agent.state()
        n_begun = about.n_finished + (today is not None)
        self._marks += [glimpse(task) for task in self._days.before(n_begun)[len(self._marks) :]]
        assert self._checkpoint is not None
        parts, marks = self._checkpoint.parts, dict(enumerate(self._marks, self.first_day))
        # Most of what happened on finished days is in files of its own, which are not written again.
        held = parts.keep(finished(about, tensors, self._n_noted, self.history, marks))
        rest = [item for day in self.history.days if day not in held for item in self.history.items(day)]
        values = {
            "agent": agents.to_json(about.without(held)), "settings": self._settings,
            "marks": [mark for day, mark in marks.items() if day not in parts.days],
            "records": list(map(short_row_of, rest)), "n_noted": self._n_noted,
            **({"doubtful": sorted(self._doubtful)} if self._doubtful else {}),
            **({"parts": parts.named, "living": [record.day for record in about.days]} if parts.named else {}),
        }  # fmt: skip
        return values, {name: tensor for name, tensor in tensors.items() if day_of(name) not in held}, today

    def _restore(self, checkpoint: Checkpoint) -> bool:
        """Continue from a checkpoint; return whether there was one to continue from."""
        check_packs(self.agent.training, self.agent.network)
        if not self.is_over:
            check_memory(self.agent.training, self._days[self.agent.day], self.agent.network.dtype, self.agent.device)
        check_ledgers(wake=self.wake, night=self.night)
        found = checkpoint.read()
        if found is None:
            return False
        values, tensors, today = found
        path, way = checkpoint.path, self.agent.consolidation
        about = agents.from_json(path, dict(values["agent"]))
        if not values["records"] and today is None and about.n_steps == self.agent.n_steps:
            checkpoint.parts.forget()
            return False  # nothing has happened in this checkpoint: a run with other settings may begin
        checkpoint.check_settings(values, self._settings)
        checkpoint.check_tasks(values["marks"], self.stream, self.first_day)
        agents.check(path, about, tensors, way, has_network=True, is_day=today is not None)
        with agents.fitting(path, "history of a run"):
            history, last = History.from_rows(values["records"]), about.n_finished + (today is not None)
            if values["n_noted"] > about.n_finished or any(day > last for day in history.days):
                raise ValueError("it has records of days to come")
        if self.agent.phase != "between days":
            raise SettingError("an agent that resumes from a checkpoint must be new, and this one has begun a day.")
        living = {record.day for record in about.days}
        mine = [record for record in self.agent.days if record.day in living]
        if self.agent.day > about.n_finished or mine != [r for r in about.days if r.day < self.agent.day]:
            raise SettingError(
                f"{checkpoint.path} is of an agent with {about.n_finished} days behind it, and this one has others. "
                "Give one that is new, or as it was when the run was begun; or another folder, to begin anew."
            )
        kept = [*self.agent.kept_tasks[: self.first_day], *self._days.before(about.n_finished)]
        now = None if today is None else (self._days[about.n_finished], self.wake, self.night, today)
        with agents.fitting(path, "state of a run"):
            self.agent.restore(about, tensors, kept if way.keeps_tasks else (), now)
        self.history, self._n_noted, self._doubtful = history, values["n_noted"], set(values.get("doubtful", ()))
        self._name_scores()
        return True
