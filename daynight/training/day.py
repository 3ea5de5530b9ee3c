"""`Day`: the wake and the night of one task, on an agent's network."""

from __future__ import annotations

import contextlib
import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from daynight.criteria import Criterion, looks_back
from daynight.data.batches import Batches
from daynight.data.replay import Replay
from daynight.data.tasks import Task
from daynight.history import Hook, Progress, Record
from daynight.networks.masked import FREE, MaskedNetwork
from daynight.nights.budgets import Budget, Ledger, Steps, opened
from daynight.nights.cycle import Night
from daynight.nights.gate import Verdict
from daynight.nights.policy import SleepPolicy
from daynight.pruning.capacity import Capacity, Room
from daynight.training.night import Sleep
from daynight.training.settings import Training
from daynight.training.trainer import Trainer
from daynight.training.tryouts import Choice


def dusk_of(
    task: Task, budget: Budget, day: int, room: Room, training: Training, replay: Replay | None = None
) -> Night:  # fmt: skip
    """Return the snapshot, at dusk, of the night of `day`. It does not depend on the trained weights."""
    steps_per_epoch = training.steps_per_epoch(task, replay)
    ledger = opened(budget, steps_per_epoch)
    return Night(
        day=day,
        budget=budget,
        n_steps=ledger.n_steps,
        price=ledger.price,
        steps_per_epoch=steps_per_epoch,
        dawn_density=room.dawn_density,
        bank=room.bank,
        due_density=room.due_density,
        highest_density=room.highest_density,
    )


def room_of(network: MaskedNetwork, capacity: Capacity, succeeds: int | None = None) -> Room:
    """Return how many weights the task of the current or next day holds at dusk, and owns at dawn.

    Args:
        network: The network.
        capacity: The capacity.
        succeeds: Between days, index of the living task that the next one succeeds; None if there is none.
    """
    free = network.available(succeeds)
    return capacity.room(tuple(network.sizes.values()), network.n_tasks, tuple(free.values()))


