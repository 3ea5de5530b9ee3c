"""`Agent`: a masked network with a capacity, which learns a task by day and consolidates it by night."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from daynight import checks, interrupts, seeding
from daynight.anatomy import Exclude
from daynight.capacity import Capacity
from daynight.criteria import Criterion, magnitude, needs
from daynight.day import Day, dusk_of
from daynight.errors import DataError, StateError
from daynight.history import Hook, Record, ignore
from daynight.lesson import Lesson
from daynight.network import FREE, Biases, Restart
from daynight.policies import SleepPolicy
from daynight.prediction import fitted, load, outputs_of, predict
from daynight.rehearsal import N_EXAMPLES, Form, check_batches, check_room, check_task, rehearse
from daynight.schedule import Budget, Night, share_of_wake
from daynight.sharing import Consolidation, network_of
from daynight.tasks import Task
from daynight.training import Training
from daynight.unions import union


class Agent:
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
        consolidation: Consolidation = "freeze",
        criterion: Criterion = magnitude,
        device: str | torch.device = "cpu",
    ) -> None:
        checks.kind("capacity", capacity, Capacity, "Capacity(free_at_end=0.95, days=5)")
        if training is not None:
            checks.kind("training", training, Training, "Training(batch_size=128)")
        self.device = checks.usable_device(device)
        with seeding.forked(seed, "network", device=self.device):
            module = network() if callable(network) and not isinstance(network, nn.Module) else network
        self.network = network_of(
            consolidation, module, head=head, make_head=make_head, exclude=exclude, biases=biases, restart=restart,
            device=self.device,
        )  # fmt: skip
        self.capacity, self.seed = capacity, checks.whole("seed", seed, least=0)
        self.training = Training() if training is None else training
        self.consolidation, self.criterion = consolidation, criterion
        needs(criterion)  # refuses what is none
        self._n_steps = 0
        self._kept: list[Task] = []
        self._days: list[Record] = []
        self._tasks: list[Form] = []
        self._today: Day | None = None

    @property
    def day(self) -> int:
        """Index of the day that is under way or next, which is the number of finished days."""
        return self.network.n_tasks

    @property
    def n_steps(self) -> int:
        """Number of optimizer steps that the agent has taken in its life."""
        return self._n_steps if self._today is None else self._today.step

    @property
    def phase(self) -> Literal["between days", "wake", "dusk", "night"]:
        """Where the agent is in its day."""
        return "between days" if self._today is None else self._today.phase

    @property
    def days(self) -> tuple[Record, ...]:
        """The record of each finished day."""
        return tuple(self._days)

    @property
    def n_weights(self) -> int:
        """Number of maskable weights, of which the capacity is a share."""
        return sum(self.network.sizes.values())

    @property
    def owned(self) -> tuple[int, ...]:
        """Number of weights that each finished task owns."""
        return tuple(sum(self.network.count(task).values()) for task in range(self.day))

    @property
    def n_free(self) -> int:
        """Number of weights that no task owns."""
        return sum(self.network.count(FREE).values())

    def check(self, task: Task, day: int | None = None, like: Task | None = None) -> None:
        """Make sure that `task` can be learnt on `day`, without training anything.

        Args:
            task: The task.
            day: Index of the day, from 0; None is the next.
            like: The task of day 0, as long as that has not begun.

        Raises:
            DataError: If its inputs have another shape than those of day 0.
            NetworkError: If the network cannot read them or make its outputs.
            SettingError: If optimizer, loss or metric do not work with them.
            CapacityError: If nothing is free on that day, or a layer would get no new weight.
        """
        check_task(task)
        day = self.day if day is None else day
        form, first = Form.of(task), self._tasks[0] if self._tasks else None if like is None else Form.of(like)
        if first is not None:
            first.check_shape(task, form.shape, day)
        if day < self.day:
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
            StateError: If the day's wake is over, or was interrupted with another task.
            SettingError: If `budget` is none.
            TrainingError: If loss or weights are not finite; see `abandon_day`.
            DataError, NetworkError, CapacityError: See `check`.
        """
        checks.function("on_event", on_event)
        if self.phase in ("dusk", "night"):
            raise StateError(f"day {self.day} has had its wake: call sleep, or finish_night.")
        self.training.check_budget("the wake's budget", budget)
        if self._today is None:
            self.check(task)
            trained = union([*self._kept, task], task.name) if self._kept else task
            form = Form.of(task)
            lesson = Lesson(trained, self.network, self.training, self.seed, self.device, self._n_steps)
            with interrupts.deferred(), seeding.forked(self.seed, "head", self.day, device=self.device):
                self.network.begin_day(task.n_outputs)
                self._today = Day(task, lesson, self.network, self.capacity, self.training, criterion=self.criterion)
                self._tasks.append(form)
        elif task is not self._today.task:
            raise StateError(
                f"the wake of day {self.day} was interrupted and goes on only with its task, {self._today.task.name!r}."
            )
        self._today.wake(budget, on_event, [share_of_wake(share) for share in remember])

    def night(self, task: Task, budget: Budget, day: int | None = None) -> Night:
        """Give the snapshot at dusk of the night after `task`, for `SleepPolicy.plan`.

        Args:
            task: The day's task.
            budget: What the night may spend.
            day: Index of the day, from 0; None is the one under way or next.
        """
        check_task(task)
        self.training.check_budget("the night's budget", budget)
        day = checks.whole("day", self.day if day is None else day, least=0)
        return dusk_of(task, budget, day, self.network, self.capacity, self.training)

    def sleep(self, policy: SleepPolicy, budget: Budget, on_event: Hook = ignore) -> None:
        """Consolidate the day's task: prune and retrain, cycle by cycle, down to what the task keeps.

        A night that was interrupted, or whose policy broke a rule on the way, stays open at its last
        finished cycle. Call this again to sleep on within what is left of the night's budget, or call
        `finish_night`.

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
        twin._days, twin._tasks, twin._kept = list(self._days), list(self._tasks), list(self._kept)
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

    def predict(self, inputs: Any, task: int) -> Tensor:
        """Compute a task's outputs. Changes nothing, and gives the same bits whenever it is called.

        Args:
            inputs: Tensor or array (n, ...) of the shape that the task was trained on; uint8 are pixels
                and become 0 to 1.
            task: Index of a finished task, or of the one under way.

        Returns:
            Floating point (n, outputs of the task), on the agent's device: class scores before a softmax, or
            regression outputs.

        Raises:
            StateError: If the task has not begun.
            DataError: If the inputs have another shape.
        """
        self._check_learnt(task)
        inputs = self._tasks[0].read(inputs, self.network.dtype, self.device)
        return predict(self.network, inputs, int(task), self.training.transform)

    def evaluate(self, task: Task, index: int, split: str = "test") -> tuple[float, float]:
        """Measure loss and score of task `index` on a split of it.

        Args:
            task: The task.
            index: The day on which it was learnt, from 0.
            split: ``"test"``, ``"validation"`` or ``"train"``.

        Returns:
            Loss, and metric (accuracy by default).

        Raises:
            DataError: If the task has no such split, or another number of outputs or input shape.
            StateError: If the day has not begun.
        """
        check_task(task)
        if split not in task.splits():
            raise DataError(
                f"task {task.name!r} has no {split!r} split, only {', '.join(task.splits())}. See hold_out."
            )
        if 0 <= index < len(self._tasks):
            self._tasks[index].check_outputs(task, index)
        self._check_learnt(index)
        examples = task.splits()[split]
        outputs = outputs_of(self.network, examples, int(index), self.training.transform, self.device)
        targets = fitted(examples.targets, self.network.dtype, self.device)
        return self.training.judge(task, outputs, targets)

    def _check_learnt(self, task: Any) -> None:
        """Refuse a task that has not begun, and make the network ready to be asked about one that has."""
        last = self.day if self._today is not None else self.day - 1
        if isinstance(task, bool) or not isinstance(task, numbers.Integral) or not 0 <= int(task) <= last:
            raise StateError(f"task {task!r} has not been learnt: there are {last + 1} so far, from 0.")
        if self._today is not None:
            self._today.lesson.flush()

    def _day_at_dusk(self, call: str) -> Day:
        if self._today is None or self.phase not in ("dusk", "night"):
            raise StateError(f"{call}: day {self.day} has had no whole wake yet. Call wake first.")
        return self._today
