"""`Agent`: a masked network with a capacity, which learns a task by day and consolidates it by night."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import nn

from daynight import criteria
from daynight.criteria import Criterion, magnitude
from daynight.data.signatures import Form, check_task
from daynight.data.splits import load
from daynight.data.tasks import Task, glimpse, titled
from daynight.errors import NetworkError, StateError
from daynight.history import Hook, ignore
from daynight.networks.anatomy import Exclude
from daynight.networks.masked import Biases, Restart
from daynight.networks.shared import Consolidation, network_of
from daynight.nights.budgets import Budget
from daynight.nights.cycle import Night, share_of_wake
from daynight.nights.policy import SleepPolicy
from daynight.persistent import Persistent
from daynight.pruning.capacity import Capacity
from daynight.storage import agents, seals
from daynight.support import checks, interrupts, seeding
from daynight.training.day import Day, dusk_of
from daynight.training.preflight import N_EXAMPLES, check_batches, check_room, rehearse
from daynight.training.settings import Training


class Agent(Persistent):
    """Learns one task a day, and owns ever more of one network without moving what it owns.

    Args:
        network: A `torch.nn.Module` (which is copied), or a function without arguments that makes one;
            it is called under the agent's seed.
        capacity: How many weights may be owned after each night.
        training: How a task is learnt.
        seed: Names every random stream of the agent, 0 or more.
        biases: ``"per-task"`` gives each task its own; ``"freeze-after-first"`` shares them, trained with
            the first task and then frozen, which saves a few numbers a task and costs accuracy where
            little may be kept. A head and its bias are always the task's own.
        restart: What free weights are at the next wake: ``"zero"``, ``"redraw"`` or ``"keep"``.
        head: Name of the module that is replaced per task; None finds the last linear layer.
        make_head: Makes a head from a number of outputs; None makes one of the same kind.
        exclude: Layers whose weights are not masked but frozen after the first task.
        private: What each task is to have its own of, such as a positional embedding: names of parameters or
            modules, or a function of (name, module).
        consolidation: What becomes of what is owned. ``"freeze"``: it never moves again. ``"rehearse"``: it goes
            on learning, with all heads, from batches drawn evenly from the training data of all days so far,
            which the agent keeps; a day takes no more steps for it. ``"fine-tune"``: it goes on learning from
            the day's task alone. In both, every task sees all that is owned, biases and norms are shared and move,
            and a day that finds nothing free learns with what is owned.
        criterion: Scores weights, of which a prune keeps the highest; see `daynight.criteria`.
        device: Where the network and the tasks live while in use.

    Raises:
        NetworkError: If the network holds nothing to mask, or something that would move unseen.
        SettingError: If a setting is outside its range.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[], nn.Module],
        *,
        capacity: Capacity,
        training: Training | None = None,
        seed: int = 0,
        biases: Biases = "per-task",
        restart: Restart = "zero",
        head: str | None = None,
        make_head: Callable[[int], nn.Module] | None = None,
        exclude: Exclude = (),
        private: Exclude = (),
        consolidation: Consolidation = "freeze",
        criterion: Criterion = magnitude,
        device: str | torch.device = "cpu",
    ) -> None:
        checks.kind("capacity", capacity, Capacity, "Capacity(free_at_end=0.95, days=5)")
        if training is not None:
            checks.kind("training", training, Training, "Training(batch_size=128)")
        device = checks.usable_device(device)
        with seeding.forked(seed, "network", device=device):
            module = network() if callable(network) and not isinstance(network, nn.Module) else network
        masked = network_of(
            consolidation, module, head=head, make_head=make_head, exclude=exclude, private=private, biases=biases,
            restart=restart, device=device,
        )  # fmt: skip
        super().__init__(masked, Training() if training is None else training)
        self.capacity, self.seed = capacity, checks.whole("seed", seed, least=0)
        self.consolidation, self.criterion = consolidation, criterion
        criteria.check(criterion)
        self._n_steps, self._kept, self._today = 0, [], None

    @property
    def n_steps(self) -> int:
        """Number of optimizer steps that the agent has taken in its life."""
        return self._n_steps if self._today is None else self._today.step

    @property
    def phase(self) -> Literal["between days", "wake", "dusk", "night"]:
        """Where the agent is in its day."""
        return "between days" if self._today is None else self._today.phase

    def __repr__(self) -> str:
        return f"<Agent on day {self.day}, {self.phase}: {self.n_free:,} of {self.n_weights:,} weights free>"

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget of the phase under way is spent; infinite, if it is not of time."""
        return math.inf if self._today is None else self._today.seconds_left

    def check(self, task: Task, day: int | None = None, like: Task | None = None) -> None:
        """Make sure that `task` can be learnt on `day`, without training anything.

        Args:
            task: The task.
            day: Index of the day, from 0; None is the next.
            like: The task of day 0, as long as that has not begun.

        Raises:
            StateError: If that day is under way with another task.
            DataError: If its inputs have another shape than those of day 0, or it is of a day that is over and named
                otherwise than the task of that day.
            NetworkError: If the network cannot read them or make its outputs.
            SettingError: If optimizer, loss or metric do not work with them.
            CapacityError: If nothing is free on that day, or a layer would get no new weight.
        """
        check_task(task)
        day = self.day if day is None else day
        if day == self.day:
            self._check_today(task)
        form, first = Form.of(task), self._tasks[0] if self._tasks else None if like is None else Form.of(like)
        if first is not None:
            first.check_shape(task, form, day)
        if day < self.day:
            self._tasks[day].check_name(task, day)
            self._tasks[day].check_outputs(task, day)
            return
        check_room(self.network, self.capacity, task, day)
        index = torch.arange(N_EXAMPLES) % len(task.train)
        inputs, targets = load(task.train.subset(index), self.network.dtype, self.device)
        with seeding.forked(self.seed, "probe", device=self.device):
            rehearse(self.network, self.training, task, inputs, targets)
            check_batches(self.network, self.training, task, inputs, day)

    def wake(self, task: Task, budget: Budget, on_event: Hook = ignore, *, remember: Iterable[float] = ()) -> None:
        """Train on the day's task: all weights are seen, and only free ones move.

        After an interrupted wake, call it again with the same task to train on from there.

        Args:
            task: The task of the day.
            budget: What the wake may spend; a wake that was interrupted keeps the one it has.
            on_event: Called with each record, and with signs of life.
            remember: Shares of the wake, 0 to 1, whose weights are kept for cycles that rewind.

        Raises:
            StateError: If the day's wake is over, or it is under way with another task.
            SettingError: If `budget` is none.
            TrainingError: If loss or weights are not finite; see `abandon_day`.
            DataError, NetworkError, CapacityError: See `check`.
        """
        checks.function("on_event", on_event)
        checks.kind("remember: shares of the wake", remember, Iterable, "[0.05, 1.0]")
        shares = [share_of_wake(share) for share in remember]
        if self.phase in ("dusk", "night"):
            raise StateError(f"day {self.day} has had its wake: call sleep, or finish_night.")
        self.training.check_budget("the wake's budget", budget)
        if self._today is None:
            self.check(task)
            form, lesson = Form.of(task), self._lesson_of(task)
            with interrupts.deferred(), seeding.forked(self.seed, "head", self.day, device=self.device):
                self.network.begin_day(task.n_outputs)
                self._today = self._day_of(task, lesson)
                self._tasks.append(form)
        else:
            self._check_today(task)
        self._today.wake(budget, on_event, shares)

    def night(self, task: Task, budget: Budget, day: int | None = None) -> Night:
        """Give the snapshot at dusk of the night after `task`, for `SleepPolicy.plan`.

        Args:
            task: The day's task.
            budget: What the night may spend.
            day: Index of the day, from 0; None is the one under way or next.

        Raises:
            DataError, SettingError: If `task`, `budget` or `day` is none.
            CapacityError: If nothing is free on that day, or a layer would get no new weight.
        """
        check_task(task)
        self.training.check_budget("the night's budget", budget)
        day = checks.whole("day", self.day if day is None else day, least=0)
        check_room(self.network, self.capacity, task, day)
        return dusk_of(task, budget, day, self.network, self.capacity, self.training)

    def sleep(self, policy: SleepPolicy, budget: Budget, on_event: Hook = ignore) -> None:
        """Consolidate the day's task: prune and retrain, cycle by cycle, down to what the task keeps.

        A night that was interrupted, in which something went wrong, or whose policy broke a rule on the way, is as it
        was at the end of its last finished cycle, or at dusk, and stays open. Call this again to sleep on within what
        is left of the night's budget, or call `finish_night`.

        Args:
            policy: Lays the night out.
            budget: What the night may spend; a night that is open keeps the one it has.
            on_event: Called with each record, and with signs of life.

        Raises:
            StateError: If the day has had no wake.
            SettingError: If `policy` or `budget` is none.
            PolicyError: If the policy breaks a rule: before the night if it can be planned, else at
                the cycle in question.
            TrainingError: If the loss is not finite.
        """
        checks.function("on_event", on_event)
        self.training.check_budget("the night's budget", budget)
        self._day_at_dusk("sleep").sleep(policy, budget, on_event)
        self.finish_night(on_event)

    def finish_night(self, on_event: Hook = ignore) -> None:
        """End the night now: prune what is above the dawn density, without a REM, and seal the task.

        Args:
            on_event: Called with the record of that prune, if there is one, and of the day.

        Raises:
            StateError: If the day has had no wake.
            TrainingError: If something that the task would own is not finite; see `abandon_day`.
        """
        checks.function("on_event", on_event)
        today = self._day_at_dusk("finish_night")
        with interrupts.deferred():
            record = today.dawn(on_event)
            self._days.append(record)
            if self.consolidation == "freeze":
                self._seals.append(seals.seal(self.network.seen_by(self.day - 1)))
            if self.consolidation == "rehearse":
                self._kept.append(today.task)
            self._today, self._n_steps = None, today.step
        on_event(record)

    def fork(self, capacity: Capacity | None = None) -> Agent:
        """Give a second agent in the same state, which lives on by itself. Examples are shared, not copied.

        Args:
            capacity: Its capacity, which can be another until the first night; None is this one's.

        Raises:
            StateError: In the midst of a wake or a night, or if a night has gone by another capacity.
        """
        if self.phase in ("wake", "night"):
            raise StateError(f"fork: an agent can be doubled between days and at dusk, not in its {self.phase}.")
        if capacity not in (None, self.capacity) and self.day:
            raise StateError(f"fork: {self.day} nights have gone by this capacity, which cannot change any more.")
        twin = copy.copy(self)
        twin.capacity = self.capacity if capacity is None else capacity
        twin.network = copy.deepcopy(self.network)
        for name in ("_days", "_tasks", "_seals", "_kept"):
            setattr(twin, name, list(getattr(self, name)))
        twin._today = None if self._today is None else self._today.fork(twin.network, twin.capacity)
        return twin

    def abandon_day(self) -> None:
        """Give the day up: forget its task and all that was learnt today, as if the wake had never been.

        For a day whose training has gone wrong. Steps taken stay counted. Earlier tasks are untouched. A `Clock` that
        lives the day again forgets what it had noted of it.

        Raises:
            StateError: If no day is under way.
        """
        if self._today is None:
            raise StateError("abandon_day: no day is under way.")
        with interrupts.deferred():
            self._n_steps = self._today.step
            self.network.abandon_day()
            self._tasks.pop()
            self._today = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        network: nn.Module | Callable[[], nn.Module] | None = None,
        *,
        training: Training | None = None,
        make_head: Callable[[int], nn.Module] | None = None,
        criterion: Criterion | None = None,
        kept: Sequence[Task] = (),
        device: str | torch.device = "cpu",
    ) -> Agent:
        """Read an agent that `save` wrote. It runs no code of the file: what is code, you give again.

        A network of your own whose code is not that which was saved is taken with a warning: with it, what was learnt
        may predict something else.

        Args:
            path: The file.
            network: As it was given to the agent; None will do for the library's own models.
            training: As it was given to the agent; None will do if it had no functions of its own.
            make_head: As it was given to the agent.
            criterion: As it was given to the agent; None will do for `daynight.criteria.magnitude`.
            kept: With ``consolidation="rehearse"``, the tasks of all days so far.
            device: Where the network and the tasks are to live.

        Raises:
            DataNotFoundError: If there is no such file.
            DamagedFileError: If it is damaged, holds something else, or was written by a newer version.
            SettingError, NetworkError, DataError: If what is given is not what was saved.
        """
        about, tensors = agents.read(path)
        given = agents.network_of(about, network)
        training, criterion = agents.training_of(about, training), agents.criterion_of(about, criterion)
        try:
            agent = cls(
                given, capacity=about.capacity, seed=about.seed, biases=about.biases, restart=about.restart,
                head=about.head, make_head=make_head, exclude=about.frozen, private=about.private,
                consolidation=about.consolidation, device=device, training=training, criterion=criterion,
            )  # fmt: skip
        except NetworkError as error:
            raise NetworkError(
                f"the network is not the one that {os.fspath(path)!r} was saved with: {error}", page="files"
            ) from error
        agent._restore(about, tensors, agents.kept_of(about, kept))
        agents.check_code(about, agent.network)
        return agent

    def _check_today(self, task: Task) -> None:
        """Refuse another task than that of the day under way, if there is one."""
        known = task if self._today is None else self._today.task
        if task is not known and glimpse(task) != glimpse(known):
            raise StateError(
                f"day {self.day} is under way and goes on only with its task, {titled(known.name)}, not with "
                f"{titled(task.name)}. Give that; or end the day with finish_night, or give it up with abandon_day."
            )

    def _settle(self) -> None:
        if self._today is not None:
            self._today.lesson.flush()

    def _day_at_dusk(self, call: str) -> Day:
        if self._today is None or self.phase not in ("dusk", "night"):
            raise StateError(f"{call}: day {self.day} has had no whole wake yet. Call wake first.")
        return self._today
