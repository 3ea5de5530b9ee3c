"""`Lesson`: the task of a day as it is trained: its examples, its engine and its optimizer."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from daynight.data.batches import Batches, HeldBatches, LazyBatches
from daynight.data.splits import LazyInputs, fitted, load
from daynight.data.tasks import Task
from daynight.errors import TrainingError
from daynight.history import Hook, Progress, Record
from daynight.networks import tracing
from daynight.networks.masked import MaskedNetwork
from daynight.networks.prediction import CHUNK, outputs_of, predict
from daynight.networks.tracing import Part
from daynight.nights.budgets import Ledger
from daynight.nights.cycle import Measured
from daynight.support import checks, interrupts, seeding
from daynight.training.engines import equivalence
from daynight.training.engines.arena import ALIGNMENT
from daynight.training.optimizer import Optimization, State
from daynight.training.settings import Training


class Stretch:
    """Optimizer steps on end, until a share of a budget is spent.

    Args:
        begin: Share of the budget that is spent before them, 0 to 1.
        end: Share of the budget to stop at, 0 to 1.
    """

    def __init__(self, begin: float, end: float) -> None:
        self._begin, self._end = begin, end
        self._losses, self._sizes = list[Tensor](), list[int]()

    def state(self) -> State:
        """Give its place, after a step, for `restore`."""
        losses = torch.stack(self._losses).cpu() if self._losses else torch.empty(0)
        return {"begin": self._begin, "end": self._end, "losses": losses, "sizes": list(self._sizes)}

    @classmethod
    def restore(cls, state: State, device: torch.device) -> Stretch:
        """Make one of what `state` gave, to go on on a device."""
        stretch = cls(state["begin"], state["end"])
        stretch._losses, stretch._sizes = list(state["losses"].to(device).unbind()), list(state["sizes"])
        return stretch

    def run(
        self,
        optimization: Optimization,
        batches: Batches,
        ledger: Ledger,
        on_step: Callable[[Tensor], None],
        rate: Callable[[float], float] | None = None,
    ) -> Iterator[float]:
        """Take the steps, or those that are left.

        Args:
            optimization: Takes them.
            batches: Gives them their examples.
            ledger: Where they are entered.
            on_step: Called with the loss of each step.
            rate: Gives a factor for the learning rate at a share of the stretch, 0 to 1; None is 1.

        Yields:
            The mean loss, at the end of each epoch and of the stretch, over the examples since the last.

        Raises:
            TrainingError: If that mean is not finite.
        """
        optimization.scale_rate(None)
        batches.give(optimization.features)
        try:
            while True:
                is_over = ledger.reached(self._end)
                if self._losses and (is_over or batches.epoch_ends):
                    mean = self._mean_loss()
                    optimization.flush()
                    yield mean
                    self._losses, self._sizes = [], []
                if is_over:
                    return
                inputs, targets = batches.next()
                if rate is not None:
                    share = (ledger.spent - self._begin) / (self._end - self._begin)
                    optimization.scale_rate(rate(min(1.0, max(0.0, share))))
                loss = optimization.step(inputs, targets)
                ledger.note_step()
                self._losses.append(loss)
                self._sizes.append(len(inputs))
                on_step(loss)
        finally:
            optimization.flush()

    def _mean_loss(self) -> float:
        weights = torch.tensor(self._sizes, dtype=torch.float64)
        mean = float(torch.stack(self._losses).double().cpu() @ weights / weights.sum())
        if not math.isfinite(mean):
            raise TrainingError(
                "the loss is not finite. Lower the learning rate, clip gradients, or look for inputs far outside their "
                "usual range."
            )
        return mean


#: A sign of life is given every so many optimizer steps, and after so many seconds.
PROGRESS_STEPS, PROGRESS_SECONDS = 25, 1.0
#: The gradients that a criterion looks at are means over so many training examples, or all if there are fewer.
N_FOR_GRADIENTS = 1024


class Lesson:
    """A task, loaded, and trained on a network phase by phase.

    Args:
        task: What the day trains: its task, or a union of it and earlier ones.
        network: The network.
        training: How it is learnt.
        seed: Names the day's random streams.
        device: Where the examples are put.
        step: Optimizer steps that the agent has taken before.
    """

    def __init__(
        self, task: Task, network: MaskedNetwork, training: Training, seed: int, device: torch.device, step: int
    ) -> None:
        self.task, self._n_before = task, step
        self._ledgers: list[Ledger] = []
        self._day = network.n_tasks
        self._network, self._training, self._seed, self._device = network, training, seed, device
        self._optimization: Optimization | None = None
        self._n_steps: int | None = None
        self._stretch: Stretch | None = None  # while steps are taken, or to go on with
        self._began = 0.0  # when it did
        self._random: dict[str, Any] | None = None  # what to go on with
        self._is_training = False
        self._chain: tuple[list[Part] | None, Tensor | None] | None = None
        self._held = self._load()

    def __getstate__(self) -> dict[str, Any]:
        # What follows from the task is left out, and comes anew.
        return {**self.__dict__, "_held": None, "_chain": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._held = self._load()

    @property
    def step(self) -> int:
        """Number of optimizer steps that the agent has taken in its life, as the ledgers of its phases have it."""
        return self._n_before + sum(ledger.spent_steps for ledger in self._ledgers)

    @property
    def is_begun(self) -> bool:
        """Whether there is an optimizer that can go on."""
        return self._optimization is not None

    @property
    def is_under_way(self) -> bool:
        """Whether it is in the midst of a phase, to be gone on with."""
        return self._stretch is not None

    def fork(self, network: MaskedNetwork) -> Lesson:
        """Give the same lesson on a copy of the network, without an optimizer."""
        twin = Lesson.__new__(Lesson)
        twin.__dict__.update(self.__dict__, _network=network, _optimization=None, _chain=None)
        twin._ledgers = list(self._ledgers)
        return twin

    def new_batches(self, phase: str) -> Batches:
        """Make the batches of a wake or a night."""
        generator, size = seeding.generator(self._seed, phase, self._day, "order"), self._training.batch_size
        if self._held is not None:
            return HeldBatches(*self._held, size, generator)
        fit = functools.partial(fitted, dtype=self._network.dtype, device=self._device)
        return LazyBatches(self.task.train, fit, size, generator)

    def optimize(self, n_steps: int | None, n_steps_now: int | None) -> None:
        """Make the optimizer of a phase.

        Args:
            n_steps: Number of steps that it will take; None if nobody knows.
            n_steps_now: Number of these until the next prune.
        """
        self._make_optimization(n_steps, self._narrows(n_steps_now))

    def carry_on(self, n_steps_now: int | None) -> None:
        """Let the last optimizer go on after a prune, for a number of steps until the next."""
        assert self._optimization is not None
        self._optimization.forget_pruned(self._narrows(n_steps_now))

    def rest(self) -> None:
        """Let the optimizer go, and what was to be gone on with."""
        self._optimization = self._stretch = self._random = None

    def state(self) -> dict[str, Any]:
        """Give all that makes the lesson what it is beside the network, for `restore`.

        In the midst of a phase it may be called by what is told of its progress, and not elsewhere.
        """
        self.flush()
        running: dict[str, Any] | None = None
        if self._stretch is not None:
            assert self._optimization is not None
            # What was taken up and has not gone on yet is as it was.
            random = seeding.state(self._device) if self._is_training else self._random
            running = {
                "n_steps": self._n_steps, "optimization": self._optimization.state(), "stretch": self._stretch.state(),
                "seconds": time.perf_counter() - self._began, "random": random,
            }  # fmt: skip
        is_whole = None if self._chain is None else self._is_whole
        return {"n_before": self._n_before, "is_whole": is_whole, "running": running}

    def restore(self, state: dict[str, Any], ledgers: Sequence[Ledger]) -> None:
        """Take up what `state` gave, with the network as it was then.

        Args:
            state: What it gave.
            ledgers: Those of the phases so far.
        """
        self._n_before, self._ledgers, running = state["n_before"], list(ledgers), state["running"]
        if state["is_whole"] is not None:
            self._chain = self._draw(state["is_whole"])
        if running is not None:
            self._make_optimization(running["n_steps"], running["optimization"]["narrows"])
            assert self._optimization is not None
            self._optimization.restore(running["optimization"])
            self._stretch = Stretch.restore(running["stretch"], self._device)
            self._began, self._random = time.perf_counter() - running["seconds"], running["random"]

    def train(
        self,
        sign: Progress,
        batches: Batches,
        ledger: Ledger,
        end: float,
        on_event: Hook,
        rate: Callable[[float], float] | None = None,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        """Train until the share `end` of the budget is spent; `sign` says where in the day this is.

        Args:
            sign: Day, phase and cycle.
            batches: The examples.
            ledger: Where steps are entered.
            end: Share of the budget, 0 to 1.
            on_event: Called with each record, and with signs of life.
            rate: Gives a factor for the learning rate at a share of the training, 0 to 1; None is 1.
            after_step: Called after each step.

        Raises:
            TrainingError: If loss or weights are not finite.
        """
        assert self._optimization is not None
        if self._stretch is None:
            self._stretch, self._began = Stretch(ledger.spent, end), time.perf_counter()
        if all(known is not ledger for known in self._ledgers):
            self._ledgers.append(ledger)

        def tell(event: Record | Progress) -> None:
            # Hooks may draw random numbers; those of the training do not depend on it.
            with seeding.shielded(self._device):
                on_event(event)
            ledger.note_outside()

        told = time.monotonic()

        def on_step(loss: Tensor) -> None:
            nonlocal told
            if after_step is not None:
                after_step()
            if self.step % PROGRESS_STEPS == 0 or time.monotonic() > told + PROGRESS_SECONDS:
                told = time.monotonic()
                tell(attrs.evolve(sign, step=self.step, loss=float(loss)))

        self._network.module.train()
        self._is_training = True
        try:
            with seeding.forked(self._seed, sign.phase, self._day, sign.cycle or 0, device=self._device):
                if self._random is not None:
                    seeding.restore(self._random, self._device)
                tell(attrs.evolve(sign, step=self.step))
                for loss in self._stretch.run(self._optimization, batches, ledger, on_step, rate):
                    seconds = time.perf_counter() - self._began
                    record = Record(kind="epoch", day=self._day, phase=sign.phase, step=self.step, cycle=sign.cycle,
                                    loss=loss, **self.validated(ledger), elapsed_seconds=seconds)  # fmt: skip
                    ledger.note_other()
                    tell(record)
            self.check_finite()
        except TrainingError as error:
            where = f"day {self._day}, {sign.phase}" + ("" if sign.cycle is None else f", cycle {sign.cycle}")
            raise TrainingError(f"{where}: {error}") from error
        finally:
            self._is_training, self._stretch, self._random = False, None, None

    def flush(self) -> None:
        """Bring the network up to date with what has been trained, in the midst of a phase."""
        if self._is_training and self._optimization is not None:
            self._optimization.flush()

    def check_finite(self) -> None:
        """Make sure that what has been learnt today is finite, and so are the outputs that it gives.

        Raises:
            TrainingError: If not.
        """
        tensors: list[Tensor] = [item.parameter for item in self._network.trainables()]
        tensors.append(predict(self._network, self._some(CHUNK)[0], None, self._training.transform))
        if not all(map(checks.all_finite, tensors)):
            raise TrainingError(
                "the last steps have made weights or outputs that are not finite. Call abandon_day, and lower the "
                "learning rate, clip gradients, or look for inputs far outside their usual range."
            )

    def measure(self) -> Measured:
        """Measure the task as it is now, on validation data if there are any, else on training data."""
        which: Literal["train", "validation"] = "train" if self.task.validation is None else "validation"
        split, fit = self.task.splits()[which], (self._network.dtype, self._device)
        with seeding.forked(self._seed, "measure", self._day, self.step, device=self._device):
            outputs = outputs_of(self._network, split, None, self._training.transform, self._device)
            return Measured(*self._training.judge(self.task, outputs, fitted(split.targets, *fit)), which)

    def generator(self, *names: str | int) -> torch.Generator:
        """Make a generator of random numbers for something of this day."""
        return seeding.generator(self._seed, "day", self._day, *names)

    def gradients(self) -> dict[str, Tensor]:
        """Compute the gradient of the mean loss over some training examples, for the weights of each masked layer."""
        network, training = self._network, self._training
        index = torch.linspace(0, len(self.task.train) - 1, min(N_FOR_GRADIENTS, len(self.task.train))).round().long()
        weights = list(network.weights.values())
        loss, total = training.loss_of(self.task), [torch.zeros_like(weight) for weight in weights]
        was_training = network.module.training
        network.module.eval()
        try:
            for chunk in index.split(training.batch_size):
                inputs, targets = load(self.task.train.subset(chunk), network.dtype, self._device)
                inputs = inputs if training.transform is None else training.transform(inputs)
                value = loss(network.module(inputs), targets) * (len(chunk) / len(index))
                for part, gradient in zip(
                    total, torch.autograd.grad(value, list(network.weights.values())), strict=True
                ):
                    part += gradient
        finally:
            network.module.train(was_training)
        return dict(zip(network.weights, total, strict=True))

    def validated(self, ledger: Ledger | None = None) -> dict[str, Any]:
        """Measure on the validation split, if there is one and the phase has time for it, for a record."""
        if self.task.validation is None or (ledger is not None and not ledger.allows("other")):
            return {}
        measured = self.measure()
        return {"validation_loss": measured.loss, "validation_score": measured.score}

    def _load(self) -> tuple[Tensor, Tensor] | None:
        """Give the training examples as the network reads them, unless they are lazy."""
        if isinstance(self.task.train.inputs, LazyInputs):
            return None
        return load(self.task.train, self._network.dtype, self._device)

    def _narrows(self, n_steps: int | None) -> bool:
        # To leave inputs out of all examples takes about as long as to read them in two epochs.
        return n_steps is not None and n_steps >= 2 * self._training.steps_per_epoch(self.task)

    def _make_optimization(self, n_steps: int | None, narrows: bool) -> None:
        if self._chain is None:
            self._chain = self._draw()
        (parts, live), loss = self._chain, self._training.loss_of(self.task)
        self._n_steps = n_steps
        self._optimization = Optimization(self._network, self._training, loss, n_steps, parts, live, narrows)

    @interrupts.deferred()
    def _draw(self, is_whole: bool | None = None) -> tuple[list[Part] | None, Tensor | None]:
        """Cut the network into a chain, and find the inputs that are not zero throughout the training data.

        Args:
            is_whole: Whether it is left whole; None tries whether the chain computes what the network does.
        """
        training, self._is_whole = self._training, bool(is_whole)
        if training.is_by_module:
            return None, None
        batch, targets = self._some(training.batch_size)
        functions = [function for function in (training.augment, training.transform) if function is not None]
        with seeding.forked(self._seed, "draw", self._day, device=self._device):
            for function in functions:
                batch = function(batch)
            parts = tracing.draw(self._network, batch)
            if is_whole is None:
                self._is_whole = not equivalence.holds(
                    parts, self._network, batch, targets, training.loss_of(self.task)
                )
            if self._is_whole:
                parts = tracing.whole(self._network)
        return parts, None if functions or self._held is None else _live(self._held[0].flatten(1))

    def _some(self, n: int) -> tuple[Tensor, Tensor]:
        """Give the first n training examples, as far as there are so many; copies, which functions may write into."""
        if self._held is not None:
            inputs, targets = self._held
            return inputs[:n].clone(), targets[:n]
        index = torch.arange(min(n, len(self.task.train)))
        return load(self.task.train.subset(index), self._network.dtype, self._device)


def _live(inputs: Tensor) -> Tensor:
    """Find the features (int64) that are not zero in all inputs, and some more, for rows to be aligned in memory."""
    is_live = inputs.any(0)
    dead = torch.nonzero(~is_live)[:, 0]
    is_live[dead[: -int(is_live.sum()) % ALIGNMENT]] = True
    return torch.nonzero(is_live)[:, 0]
