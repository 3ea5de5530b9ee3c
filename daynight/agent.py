"""`Agent`: a masked network with a capacity, which learns a task by day and consolidates it by night.

Longer than other files: it is the library's main class as its users see it, and most of it is their documentation. What
is possible on a day is in `Outlook`, a day itself in `Day`, outputs and scores in `Answers`, and what is kept of
finished tasks in `Past`.
"""

from __future__ import annotations

import contextlib
import copy
import math
import numbers
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, overload

import attrs
import torch
from torch import Tensor, nn

from daynight import criteria
from daynight.criteria import Criterion, magnitude
from daynight.data.drift import Drift
from daynight.data.replay import Replay
from daynight.data.roll import Views
from daynight.data.signatures import Form, check_split, check_task
from daynight.data.tasks import Task
from daynight.errors import NetworkError, SettingError, StateError
from daynight.history import Hook, Record, ignore
from daynight.networks import compact as compaction
from daynight.networks.anatomy import Exclude
from daynight.networks.export import export
from daynight.networks.identify import Answer
from daynight.networks.masked import FREE, Biases, Restart
from daynight.networks.prediction import CHUNK
from daynight.nights.budgets import Budget
from daynight.nights.cycle import Cycle, Night, share_of_wake
from daynight.nights.gate import Gate
from daynight.nights.policy import SleepPolicy, planned
from daynight.pruning.capacity import Capacity
from daynight.storage import agents, contents
from daynight.storage.identity import Snapshot
from daynight.storage.past import Past
from daynight.storage.sizes import Size, sizes
from daynight.support import checks, cores, interrupts, quiet, seeding, threads
from daynight.training import resumed, schedules
from daynight.training.answers import Answers
from daynight.training.consolidation import Consolidation, check_replay, consolidation_of
from daynight.training.day import Day, dusk_of, room_of
from daynight.training.keepsakes import kinds_of
from daynight.training.outlook import Outlook
from daynight.training.passed import Passed
from daynight.training.settings import Training
from daynight.training.trainer import Trainer
from daynight.training.tryouts import Tryout


