"""`Day`: one task's wake and night, run on an agent's network."""

from __future__ import annotations

import time
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from daynight import pruning, seeding
from daynight.capacity import Capacity
from daynight.engines import blueprint
from daynight.engines.arena import ALIGNMENT
from daynight.engines.blueprint import Part
from daynight.errors import TrainingError
from daynight.history import Hook, Progress, Record
from daynight.network import FREE, MaskedNetwork
from daynight.optimization import Optimization, train
from daynight.policies import SleepPolicy, check_end, follow, planned_cycles
from daynight.prediction import predict
from daynight.schedule import Budget, Cycle, Ledger, Measured, Night, Steps
from daynight.tasks import Split, Task
from daynight.training import Batches, Training

#: A sign of life is given every so many optimizer steps.
PROGRESS_STEPS = 25


def dusk_of(
    task: Task, budget: Budget, day: int, network: MaskedNetwork, capacity: Capacity, training: Training
) -> Night:
    """Give the snapshot at dusk of the night of `day`, which the totals alone determine."""
    steps_per_epoch = training.steps_per_epoch(task)
    return Night(
        day=day,
        budget=budget,
        n_steps=budget.open(steps_per_epoch).n_steps,
        steps_per_epoch=steps_per_epoch,
        dawn_density=capacity.dawn_density(tuple(network.sizes.values()), day),
    )


