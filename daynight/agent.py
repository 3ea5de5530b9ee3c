"""`Agent`: a masked network with a capacity, which learns a task by day and consolidates it by night."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from daynight import checks, seeding
from daynight.anatomy import Exclude
from daynight.capacity import Capacity
from daynight.day import Day, dusk_of, fitted, load
from daynight.errors import DataError, SettingError, StateError
from daynight.history import Hook, ignore
from daynight.network import FREE, Biases, MaskedNetwork, Restart
from daynight.policies import SleepPolicy
from daynight.prediction import predict
from daynight.schedule import Budget, Night, check_budget
from daynight.tasks import Task, as_inputs
from daynight.training import Training


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
        device: str | torch.device = "cpu",
    ) -> None:
        if not isinstance(capacity, Capacity):
            raise SettingError(
                f"capacity must be a Capacity, such as Capacity(free_at_end=0.95, days=5), not {capacity!r}."
            )
        if training is not None and not isinstance(training, Training):
            raise SettingError(f"training must be a Training, such as Training(batch_size=128), not {training!r}.")
        try:
            self.device = torch.empty(0, device=device).device
        except RuntimeError as error:
            raise SettingError(f"device={device!r} cannot be used here: {error}") from error
        with seeding.forked(seed, "network"):
            module = network if isinstance(network, nn.Module) else network()
        self.network = MaskedNetwork(
            module, head=head, make_head=make_head, exclude=exclude, biases=biases, restart=restart,
            device=self.device,
        )  # fmt: skip
        self.capacity, self.seed = capacity, checks.whole("seed", seed, least=0)
        self.training = Training() if training is None else training
        self._n_steps = 0
        self._input_shape: tuple[int, ...] | None = None
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
        if self._today is None:
            return "between days"
        if self._today.night is not None:
            return "night"
        return "dusk" if self._today.is_woken else "wake"

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
        if not isinstance(task, Task):
            raise DataError(f"the task must be a Task(train=..., test=...), not {type(task).__name__}.")
        day = self.day if day is None else day
        shape = like.input_shape if self._input_shape is None and like is not None else self._input_shape
        if shape not in (None, task.input_shape):
            raise DataError(
                f"day {day}, task {task.name!r}: inputs have the shape {task.input_shape}, and those of day 0 "
                f"{shape}. One network reads one shape: resize or pad them."
            )
        self.capacity.check(self.network.sizes, day)
        sizes = (len(task.train) % self.training.batch_size, self.training.batch_size)
        if 1 in sizes and self.network.normalises_batches:
            raise DataError(
                f"day {day}, task {task.name!r}: {len(task.train)} examples in batches of "
                f"{self.training.batch_size} leave a batch of one, on which batch normalisation cannot "
                "train. Choose another batch_size."
            )
        inputs, targets = load(task.train.subset(torch.tensor([0, -1])), self.network.dtype, self.device)
        with seeding.forked(self.seed, "probe", device=self.device):
            transform = self.training.transform
            outputs = self.network.probe(inputs if transform is None else transform(inputs), task.n_outputs)
            self.training.check(task, outputs, targets)

    def wake(self, task: Task, budget: Budget, on_event: Hook = ignore) -> None:
        """Train on the day's task: all weights are seen, and only free ones move.

        After an interrupted wake, call it again with the same task to train on from there.

        Args:
            task: The task of the day.
            budget: What the wake may spend.
            on_event: Called with each record, and with signs of life.

        Raises:
            StateError: If the day's wake is over, or was interrupted with another task.
            SettingError: If `budget` is none.
            TrainingError: If the loss is not finite.
            DataError, NetworkError, CapacityError: See `check`.
        """
        if self.phase in ("dusk", "night"):
            raise StateError(f"day {self.day} has had its wake: call sleep, or finish_night.")
        check_budget("the wake's budget", budget)
        if self._today is None:
            self.check(task)
            with seeding.forked(self.seed, "head", self.day):
                self.network.begin_day(task.n_outputs)
            self._input_shape = task.input_shape
            self._today = Day(task, self.network, self.capacity, self.training, self.seed, self.device, self._n_steps)
        elif task is not self._today.task:
            raise StateError(
                f"the wake of day {self.day} was interrupted and goes on only with its task, {self._today.task.name!r}."
            )
        self._today.wake(budget, on_event)

    def night(self, task: Task, budget: Budget, day: int | None = None) -> Night:
        """Give the snapshot at dusk of the night after `task`, for `SleepPolicy.plan`.

        Args:
            task: The day's task.
            budget: What the night may spend.
            day: Index of the day, from 0; None is the one under way or next.
        """
        day = self.day if day is None else day
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
        check_budget("the night's budget", budget)
        self._day_at_dusk("sleep").sleep(policy, budget, on_event)
        self.finish_night(on_event)

    def finish_night(self, on_event: Hook = ignore) -> None:
        """End the night now: prune what is above the dawn density, without a REM, and seal the task.

        Args:
            on_event: Called with the record of that prune, if there is one, and of the day.

        Raises:
            StateError: If the day has had no wake.
        """
        today = self._day_at_dusk("finish_night")
        record = today.dawn(on_event)
        self._today, self._n_steps = None, today.step
        on_event(record)

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
        last = self.day if self._today is not None else self.day - 1
        if isinstance(task, bool) or not isinstance(task, numbers.Integral) or not 0 <= int(task) <= last:
            raise StateError(f"task {task!r} has not been learnt: there are {last + 1} so far, from 0.")
        inputs = fitted(as_inputs(inputs), self.network.dtype, self.device)
        if tuple(inputs.shape[1:]) != self._input_shape:
            shape = ", ".join(map(str, self._input_shape or ()))
            raise DataError(f"inputs must have the shape (n, {shape}), not {tuple(inputs.shape)}.")
        if self._today is not None:
            self._today.flush()
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
        if split not in task.splits():
            raise DataError(
                f"task {task.name!r} has no {split!r} split, only {', '.join(task.splits())}. See hold_out."
            )
        inputs, targets = load(task.splits()[split], self.network.dtype, self.device)
        outputs = self.predict(inputs, index)
        if outputs.shape[1] != task.n_outputs:
            raise DataError(
                f"task {task.name!r} has {task.n_outputs} outputs, and what was learnt on day {index} "
                f"{outputs.shape[1]}: is it that day's task?"
            )
        return self.training.judge(task, outputs, targets)

    def _day_at_dusk(self, call: str) -> Day:
        if self._today is None or self.phase not in ("dusk", "night"):
            raise StateError(f"{call}: day {self.day} has had no whole wake yet. Call wake first.")
        return self._today