class Agent:
    """Learns one task a day in one network. Each task owns some weights, which by default never move again.

    Args:
        network: A `torch.nn.Module`, which is copied, or a function without arguments that makes a module. The function
            is called under the agent's seed.
        capacity: How many weights may be owned after each night.
        training: How a task is learnt.
        seed: Names every random stream of the agent, 0 or more.
        biases: ``"per-task"`` gives each task its own biases. With ``"freeze-after-first"``, all tasks share the
            biases, which are trained with the first task and then frozen. This saves a few numbers per task, and costs
            accuracy if a task may keep few weights. In both cases each task has its own head, with its bias.
        restart: Values of free weights at the next wake: ``"zero"``, ``"redraw"`` (new initial values) or ``"keep"``
            (the values that they had when they were pruned).
        head: Name of the module that is replaced per task; None finds the last linear layer.
        make_head: Makes a head from a number of outputs; None makes heads of the same kind as the network's.
        exclude: Layers whose weights are not masked but frozen after the first task.
        private: Parameters or modules of which each task has its own copy, such as a positional embedding: their names,
            or a function of (name, module).
        mask: Modules that compute with a weight as a linear or convolution layer does, such as GPT-2's ``Conv1D``:
            their names, or a function of (name, module). Their parameters of two or more dimensions are masked, as
            those of the layers that daynight knows. What `exclude` or `private` names is not masked.
        consolidation: What happens to owned weights. ``"freeze"``: owned weights never move again. ``"rehearse"``:
            owned weights and all heads keep learning, from batches drawn evenly from the training data of all days so
            far. The agent keeps these data, and a day does not take more steps. ``"fine-tune"``: owned weights keep
            learning from the day's task alone. With the last two, every task sees all owned weights, biases and norms
            are shared and move, and a day without free weights trains owned weights. For a way of your own, give an
            instance of `daynight.training.consolidation.Consolidation`.
        replay: How many examples of past days the agent keeps, and how much of each batch they are; None keeps none.
            With ``consolidation="freeze"``, they count on days whose task succeeds another. With ``"rehearse"``, every
            day has them in place of all data of earlier days, which the agent then does not keep. See `Replay`.
        criterion: Scores weights; a prune keeps the weights with the highest scores. See `daynight.criteria`.
        gate: Decides at dawn whether the day's task takes over from the one that it succeeds. If it refuses, the day
            leaves nothing behind. None lets every successor take over.
        keeps: What each task keeps of its own day's training data at its dawn, until it retires: ``"profile"``, some
            quantiles of each input feature, for `drift`; ``"signature"``, means and covariances of the classes, for
            `identify` and for `predict` without a task. No example is kept. The data are read again for each, at dawn,
            which is no part of the night's budget.
        device: Device of the network, and of a task's data while they are in use.

    Attributes:
        network: The `MaskedNetwork`.
        capacity: As given.
        training: As given, or the default settings.
        seed: As given.
        consolidation: The way to consolidate, as an object.
        replay: As given.
        criterion: As given.
        gate: As given.
        keeps: As given, as a tuple in the order above.
        device: The device of the network.
        snapshot: The attributes that the network's modules had when it was given, by which files recognise it.

    One thread at a time uses an agent. Calls that ask it for something, such as `predict`, wait for each other. While
    a thread trains it, calls from other threads raise `StateError`; hooks of the training itself may predict. Agents of
    their own in several threads give what they give alone, and take turns between optimizer steps.

    Raises:
        NetworkError: If the network has no weights to mask, or a tensor that could change unnoticed.
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
        mask: Exclude = (),
        consolidation: Consolidation | str = "freeze",
        replay: Replay | None = None,
        criterion: Criterion = magnitude,
        gate: Gate | None = None,
        keeps: Collection[str] = (),
        device: str | torch.device = "cpu",
    ) -> None:
        if gate is not None:
            checks.kind("gate", gate, Gate, "Gate(tolerance=0.01)")
        self.keeps = kinds_of(keeps)
        checks.kind("capacity", capacity, Capacity, "Capacity(free_at_end=0.95, days=5)")
        if training is not None:
            checks.kind("training", training, Training, "Training(batch_size=128)")
        device = checks.usable_device(device)
        quiet.wait_quietly()
        with seeding.forked(seed, "network", device=device):
            module = network() if callable(network) and not isinstance(network, nn.Module) else network
        self.consolidation, self.replay = consolidation_of(consolidation), replay
        self.network = self.consolidation.network(
            module, head=head, make_head=make_head, exclude=exclude, private=private, mask=mask, biases=biases,
            restart=restart, device=device,
        )  # fmt: skip
        self.capacity, self.training = capacity, Training() if training is None else training
        self.seed, self.criterion = checks.integer("seed", seed, least=0), criterion
        criteria.check(criterion)
        if replay is not None:
            check_replay(replay, self.consolidation, self.training)
        self.gate = gate
        self.device = next(iter(self.network.weights.values())).device
        self.snapshot = Snapshot.of(self.network.module, module)
        self._n_steps = 0  # before the current day
        self._past = Past(
            self.consolidation, replay, gate, self.keeps, seed=self.seed, dtype=self.network.dtype, device=self.device
        )
        self._today: Day | None = None
        self._scheduled = set[schedules.Phase]()  # phases whose scheduler was tried
        self._keeper, self._passed = self._new_keeper(), Passed()

    def __setstate__(self, state: dict[str, Any]) -> None:
        quiet.wait_quietly()
        for name, value in state.items():
            setattr(self, name, value)
        self._keeper = self._new_keeper()
        if any(parameter.is_shared() for parameter in self.network.module.parameters()):
            # A process that sends tensors shares their memory with the one that gets them.
            own = self.network, self._today, self._past.memory
            self.network, self._today, self._past.memory = copy.deepcopy(own)

    def __repr__(self) -> str:
        return f"<Agent on day {self.day}, {self.phase}: {self.n_free:,} of {self.n_weights:,} weights free>"

    @property
    def day(self) -> int:
        """Index of the current or next day, which is the number of finished days."""
        return self.network.n_tasks

    @property
    def phase(self) -> Literal["between days", "wake", "dusk", "night"]:
        """The phase of the current day; ``"between days"`` if no day has begun."""
        return "between days" if self._today is None else self._today.phase

    @property
    def days(self) -> tuple[Record, ...]:
        """The record of each finished day whose task has not retired."""
        return tuple(self._past.records.values())

    @property
    def refused(self) -> Record | None:
        """The record of the last finished day, if the gate has refused its task; otherwise None."""
        return self._past.refused

    @property
    def living(self) -> tuple[int, ...]:
        """The indices of the finished tasks that have not retired."""
        return self.network.living

    @property
    def task_names(self) -> tuple[str, ...]:
        """The name that each finished task had on its day; empty for one without a name, or that has retired."""
        forms = self._past.roll.forms
        return tuple(forms[task].name if task in forms else "" for task in range(self.day))

    @property
    def kept_tasks(self) -> tuple[Task, ...]:
        """Finished tasks whose data the agent keeps, which are all of them with ``"rehearse"`` and without `replay`."""
        return tuple(self._past.kept)

    @property
    def n_steps(self) -> int:
        """Number of optimizer steps that the agent has taken in its life."""
        return self._n_steps if self._today is None else self._today.step

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget of the current phase is spent; infinite unless it is a budget in time."""
        return math.inf if self._today is None else self._today.seconds_left

    @property
    def n_weights(self) -> int:
        """Number of maskable weights; the fractions of the capacity refer to it."""
        return sum(self.network.sizes.values())

    @property
    def owned(self) -> tuple[int, ...]:
        """Number of weights that each finished task owns. Those of a retired task are seen by a living one."""
        counts = torch.zeros(self.day, dtype=torch.int64)
        for owners in self.network.owners.values():
            finished = owners[(owners >= 0) & (owners < self.day)].cpu().long()
            counts += torch.bincount(finished, minlength=self.day)
        return tuple(counts.tolist())

    @property
    def n_free(self) -> int:
        """Number of weights that no task owns."""
        return sum(self.network.count(FREE).values())

    def check(
        self, task: Task, day: int | None = None, like: Task | None = None, before: Sequence[Task] = ()
    ) -> None:  # fmt: skip
        """Raise an error unless `task` can be learnt on `day`. Nothing is trained.

        Args:
            task: The task.
            day: Index of the day, from 0; None is the current or next one.
            like: The task of day 0; used only if day 0 has not begun.
            before: The tasks of the days from the current or next one to the day before `day`.

        Raises:
            StateError: If `day` has begun with another task.
            DataError: If the task's inputs have another shape than those of day 0, or if `day` is finished and its task
                had another name or number of outputs; if the night chooses what the task keeps, or trials what it sees,
                and it has no validation split.
            NetworkError: If the network cannot read the task's inputs or make its outputs.
            SettingError: If the optimizer, the loss or the metric fails for the task.
            CapacityError: If no weight is free on that day, or the task gets no new weight in a layer.
        """
        with self._drawing("check"):
            self._outlook.check(task, day, like, before)

    def check_today(self, task: Task) -> None:
        """Raise StateError if a day has begun with another task than `task`."""
        self._outlook.check_today(task)

    def check_scheduler(self, task: Task, wake: Budget | None = None, night: Night | None = None,
                        plan: Sequence[Cycle] | None = None) -> None:  # fmt: skip
        """Raise SettingError unless the training's scheduler can take all steps of a wake and of a night.

        Each is tried once, without training, unless all together take more than 100,000 steps or their number is
        unknown. If the task has ``sees="best"``, it is also checked that the wake can have trials.

        Args:
            task: The day's task.
            wake: Budget of the wake; None leaves it out.
            night: The snapshot of the night at dusk; None leaves it out.
            plan: The cycles of the night; None if the policy reacts.
        """
        if wake is not None:
            self._outlook.check_tried(task, wake, self.day if night is None else night.day)
        if self.training.scheduler is None:
            return
        replay = self._outlook.replay_of(task, self.day) if night is None else None
        per_epoch = self.training.steps_per_epoch(task, replay) if night is None else night.steps_per_epoch
        phases = [] if wake is None else schedules.of_wake(wake, per_epoch)
        phases += [] if night is None else schedules.of_night(plan, night, self.training.carry_optimizer)
        with self._drawing("check_scheduler"):
            self._check_phases(phases)

    def _check_phases(self, phases: Iterable[schedules.Phase]) -> None:
        schedules.check(self.training, self.network, phases, self._scheduled)

    def wake(
        self, task: Task, budget: Budget, on_event: Hook = ignore, *, remember: Iterable[float] = (),
        sees: Literal["all", "none", "best"] | Iterable[int | str] | None = None, succeeds: int | str | None = None,
    ) -> None:  # fmt: skip
        """Train on the day's task: the task sees weights of earlier tasks, and only free weights move.

        After an interruption, call `wake` again with the same task to resume the day's wake.

        A task that succeeds another begins with that task's weights, biases, norms and head, and sees what it sees. The
        weights that no other living task sees are taken over: they learn on, and the night may prune them. The head may
        have more outputs; the first ones are the old ones. At dawn, the earlier task retires.

        With ``sees="best"``, the wake begins with trials. They compare seeing none, all, and each living task, and then
        the best single task together with others, one by one as long as that helps. Each has as many steps (or
        seconds), on the training data from the same initial values, and the lowest loss on the validation data decides.
        All trials together take at most a fifth of the budget. The day then begins as if `sees` had said what was
        chosen, with what is left of the budget: with equal steps, both days give the same bits. Each trial has a record
        of the kind ``"trial"``; the record of the day says what the task sees. Trials that are interrupted begin anew.

        Args:
            task: The task of the day.
            budget: What the wake may spend. An interrupted wake resumes with the budget of its first call.
            on_event: Called with each record and progress event.
            remember: Shares of the wake, 0 to 1. The weights at each of these points are kept, for cycles that rewind
                to them.
            sees: Whose weights the task sees: ``"all"`` earlier tasks', ``"none"``, ``"best"``, or the living tasks
                whose names or indices are given. To see a task means to see its own weights and all that it sees.
                None is what the task says.
            succeeds: Name or index of the living task of which this one is a new version; None is what the task says.

        Raises:
            StateError: If the day's wake is over, or the day has begun with another task; if `sees` or `succeeds` names
                a task that has retired or was not learnt; if this is called in a hook, or while another thread trains
                the agent.
            SettingError: If `budget` is not valid, or the scheduler cannot take as many steps; if `sees` or `succeeds`
                is given and owned weights keep learning; if `budget` has no step for each trial.
            TrainingError: If loss or weights are not finite; see `abandon_day`.
            DataError: If trials need a validation split, and the task has none; see also `check`.
            NetworkError, CapacityError: See `check`.
        """
        checks.function("on_event", on_event)
        checks.gradients("wake", self.network.module.parameters())
        checks.kind("remember: shares of the wake", remember, Iterable, "[0.05, 1.0]")
        shares = [share_of_wake(share) for share in remember]
        check_task(task)
        sees = task.sees if sees is None else sees
        views = Views.of(task.succeeds if succeeds is None else succeeds, "all" if sees is None else sees)
        with self._keeper.long("wake"):
            self._wake(task, budget, on_event, shares, views)

    def _wake(self, task: Task, budget: Budget, on_event: Hook, shares: Sequence[float], views: Views) -> None:
        if self.phase in ("dusk", "night"):
            raise StateError(f"day {self.day} has had its wake: call sleep, or finish_night.")
        self.training.check_budget("the wake's budget", budget)
        if self._today is None:
            outlook, forms = self._outlook, self._past.roll.forms
            outlook.check(task, views=views, begins=True)
            replay = outlook.replay_of(task, self.day, views=views)
            tryout = Tryout(task, self.network, self.training, budget) if views.is_tried else None
            steps_per_epoch = self.training.steps_per_epoch(task, replay)
            self._check_phases(tryout.phases if tryout else schedules.of_wake(budget, steps_per_epoch))
            succeeds, seen = self._past.roll.predecessor(task, views), outlook.seen(views)
            if succeeds is not None:
                self._past.verify_task(succeeds, self.network)  # its seal ends with the day
            form = Form.of(task, None if succeeds is None else forms[succeeds])
            trainer, choice = self._trainer_of(task, succeeds), None
            if tryout is not None:
                seen, choice = tryout.run(trainer, self.seed, self.device, on_event)
            with interrupts.deferred(), seeding.forked(self.seed, "head", self.day, device=self.device):
                self.network.begin_day(task.n_outputs, seen, succeeds)
                self._today = self._day_of(task, trainer)
                if choice is not None:
                    self._today.begin_after(choice)
                forms[self.day] = form
        else:
            self.check_today(task)
        self._today.wake(budget, on_event, shares)

    def night(self, task: Task, budget: Budget, day: int | None = None, before: Sequence[Task] = ()) -> Night:
        """Return the snapshot, at dusk, of the night after `task`; `SleepPolicy.plan` takes it.

        Args:
            task: The day's task.
            budget: What the night may spend.
            day: Index of the day, from 0; None is the current or next one.
            before: The tasks of the days from the current or next one to the day before `day`.

        Raises:
            DataError, SettingError: If `task`, `budget` or `day` is not valid.
            CapacityError: If no weight is free on that day, or the task gets no new weight in a layer.
        """
        return self._outlook.night(task, budget, day, before)

    def sleep(self, policy: SleepPolicy, budget: Budget, on_event: Hook = ignore) -> None:
        """Consolidate the day's task: prune and retrain, cycle by cycle, down to what the task keeps.

        If a night is interrupted, an error occurs, or the policy breaks a rule, the night goes back to the end of its
        last finished cycle, or to dusk, and stays open. To resume it within the rest of its budget, call `sleep` again;
        to end it, call `finish_night`.

        Args:
            policy: Chooses the cycles.
            budget: What the night may spend. An open night resumes with the budget of its first call.
            on_event: Called with each record and progress event.

        Raises:
            StateError: If the day has had no wake; if this is called in a hook, or while another thread trains the
                agent.
            SettingError: If `policy` or `budget` is not valid, or the scheduler cannot take the steps of a REM.
            PolicyError: If the policy breaks a rule. A plan is checked before the night; a policy that reacts is
                checked at each cycle.
            TrainingError: If the loss is not finite.
            DataError: If the task, or the agent, is to keep something of the day's data, and these cannot be read; the
                night stays open.
        """
        checks.function("on_event", on_event)
        checks.gradients("sleep", self.network.module.parameters())
        self.training.check_budget("the night's budget", budget)
        with self._keeper.long("sleep"):
            today = self._day_at_dusk("sleep")
            if self.phase == "dusk" and self.training.scheduler is not None:
                night = self.night(today.task, budget)
                plan = planned(policy, night)
                self._check_phases(schedules.of_night(plan, night, self.training.carry_optimizer))
            today.sleep(policy, budget, on_event)
            record = self._finish_night(on_event)
        on_event(record)

    def finish_night(self, on_event: Hook = ignore) -> None:
        """End the night now: prune down to the dawn density without a REM, and seal the task.

        A night that chooses its dawn density, and has not done so, ends at the equal share (see `Capacity`).

        An agent with `replay` then keeps some of the day's training examples. If they cannot be read, nothing is
        changed, and the night stays open.

        Args:
            on_event: Called with the record of the prune, if one is needed, and with the record of the day.

        Raises:
            StateError: If the day has had no wake; if this is called in a hook, or while another thread trains the
                agent.
            TrainingError: If a number that the day trains, or an output of the task, is not finite; see `abandon_day`.
            DataError: If the task, or the agent, is to keep something of the day's data, and these cannot be read; the
                night stays open.
        """
        checks.function("on_event", on_event)
        with self._keeper.long("finish_night"):
            record = self._finish_night(on_event)
        on_event(record)

    def _finish_night(self, on_event: Hook) -> Record:
        """End the night, and return the record of the day."""
        today = self._day_at_dusk("finish_night")
        close = self._past.closing(today, self.network, self.training)
        with interrupts.deferred():
            record = close(on_event)
            self._today, self._n_steps = None, today.step
        return record

    def abandon_day(self) -> None:
        """Give up the day: forget its task and all that was learnt today.

        This is for a day whose training has failed. Earlier tasks do not change. `n_steps` still counts the optimizer
        steps of the day. A `Clock` that runs the day again deletes the records of the first try.

        Raises:
            StateError: If no day has begun; if this is called in a hook, or while another thread trains the agent.
        """
        with self._keeper.long("abandon_day"), interrupts.deferred():
            if self._today is None:
                raise StateError("abandon_day: no day has begun.")
            self._n_steps = self._today.step
            self.network.abandon_day()
            del self._past.roll.forms[self.day]
            self._today = None

    def retire(self, task: int | str) -> None:
        """Forget a finished task: it predicts no longer, and its head, biases and norms are gone.

        So are the examples that `replay` keeps of it, and of the tasks that it succeeded. Weights that no other living
        task sees become free. All other tasks predict the same bits; indices and names of others stay.

        Args:
            task: Index of the task, or its name.

        Raises:
            StateError: If the task has not been learnt or has retired, it is the only living one, or a day has begun.
            SettingError: If owned weights keep learning, and all tasks see all of them.
        """
        with self._keeper.long("retire"), interrupts.deferred():
            if not self.consolidation.freezes:
                raise SettingError(
                    f"retire: with consolidation={self.consolidation.name!r} all tasks share all weights, and none has "
                    "weights of its own to leave. Take consolidation='freeze'."
                )
            if self._today is not None:
                raise StateError(f"retire: day {self.day} has begun. Call finish_night, or abandon_day, before.")
            index = self._past.roll.index_of(task, "retire")
            if self.living == (index,):
                raise StateError(f"retire: task {index} is the only living task. To forget all, make a new agent.")
            self.network.retire(index)
            if self._past.memory is not None:
                self._past.memory.forget(index)
            self._past.forget_retired(self.network)

    def fork(self, capacity: Capacity | None = None) -> Agent:
        """Return a second, independent agent in the same state. Both share the examples, which are not copied.

        Args:
            capacity: Capacity of the new agent; None is this agent's. It can differ only before the first night has
                passed.

        Raises:
            StateError: During a wake or a night, or if `capacity` differs after the first night.
        """
        with self._keeper.short("fork"):
            return self._fork(capacity)

    def _fork(self, capacity: Capacity | None) -> Agent:
        if self.phase in ("wake", "night"):
            raise StateError(f"fork: an agent can be copied between days and at dusk, not in its {self.phase}.")
        if capacity not in (None, self.capacity) and self.day:
            raise StateError(f"fork: {self.day} nights have passed with this capacity, which cannot change any more.")
        twin = copy.copy(self)  # with a keeper of its own, as `__setstate__` makes it
        twin._passed = Passed()
        twin.capacity = self.capacity if capacity is None else capacity
        twin.network = copy.deepcopy(self.network)
        twin._past = self._past.fork()
        twin._today = None if self._today is None else self._today.fork(twin.network, twin.capacity)
        return twin

    @overload
    def predict(self, inputs: Any, task: int | str) -> Tensor: ...

    @overload
    def predict(self, inputs: Any, task: None = None) -> Answer: ...

    def predict(self, inputs: Any, task: int | str | None = None) -> Tensor | Answer:
        """Compute a task's outputs, or find out which task is asked for, without changing the agent.

        With ``consolidation="freeze"``, equal inputs give the same bits at every call from the task's dawn on.

        Args:
            inputs: Tensor or array (n, ...) of the shape that the task was trained on; uint8 values are pixels, and are
                scaled to 0 to 1.
            task: Index of a finished task, or of the current one; or a name, which asks the latest finished version of
                the task with that name. None chooses a task for each input, if the agent has ``keeps=("signature",)``.

        Returns:
            Class scores before a softmax, or regression outputs, as floating point (n, outputs of the task), on the
            agent's device. Without a task, an `Answer` (see `daynight.networks.identify`) with the outputs of all
            living tasks, the chosen task and its probability.

        Raises:
            StateError: If the task has not begun or has retired, or several tasks have the name; if no task is given,
                and none is finished or tasks keep no signature.
            DataError: If the inputs have another shape, are not numbers, or hold values that are missing or not finite.
        """
        with self._keeper.short("predict"):
            if task is None:
                return self._answers.without_task(inputs)
            return self._answers.of_task(inputs, task)

    def identify(self, inputs: Any) -> Tensor:
        """Compute how probable it is that inputs belong to each living task, or to none of them.

        See `daynight.networks.identify.probabilities`. Inputs are compared as they are before the training's transform.

        Args:
            inputs: As in `predict`.

        Returns:
            The probabilities, float64 (n, living tasks + 1), on the agent's device. Columns are the tasks in the order
            of `living`, and the last one is "none of these". Rows sum to 1.

        Raises:
            StateError: If tasks keep no signature (see `keeps`), or none is finished.
            DataError: As in `predict`.
        """
        with self._keeper.short("identify"):
            return self._answers.recognised("identify", inputs)

    def drift(self, task: int | str, inputs: Any, level: float = 0.05) -> Drift:
        """Test whether new inputs have another distribution than those that a task was trained on.

        See `daynight.data.drift.drift`, which says which tests these are.

        Args:
            task: Index or name of a finished task, as in `predict`.
            inputs: Tensor or array (n, ...) of the shape that the task was trained on, uint8 for pixels; or a `Split`.
                Values may be missing or not finite.
            level: Probability of finding drift if there is none, above 0 and below 1.

        Raises:
            StateError: If tasks keep no profile (see `keeps`), or the task is not finished or has retired.
            DataError: If the inputs cannot be read, or have another shape.
            SettingError: If `level` is not valid.
        """
        with self._drawing("drift"):
            return self._past.keepsakes.drift(self._answers.finished("drift", task), inputs, level)

    def evaluate(self, task: Task, index: int, split: str = "test") -> tuple[float, float]:
        """Measure loss and score of task `index` on one of its splits.

        Args:
            task: The task.
            index: The day on which it was learnt, from 0.
            split: ``"test"``, ``"validation"`` or ``"train"``.

        Returns:
            Loss, and metric (accuracy by default).

        Raises:
            DataError: If the task has no split of that name, or another number of outputs or input shape than on its
                day.
            StateError: If the day has not begun.
        """
        check_task(task)
        check_split(task, split)
        # For metrics that draw random numbers. Their stream is named by the index, which is checked first.
        named = int(index) if isinstance(index, numbers.Integral) else 0
        with self._drawing("evaluate"), seeding.forked(0, "evaluate", named, device=self.device):
            return self._answers.measured(task, index, split)

    def score_without_task(self, task: Task, index: int, split: str = "test") -> float | None:
        """Measure the share of examples that get the right task and the right class if nobody names the task.

        Args:
            task: The task.
            index: The day on which it was learnt, from 0.
            split: ``"test"``, ``"validation"`` or ``"train"``.

        Returns:
            The share, 0 to 1; None if the tasks keep no signature, the task has no classes, or it is not finished.

        Raises:
            DataError: As in `evaluate`.
        """
        check_task(task)
        check_split(task, split)
        if "signature" not in self.keeps or not task.classifies or index not in self.living:
            return None
        with self._drawing("score_without_task"), seeding.forked(0, "evaluate", int(index), device=self.device):
            return self._answers.score_without_task(task, index, split)

    def test_first(self, task: Task) -> tuple[int, float | None, float] | None:
        """Measure the version that a task is to succeed on the task's training data, before they are learnt.

        This is the test-then-train score of learning from streams. (J. Gama, R. Sebastião and P. P. Rodrigues, "On
        evaluating stream learning algorithms", Machine Learning 90, 2013.)

        Args:
            task: The task of the next day.

        Returns:
            Index of the version, its loss, and its score; the loss is None if the task has more outputs than the
            version. None if there is no such version.

        Raises:
            StateError: If there is no such living task.
            DataError: If the inputs have another shape than those that were learnt.
        """
        check_task(task)
        with self._drawing("test_first"), seeding.forked(0, "evaluate", self.day, device=self.device):
            return self._answers.of_predecessor(task)

    def verify(self) -> None:
        """Check that all numbers that finished tasks use or keep are, bit for bit, the same as at the tasks' dawns.

        So must be the examples that `replay` keeps.

        Raises:
            SealError: If a tensor has changed; the error names it.
            StateError: If the tasks are not sealed, because owned weights keep learning.
        """
        with self._keeper.short("verify"):
            self._past.verify(self.network)

    def unmoved(self) -> frozenset[int]:
        """Return the indices of the living finished tasks that use the same numbers, bit for bit, as at their dawns.

        The first call compares as `verify` does. Later ones digest what tasks share once, whatever the number of tasks.
        Of the tensors of a task's own, they compare which they are and how often PyTorch has counted a write to them.

        Returns:
            The indices; none if the tasks are not sealed, because owned weights keep learning.
        """
        with self._keeper.short("unmoved"):
            if self._today is not None:
                self._today.trainer.flush()
            return self._past.unmoved(self.network)

    def subnetwork(self, task: int, *, compact: bool = False) -> nn.Module:
        """Return a finished task's subnetwork as a plain module, in evaluation mode.

        The module takes floating-point inputs, to which the training's transform, if there is one, has been applied.

        Args:
            task: Index of the task.
            compact: Whether to leave out the units, channels and inputs that have no effect, as far as the network is a
                chain of layers. The outputs are then equal except for rounding; they are checked to be within 1e-6.

        Returns:
            A copy of the network's module with the task's head, in which weights that the task does not use are zero;
            with `compact`, a smaller module.

        Raises:
            StateError: If the task is not finished.
            ExportError: If the compact module has other outputs.
        """
        with self._drawing("subnetwork"):
            module = compaction.plain(self.network, self._answers.finished("subnetwork", task))
            if not compact:
                return module
            return compaction.compact(module, {*self.network.weights, self.network.anatomy.head}, self._probe(task))

    def export(self, task: int | str, path: str | os.PathLike[str], *, compact: bool = False) -> None:
        """Write a finished task's subnetwork into a file that other programs run.

        Args:
            task: Index or name of the task, as in `predict`.
            path: Path of the file. The ending names the format: ``.pt`` or ``.safetensors`` holds the state dict of
                `subnetwork`; ``.pt2`` (`torch.export`) or ``.onnx`` computes the same as `predict`, for any number of
                inputs.
            compact: See `subnetwork`.

        Raises:
            StateError: If the task is not finished.
            SettingError: If the ending names no format.
            MissingPackageError: If ONNX is not installed.
            ExportError: If the subnetwork cannot be exported, or the outputs of the written file are not within 1e-5.
            OutputError: If the file cannot be written.
        """
        with self._drawing("export"):
            index = self._answers.finished("export", task)
            network, inputs = self.subnetwork(index, compact=compact), self._answers.probe(index)
            export(path, network, self.training.transform, inputs, self.predict(inputs, index))

    def sizes(self) -> tuple[Size, ...]:
        """Return the sizes of the parts of the agent: weights, heads, owner maps, what it keeps, and the optimizer.

        Of the weights, it also says how many are owned in vain.

        Raises:
            StateError: If a day has begun.
        """
        with self._drawing("sizes"):
            if self._today is not None:
                raise StateError(f"sizes: day {self.day} has begun. Call finish_night, or abandon_day, before.")
            return sizes(self.network, self.training, self._past.parts(), self._probe)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the agent into one file, which `load` reads. The file is written whole or not at all.

        Raises:
            StateError: If a day has begun.
            SealError: If a number has changed since the last night, so that `load` would refuse the file. An older file
                stays.
            OutputError: If the file cannot be written; an older file stays.
        """
        with self._keeper.short("save"):
            if self._today is not None:
                raise StateError(f"save: day {self.day} has begun. Call finish_night, or abandon_day, before.")
            about = attrs.evolve(
                self.about(), kept=tuple(map(agents.digest_of_task, self.kept_tasks)),
                code=agents.code_of(self.network, self.snapshot), transform=agents.code_of_transform(self.training),
            )  # fmt: skip
            if self.consolidation.freezes:
                self.verify()
            tensors = self.network.state() | self._past.tensors()
            agents.write(path, about, tensors, lambda: self._past.check_state(self.network, about, tensors))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        network: nn.Module | Callable[[], nn.Module] | None = None,
        *,
        training: Training | None = None,
        make_head: Callable[[int], nn.Module] | None = None,
        criterion: Criterion | None = None,
        consolidation: Consolidation | None = None,
        kept: Sequence[Task] = (),
        device: str | torch.device = "cpu",
    ) -> Agent:
        """Read an agent that `save` wrote. The file contains no code: give your own functions and classes again.

        If the code of your own network or transform has changed since then, there is a warning, because finished tasks
        may get other predictions.

        Args:
            path: The file.
            network: The network that was given to the agent; not needed for the library's own models.
            training: The training that was given to the agent; not needed if it had no functions of its own.
            make_head: The function that was given to the agent.
            criterion: The criterion that was given to the agent; not needed for the library's own criteria.
            consolidation: The way to consolidate that was given to the agent; not needed for the library's own ways.
            kept: With ``consolidation="rehearse"``, the tasks of all days so far.
            device: Device of the network, and of a task's data while they are in use.

        Raises:
            DataNotFoundError: If there is no such file.
            DamagedFileError: If the file is damaged, is not an agent's, or was written by a newer version.
            SettingError, NetworkError, DataError: If an argument does not fit the saved agent.
        """
        about, tensors = agents.read(path)
        way = agents.consolidation_of(about, consolidation)
        agents.check(path, about, tensors, way, has_network=network is not None)
        given = agents.network_of(about, network, tensors)
        training, criterion = agents.training_of(about, training), agents.criterion_of(about, criterion)
        rest = agents.settings_of(about) | {"training": training, "criterion": criterion}
        try:
            agent = cls(given, make_head=make_head, consolidation=way, device=device, **rest)
        except NetworkError as error:
            raise NetworkError(
                f"the network is not the one that {os.fspath(path)!r} was saved with: {error}", page="files"
            ) from error
        with agents.fitting(path):
            agent.restore(about, tensors, agents.kept_of(about, kept))
        agents.check_code(about, agent.network, agent.snapshot)
        agents.check_transform(about, training)
        return agent

    def about(self) -> contents.About:
        """Return the description of the agent in files, without the slow fields `kept` and `code`."""
        return agents.about(
            self.network, self.training, self.criterion, consolidation=self.consolidation.name, capacity=self.capacity,
            seed=self.seed, n_steps=self._n_steps, n_days=None if self.day == len(self.days) else self.day,
            sees={str(task): owners for task, owners in self.network.sees().items()}, succeeds=self.network.succeeds,
            **self._past.about(),
        )  # fmt: skip

    def state(self) -> tuple[contents.About, dict[str, Tensor], dict[str, Any] | None]:
        """Return the whole state of the agent; `restore` takes it, and a `Clock` writes it into checkpoints.

        During a phase, call this only from a hook, and only at a progress event.

        Returns:
            The description of the agent in files, the tensors of its network, its keepsakes and its kept examples by
            name, and the state of the current day; None between days.
        """
        with self._keeper.short("state"):
            today = None if self._today is None else self._today.state()  # first: writes trained numbers to the network
            return self.about(), self.network.state() | self._past.tensors(), today

    def restore(
        self,
        about: contents.About,
        tensors: Mapping[str, Tensor],
        kept: Iterable[Task],
        day: tuple[Task, Budget, Budget, dict[str, Any]] | None = None,
    ) -> None:
        """Take over the state of an agent with the same settings and at least as many finished days.

        Args:
            about: The description of that agent.
            tensors: The tensors of its network, its keepsakes and its kept examples, by name.
            kept: The tasks of the finished days; empty unless the agent keeps them.
            day: The task of the current day, the budgets of its wake and night, and its state; None between days.

        Raises:
            SealError: If a tensor is not as it was sealed.
            NetworkError: If the network has other tensors.
            ValueError: If values do not fit.
        """
        with self._keeper.long("restore"):
            told = about.told()
            today = told.pop(about.n_finished) if day else None
            tensors = self._past.restore(about, tensors, kept)
            with seeding.forked(self.seed, "load", device=self.device):
                self.network.restore(tensors, about.n_finished, told, today)
            self._n_steps = about.n_steps
            if self.consolidation.freezes:
                self.verify()
            self._past.check_state(self.network, about, tensors, is_day=day is not None)
            if day is not None:
                task, wake, night, state = day
                trainer, room = self._trainer_of(task, self.network.succeeds), room_of(self.network, self.capacity)
                dusk = dusk_of(task, night, self.day, room, self.training, trainer.replay)
                resumed.check_day(state, self.network, dusk, self._n_steps)
                self._today = self._day_of(task, trainer)
                self._today.restore(state, wake, night)

    def _new_keeper(self) -> threads.Keeper:
        # All calls of an agent compute on equally many threads, so that predictions have the bits of those at dawn.
        return threads.Keeper(cores.chooser(self.network.module, max(CHUNK, self.training.batch_size)))

    @contextlib.contextmanager
    def _drawing(self, call: str) -> Iterator[None]:
        """Use the agent for a short call that needs the global generators.

        The generators come first, so that two threads never wait for each other: training has the agent, and then waits
        for the generators, but does not let others wait for the agent.
        """
        self._keeper.check(call)  # a hook may wait for this thread
        with seeding.shielded(self.device), self._keeper.short(call):
            yield

    def _probe(self, task: int) -> Tensor:
        """Return some random inputs (64, ...) of a task's shape, with the training's transform."""
        inputs = self._answers.probe(task)
        return inputs if self.training.transform is None else self.training.transform(inputs)

    def _trainer_of(self, task: Task, succeeds: int | None) -> Trainer:
        trained, past = self._past.taught(task, succeeds)
        rest = self.seed, self.device, self._n_steps, self.replay, past
        return Trainer(trained, self.network, self.training, *rest)

    @property
    def _outlook(self) -> Outlook:
        past = self._past
        return Outlook(
            network=self.network, capacity=self.capacity, training=self.training, consolidation=self.consolidation,
            roll=past.roll, replay=self.replay, memory=past.memory, gatekeeper=past.gatekeeper, seed=self.seed,
            device=self.device, today=self._today, passed=self._passed,
        )  # fmt: skip

    @property
    def _answers(self) -> Answers:
        return Answers(
            network=self.network, training=self.training, roll=self._past.roll, keepsakes=self._past.keepsakes,
            device=self.device, today=self._today,
        )  # fmt: skip

    def _day_of(self, task: Task, trainer: Trainer) -> Day:
        return Day(task, trainer, self.network, self.capacity, self.training, criterion=self.criterion)

    def _day_at_dusk(self, call: str) -> Day:
        if self._today is None or self.phase not in ("dusk", "night"):
            raise StateError(f"{call}: day {self.day} has had no whole wake yet. Call wake first.")
        return self._today