class Day:
    """What lasts for one day only: its task, loaded, and the ledgers, batches and snapshots of its phases.

    Args:
        task: The day's task.
        network: The network, in that day.
        capacity: How many weights the task may own at dawn.
        training: How it is learnt.
        seed: Names the day's random streams.
        device: Where the task's data are put.
        step: Optimizer steps that the agent has taken before.
    """

    def __init__(
        self,
        task: Task,
        network: MaskedNetwork,
        capacity: Capacity,
        training: Training,
        seed: int,
        device: torch.device,
        step: int,
    ) -> None:
        self.task, self.index, self.step = task, network.n_tasks, step
        self.is_woken = False
        self.night: Night | None = None
        self._network, self._capacity, self._training = network, capacity, training
        self._seed, self._device = seed, device
        self._train_split = load(task.train, network.dtype, device)
        self._validation = None if task.validation is None else load(task.validation, network.dtype, device)
        self._began = time.perf_counter()
        self._wake_steps = 0
        self._ledger: Ledger | None = None
        self._batches: Batches | None = None
        self._optimization: Optimization | None = None
        self._is_training = False
        self._parts = self._live = None
        if training.engine != "module":
            self._parts, self._live = self._drawn()

    def flush(self) -> None:
        """Bring the network up to date with what has been trained, in the midst of a phase."""
        if self._is_training and self._optimization is not None:
            self._optimization.flush()

    def wake(self, budget: Budget, on_event: Hook) -> None:
        """Train on the task until the budget is spent."""
        ledger = budget.open(self._training.steps_per_epoch(self.task))
        sign = Progress(day=self.index, phase="wake")
        before = self.step
        try:
            if not ledger.reached(1.0):
                self._optimize(ledger.n_steps, ledger.n_steps)
                self._train(sign, self._new_batches("wake"), ledger, 1.0, on_event)
        finally:
            self._wake_steps += self.step - before
        self.is_woken = True

    def sleep(self, policy: SleepPolicy, budget: Budget, on_event: Hook) -> None:
        """Run the cycles of the night, or of what is left of it (see `daynight.Agent.sleep`)."""
        night = self.night or self._dusk(budget)
        n_cycles = planned_cycles(policy, night)
        if self._ledger is None:
            self._ledger = budget.open(night.steps_per_epoch)
            self._batches = self._new_batches("night")
        if n_cycles is None:
            night = attrs.evolve(night, measured=self._measure())
        # A night that was interrupted within a REM has spent more than its last finished cycle tells.
        self.night = night = attrs.evolve(night, spent=max(night.spent, self._ledger.spent))
        script = follow(policy, night)
        self._optimization = None
        cycle = next(script, None)
        while cycle is not None:
            self._cycle(cycle, n_cycles, on_event)
            self.night = self.night.after(cycle, self._measure() if n_cycles is None else None)
            try:
                cycle = script.send(self.night)
            except StopIteration:
                cycle = None
        if self.night.left > 0 or self.night.cycle == 0:
            check_end(policy, self.night)

    def dawn(self, on_event: Hook) -> Record:
        """Prune what is still above the dawn density, seal the task, and give the record of the day."""
        night = self.night or self._dusk(Steps(0))
        if night.density > night.dawn_density:
            self._prune(night, night.dawn_density, on_event)
        self._network.end_day()
        return Record(
            kind="day",
            day=self.index,
            phase="dawn",
            step=self.step,
            owned=sum(self._network.count(self.index).values()),
            free=sum(self._network.count(FREE).values()),
            private=self._network.n_private(self.index),
            wake_steps=self._wake_steps,
            night_steps=0 if self._ledger is None else self._ledger.spent_steps,
            unspent_steps=0 if self._ledger is None else self._ledger.steps_until(1.0),
            n_train=len(self.task.train),
            elapsed_seconds=time.perf_counter() - self._began,
        )

    def _cycle(self, cycle: Cycle, n_cycles: int | None, on_event: Hook) -> None:
        """Prune, and retrain until the cycle's share of the budget is spent."""
        assert self.night is not None
        assert self._ledger is not None
        assert self._batches is not None
        night = self.night
        keep = cycle.resolved(night)
        self._prune(night, keep, on_event)
        end = night.spent + cycle.length
        n_steps = self._ledger.steps_until(end)
        if self._ledger.reached(end):
            return
        if self._training.carry_optimizer:
            self._optimize(self._ledger.steps_until(1.0), n_steps, carry=True)
        else:
            self._optimize(n_steps, n_steps)
        sign = Progress(day=self.index, phase="rem", cycle=night.cycle, n_cycles=n_cycles)
        self._train(sign, self._batches, self._ledger, end, on_event)

    def _optimize(self, n_steps: int, n_steps_now: int, carry: bool = False) -> None:
        """Make the optimizer of a phase, or let the last one go on after a prune."""
        # To leave inputs out of the batches takes about as long as to read them in two epochs.
        narrows = n_steps_now >= 2 * self._training.steps_per_epoch(self.task)
        if carry and self._optimization is not None:
            self._optimization.forget_pruned(narrows)
            return
        loss = self._training.loss_of(self.task)
        self._optimization = Optimization(
            self._network, self._training, loss, n_steps, self._parts, self._live, narrows
        )

    def _drawn(self) -> tuple[list[Part], Tensor | None]:
        """Cut the network into a chain, and find the inputs that are not zero throughout the training data."""
        inputs, training = self._train_split[0], self._training
        batch = inputs[: training.batch_size]
        is_raw = training.transform is None and training.augment is None
        with seeding.forked(self._seed, "draw", self.index, device=self._device):
            for function in (training.augment, training.transform):
                batch = batch if function is None else function(batch)
            parts = blueprint.draw(self._network, batch)
        return parts, _live(inputs.flatten(1)) if is_raw else None

    def _train(self, sign: Progress, batches: Batches, ledger: Ledger, end: float, on_event: Hook) -> None:
        """Train until the share `end` of the budget is spent; `sign` says where in the day this is."""
        began = time.perf_counter()
        optimization = self._optimization
        assert optimization is not None

        def on_step(loss: Tensor) -> None:
            self.step += 1
            if self.step % PROGRESS_STEPS == 0:
                on_event(attrs.evolve(sign, step=self.step, loss=float(loss)))

        on_event(attrs.evolve(sign, step=self.step))
        self._network.module.train()
        self._is_training = True
        try:
            with seeding.forked(self._seed, sign.phase, self.index, sign.cycle or 0, device=self._device):
                for loss in train(optimization, batches, ledger, end, on_step):
                    on_event(
                        Record(
                            kind="epoch",
                            day=self.index,
                            phase=sign.phase,
                            step=self.step,
                            cycle=sign.cycle,
                            loss=loss,
                            **self._validated(),
                            elapsed_seconds=time.perf_counter() - began,
                        )
                    )
        except TrainingError as error:
            where = f"day {self.index}, {sign.phase}" + ("" if sign.cycle is None else f", cycle {sign.cycle}")
            raise TrainingError(f"{where}: {error}") from error
        finally:
            self._is_training = False

    def _prune(self, night: Night, keep: float, on_event: Hook) -> None:
        """Keep exactly as many of the day's weights as the density `keep` means."""
        began = time.perf_counter()
        held = self._network.held()
        sizes = self._network.sizes
        counts = self._capacity.kept(tuple(sizes.values()), self.index, keep)
        scores = {name: pruning.magnitude(weight) for name, weight in self._network.weights.items()}
        if self._capacity.ranking == "layer":
            masks = pruning.keep_top_per_layer(scores, held, dict(zip(sizes, counts, strict=True)))
        else:
            masks = pruning.keep_top_globally(scores, held, counts[0], self._capacity.min_per_layer)
        self._network.release(masks)
        self.night = attrs.evolve(night, density=keep)
        owned = sum(counts)
        on_event(
            Record(
                kind="prune",
                day=self.index,
                phase="nrem",
                step=self.step,
                cycle=night.cycle,
                **self._validated(),
                density=owned / self._capacity.available(tuple(sizes.values()), self.index),
                owned=owned,
                free=sum(self._network.count(FREE).values()),
                elapsed_seconds=time.perf_counter() - began,
            )
        )

    def _new_batches(self, phase: str) -> Batches:
        generator = seeding.generator(self._seed, phase, self.index, "order")
        return Batches(*self._train_split, self._training.batch_size, generator)

    def _measure(self) -> Measured:
        """Measure the day's task as it is now, on validation data if there are any, else on training data."""
        split: Literal["train", "validation"] = "train" if self._validation is None else "validation"
        inputs, targets = self._validation or self._train_split
        outputs = predict(self._network, inputs, self.index, self._training.transform)
        return Measured(*self._training.judge(self.task, outputs, targets), split)

    def _validated(self) -> dict[str, Any]:
        """Measure on the validation split, if there is one, for a record."""
        if self._validation is None:
            return {}
        measured = self._measure()
        return {"validation_loss": measured.loss, "validation_score": measured.score}

    def _dusk(self, budget: Budget) -> Night:
        return dusk_of(self.task, budget, self.index, self._network, self._capacity, self._training)


def _live(inputs: Tensor) -> Tensor:
    """Find the features (int64) that are not zero in all inputs, and some more, for rows to be aligned in memory."""
    is_live = (inputs != 0).any(0)
    dead = torch.nonzero(~is_live)[:, 0]
    is_live[dead[: -int(is_live.sum()) % ALIGNMENT]] = True
    return torch.nonzero(is_live)[:, 0]


def fitted(values: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Put values on a device, and in a network's type if they are floating-point numbers."""
    return values.to(device, dtype if values.is_floating_point() else None)


def load(split: Split, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Give inputs and targets of a split as a network reads them, on a device."""
    inputs, targets = split.load()
    return fitted(inputs, dtype, device), fitted(targets, dtype, device)