class Day:
    """The state that lasts for one day: the trainer, and the ledgers, batches and snapshots of the phases.

    Args:
        task: The day's task.
        trainer: Trains the day's task, or its union with earlier tasks.
        network: The network, on that day.
        capacity: How many weights the task may own at dawn.
        training: How the task is learnt.
        criterion: Scores weights for a prune.
    """

    def __init__(
        self,
        task: Task,
        trainer: Trainer,
        network: MaskedNetwork,
        capacity: Capacity,
        training: Training,
        criterion: Criterion,
    ) -> None:
        self.trainer, self.task, self.index = trainer, task, network.n_tasks
        self.is_woken = False
        self._network, self._capacity, self._training = network, capacity, training
        self._criterion = criterion
        weights = network.weights.items() if looks_back(criterion) else ()
        self._start = {name: weight.detach().clone() for name, weight in weights}
        self._seconds = 0.0
        self._began: float | None = None  # when the current phase began
        self._choice: Choice | None = None  # of what the task sees, if it was tried
        self._wake: Ledger | None = None
        self._learnt: dict[float, dict[str, Tensor]] = {}  # by share of the wake, the weights that cycles may rewind to
        self._batches: Batches | None = None  # of the wake, until it is over
        self._sleep: Sleep | None = None

    @property
    def step(self) -> int:
        """Number of optimizer steps that the agent has taken in its life."""
        return self.trainer.step

    @property
    def phase(self) -> Literal["wake", "dusk", "night"]:
        """Which part of the day it is."""
        if self._sleep is not None:
            return "night"
        return "dusk" if self.is_woken else "wake"

    def begin_after(self, choice: Choice) -> None:
        """Note the trials by which it was chosen what the task sees. The wake has what they have left of its budget."""
        self._choice, self._seconds = choice, choice.seconds
        self.trainer.enter(choice.ledger)

    def fork(self, network: MaskedNetwork, capacity: Capacity) -> Day:
        """Return a copy of the day at dusk, on `network` (a copy of the network), before a night with `capacity`."""
        assert self._sleep is None
        twin = copy.copy(self)
        twin._network, twin._capacity, twin.trainer = network, capacity, self.trainer.fork(network)
        return twin

    def wake(self, budget: Budget, on_event: Hook, remember: Sequence[float] = ()) -> None:
        """Train on the task until the budget is spent. An interrupted wake resumes with the budget of its first call.

        Args:
            budget: What the wake may spend.
            on_event: Called with each record and progress event.
            remember: Shares of the wake, 0 to 1. The weights at each of these points are kept, for cycles that rewind
                to them.
        """
        if self._wake is None:
            self._batches = self.trainer.new_batches("wake")
            if self._choice is None:
                self._wake = opened(budget, self._training.steps_per_epoch(self.task, self.trainer.replay))
            else:
                self._wake = self._choice.ledger.rest()
            self._learnt = {0.0: self._network.learnt()} if 0.0 in remember else {}
        ledger, due = self._wake, [share for share in sorted(remember) if share not in self._learnt]

        def keep(is_over: bool = False) -> None:
            while due and (is_over or ledger.reached(due[0])):
                self.trainer.flush()
                self._learnt[due.pop(0)] = self._network.learnt()

        with self._timed(ledger):
            if self.trainer.is_interrupted or not ledger.reached(1.0):
                assert self._batches is not None
                if not self.trainer.has_optimizer:
                    self.trainer.optimize(ledger.n_steps, ledger.n_steps)
                place = Progress(day=self.index, phase="wake")
                self.trainer.train(place, self._batches, ledger, 1.0, on_event, after_step=keep if due else None)
        keep(is_over=True)
        self.trainer.rest()
        self._batches = None
        self.is_woken = True

    def state(self) -> dict[str, Any]:
        """Return the state of the day, without the network; `restore` takes it.

        During a phase, call this only from a hook, and only at a progress event.
        """
        parts = {"wake": self._wake, "batches": self._batches, "sleep": self._sleep, "lesson": self.trainer}
        running = 0.0 if self._began is None else time.perf_counter() - self._began
        return {
            "is_woken": self.is_woken, "seconds": self._seconds + running, "start": self._start, "learnt": self._learnt,
            **{name: None if part is None else part.state() for name, part in parts.items()},
            **({} if self._choice is None else {"choice": self._choice.state()}),
        }  # fmt: skip

    def restore(self, state: dict[str, Any], wake: Budget, night: Budget) -> None:
        """Take over what `state` returned. The day must be new, and the network restored already.

        Args:
            state: What `state` returned.
            wake: Budget of the wake.
            night: Budget of the night.
        """
        self.is_woken, self._seconds = state["is_woken"], state["seconds"]
        self._start = self._network.placed(state["start"])
        self._learnt = {share: self._network.placed(learnt) for share, learnt in state["learnt"].items()}
        ledgers = list[Ledger]()
        if "choice" in state:
            self._choice = Choice.restore(state["choice"], opened(wake, self._training.steps_per_epoch(self.task)))
            ledgers.append(self._choice.ledger)
        if state["wake"] is not None:
            self._wake = opened(wake, self._training.steps_per_epoch(self.task, self.trainer.replay))
            self._wake.restore(state["wake"])
            ledgers.append(self._wake)
        if state["batches"] is not None:
            self._batches = self.trainer.new_batches("wake")
            self._batches.restore(state["batches"])
        if state["sleep"] is not None:
            self._sleep = self._at_dusk(night)
            self._sleep.restore(state["sleep"])
            ledgers.append(self._sleep.ledger)
        self.trainer.restore(state["lesson"], ledgers)

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget of the current phase is spent; infinite unless it is a budget in time."""
        ledger = self._wake if self._sleep is None else self._sleep.ledger
        return math.inf if ledger is None or self.phase == "dusk" else ledger.seconds_left

    def sleep(self, policy: SleepPolicy, budget: Budget, on_event: Hook) -> None:
        """Run the cycles of the night, or those that are left (see `daynight.Agent.sleep`)."""
        sleep = self._sleep or self._at_dusk(budget)

        def begin() -> None:
            self._sleep = sleep

        if overdue := sleep.ledger.overdue:
            warnings.warn(
                f"the night of day {self.index} was to be over {overdue:,.0f} seconds ago: it prunes down to the dawn "
                "density at once, without another REM. Begin earlier, give the wake a deadline, or reserve less time.",
                stacklevel=2,
            )
        with self._timed(sleep.ledger):
            sleep.run(policy, begin, on_event)

    def finish_night(self, on_event: Hook, judge: Callable[[], Verdict | None] = lambda: None) -> Record:
        """Prune down to the dawn density, end the day, and return its record.

        Args:
            on_event: Called with the record of the prune.
            judge: Called before the day ends. If the verdict refuses its task, the day leaves nothing behind.

        Raises:
            TrainingError: If a number that the day trains, or an output of the task, is not finite.
        """
        self.trainer.check_finite()
        sleep = self._sleep or self._at_dusk(Steps(0))
        sleep.finish(on_event)
        verdict = judge()
        if is_kept := verdict is None or verdict.accepted:
            self._network.end_day()
        else:
            self._network.abandon_day()
            self._network.skip_day()
        wake_steps, n_tried = 0 if self._wake is None else self._wake.spent_steps, 0
        tried = dict[str, Any]()
        if self._choice is not None:
            n_tried = self._choice.ledger.spent_steps
            tried = {"sees": self._choice.label, "trial_steps": n_tried}
        return Record(
            kind="day",
            day=self.index,
            phase="dawn",
            step=self.step,
            owned=sum(self._network.count(self.index).values()),
            free=sum(self._network.count(FREE).values()),
            capacity=sum(self._network.sizes.values()),
            private=self._network.n_private(self.index) if is_kept else 0,
            wake_steps=n_tried + wake_steps,
            night_steps=sleep.ledger.spent_steps,
            unspent_steps=sleep.ledger.steps_until(1.0),
            n_train=len(self.task.train),
            elapsed_seconds=self._seconds,
            **sleep.ledger.times(),
            **({} if verdict is None else verdict.noted()),
            **tried,
            **self._saved(sleep.room),
        )

    def _saved(self, room: Room) -> dict[str, Any]:
        """Return, after the end of the day, the fields of its record that say what it has saved or borrowed."""
        if self._capacity.share != "need":
            return {}
        sizes, free = tuple(self._network.sizes.values()), tuple(self._network.count(FREE).values())
        before, after = (sum(self._capacity.owned_after(sizes, self.index + n)) for n in (0, 1))
        bank = self._capacity.bank(sizes, self.index + 1, free)
        return {"share": after - before, "bank_before": room.bank, "bank": bank}

    def _at_dusk(self, budget: Budget) -> Sleep:
        room = room_of(self._network, self._capacity)
        night = dusk_of(self.task, budget, self.index, room, self._training, self.trainer.replay)
        return Sleep(
            night, opened(budget, night.steps_per_epoch), trainer=self.trainer, network=self._network,
            capacity=self._capacity, room=room, training=self._training, criterion=self._criterion, start=self._start,
            learnt=self._learnt,
        )  # fmt: skip

    @contextlib.contextmanager
    def _timed(self, ledger: Ledger) -> Iterator[None]:
        self._began = began = time.perf_counter()
        has_gradients = torch.is_grad_enabled()
        try:
            ledger.resume()
            yield
        finally:
            torch.set_grad_enabled(has_gradients)  # Ctrl-C within PyTorch's code may leave them off
            ledger.pause()
            self._seconds += time.perf_counter() - began
            self._began = None
