"""`Trainer`: trains a day's task, phase by phase. Its method `train` is the loop."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from daynight.data.batches import Batches, HeldBatches, LazyBatches, Replayed
from daynight.data.replay import Kept, Replay
from daynight.data.splits import LazyInputs, fitted, load
from daynight.data.tasks import Task
from daynight.errors import TrainingError
from daynight.history import Hook, Progress, Record
from daynight.metrics import WithinGroups
from daynight.networks import norms, sequences, tracing
from daynight.networks.connectivity import Connections
from daynight.networks.copies import has_gradient_hooks
from daynight.networks.masked import MaskedNetwork
from daynight.networks.prediction import CHUNK, outputs_of, predict
from daynight.networks.tracing import Part
from daynight.nights.budgets import Ledger
from daynight.nights.cycle import Measured
from daynight.support import checks, interrupts, seeding
from daynight.training import resumed
from daynight.training.engines import equivalence
from daynight.training.engines.arena import ALIGNMENT
from daynight.training.optimizer import Optimization
from daynight.training.settings import Training, number

#: A progress event comes after this many optimizer steps, or this many seconds.
PROGRESS_STEPS, PROGRESS_SECONDS = 25, 1.0
#: Number of training examples, or all if there are fewer, over which gradients for a criterion are averaged.
N_FOR_GRADIENTS = 1024
#: The squared Jacobian is estimated with from 256 to 2,048 examples, and random signs for this many at a time, if
#: batches have as many.
N_FOR_JACOBIAN, N_SIGNED = (256, 2048), 32


@attrs.define(eq=False)
class Stretch:
    """Consecutive optimizer steps, up to a share of a budget: where they began and end, and the losses so far.

    Attributes:
        begin: Share of the budget that was spent before the steps, 0 to 1.
        end: Share of the budget at which the steps stop, 0 to 1.
        losses: The loss of each batch since the last record.
        sizes: The number of examples of each of these batches.
    """

    begin: float
    end: float
    losses: list[Tensor] = attrs.field(factory=list)
    sizes: list[int] = attrs.field(factory=list)

    def share(self, spent: float) -> float:
        """Return the share of the stretch that is over, 0 to 1, when the share `spent` of the budget is spent."""
        return min(1.0, max(0.0, (spent - self.begin) / (self.end - self.begin)))

    def note(self, loss: Tensor, n_examples: int) -> None:
        """Note the loss of a batch."""
        self.losses.append(loss)
        self.sizes.append(n_examples)

    def forget(self) -> None:
        """Forget the losses, after they have been recorded."""
        self.losses, self.sizes = [], []

    def mean_loss(self) -> float:
        """Return the mean loss over the examples since the last record.

        Raises:
            TrainingError: If the mean is not finite.
        """
        weights = torch.tensor(self.sizes, dtype=torch.float64)
        mean = float(torch.stack(self.losses).double().cpu() @ weights / weights.sum())
        if not math.isfinite(mean):
            raise TrainingError(
                "the loss is not finite. Lower the learning rate, clip gradients, or look for inputs far outside their "
                "usual range."
            )
        return mean

    def state(self) -> dict[str, Any]:
        """Return the stretch as plain values and a tensor; `restore` takes them."""
        losses = torch.stack(self.losses).cpu() if self.losses else torch.empty(0)
        return {"begin": self.begin, "end": self.end, "losses": losses, "sizes": list(self.sizes)}

    @classmethod
    def restore(cls, state: dict[str, Any], device: torch.device) -> Stretch:
        """Make a stretch from what `state` returned, on a device."""
        losses = list(state["losses"].to(device).unbind())
        return cls(state["begin"], state["end"], losses, list(state["sizes"]))


@attrs.frozen(eq=False)
class Tracing:
    """A network as the engines compute it.

    Attributes:
        parts: The network as a chain of parts; None if the network itself computes the steps.
        live: Which flattened inputs are not zero in all training data and in all replayed examples (int64); None if
            unknown.
        is_whole: Whether the network is left in one part.
        hooked: Which modules had hooks (see `sequences.hooked`).
    """

    parts: list[Part] | None
    live: Tensor | None
    is_whole: bool
    hooked: frozenset[int] = frozenset()


class Trainer:
    """Trains a task on a network, phase by phase.

    Args:
        task: The task to train: the day's own, or its union with earlier tasks.
        network: The network.
        training: How the task is learnt.
        seed: Names the day's random streams.
        device: Device of the examples.
        step: Number of optimizer steps that the agent has taken before.
        replay: How many examples of past days are in each batch; None if there are none.
        past: These examples, as `Memory.examples` returns them; None if there are none.

    Attributes:
        task: As given.
        replay: As given, or None if `past` is None.
    """

    def __init__(
        self, task: Task, network: MaskedNetwork, training: Training, seed: int, device: torch.device, step: int,
        replay: Replay | None = None, past: Kept | None = None,
    ) -> None:  # fmt: skip
        self.task, self.replay, self._n_before = task, None if past is None else replay, step
        self._network, self._training, self._seed, self._device = network, training, seed, device
        self._day = network.n_tasks
        self._ledgers: list[Ledger] = []  # of the phases so far
        self._optimization: Optimization | None = None
        self._n_steps: int | None = None  # number of steps that the optimizer will take
        self._stretch: Stretch | None = None  # the steps that are being taken, or can be resumed
        self._began = 0.0  # when the stretch began
        self._random: dict[str, Any] | None = None  # the state of random numbers to resume with
        self._is_training = False
        self._tracing: Tracing | None = None
        self._connections: Connections | None = None
        # The training examples as the network reads them, unless they are read lazily.
        is_lazy = isinstance(task.train.inputs, LazyInputs)
        self._sample: Tensor | None = None  # inputs for `check_finite`
        self._held = None if is_lazy else load(task.train, network.dtype, device)
        self._past: tuple[Tensor, Tensor] | None = None  # the examples of past days as the network reads them
        if past is not None:
            self._past = fitted(past.inputs, network.dtype, device), fitted(past.targets, network.dtype, device)

    @property
    def step(self) -> int:
        """Number of optimizer steps that the agent has taken in its life, as the ledgers of its phases count them."""
        return self._n_before + sum(ledger.spent_steps for ledger in self._ledgers)

    @property
    def has_optimizer(self) -> bool:
        """Whether there is an optimizer that can continue."""
        return self._optimization is not None

    @property
    def is_interrupted(self) -> bool:
        """Whether a phase was interrupted and can be resumed."""
        return self._stretch is not None

    def fork(self, network: MaskedNetwork, training: Training | None = None) -> Trainer:
        """Return the same trainer for a copy of the network, without an optimizer.

        Args:
            network: The copy.
            training: How the task is learnt; None is as before.
        """
        twin = Trainer.__new__(Trainer)
        twin.__dict__.update(self.__dict__, _network=network, _optimization=None, _tracing=None)
        twin._ledgers, twin._training = list(self._ledgers), training or self._training
        return twin

    def enter(self, ledger: Ledger) -> None:
        """Count the steps in the ledger of a phase that is over."""
        self._ledgers.append(ledger)

    def new_batches(self, phase: str) -> Batches:
        """Make the batches of `phase`, ``"wake"`` or ``"night"``."""
        generator, training = seeding.generator(self._seed, phase, self._day, "order"), self._training
        n_own = training.own_per_batch(self.replay)
        size, n_past = n_own * training.accumulate, training.batch_size - n_own
        replayed = None if self._past is None else Replayed(*self._past, n_own, n_past)
        if self._held is not None:
            return HeldBatches(*self._held, size, generator, replayed)
        fit = functools.partial(fitted, dtype=self._network.dtype, device=self._device)
        return LazyBatches(self.task.train, fit, size, generator, replayed)

    def optimize(self, n_steps: int | None, n_steps_now: int | None) -> None:
        """Make the optimizer of a phase.

        Args:
            n_steps: Number of steps that the optimizer will take; None if unknown.
            n_steps_now: Number of steps until the next prune; None if unknown.
        """
        self._make_optimization(n_steps, self._narrows(n_steps_now))

    def carry_on(self, n_steps_now: int | None) -> None:
        """Continue with the last optimizer after a prune, for `n_steps_now` steps (None: unknown) until the next."""
        assert self._optimization is not None
        self._optimization.forget_pruned(self._narrows(n_steps_now))

    def rest(self) -> None:
        """Drop the optimizer, and the steps that can be resumed."""
        self._optimization = self._stretch = self._random = None

    def train(
        self,
        place: Progress,
        batches: Batches,
        ledger: Ledger,
        end: float,
        on_event: Hook,
        rate: Callable[[float], float] | None = None,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        """Train until the share `end` of the budget is spent.

        Args:
            place: Where in the day this is: day, phase and cycle.
            batches: The examples.
            ledger: The account in which steps are entered.
            end: Share of the budget, 0 to 1.
            on_event: Called with each record and progress event.
            rate: Function of the share of this training that is over, 0 to 1, to a factor of the learning rate. None is
                a factor of 1.
            after_step: Called after each step.

        Raises:
            TrainingError: If loss or weights are not finite.
        """
        optimization = self._optimization
        assert optimization is not None
        if self._stretch is None:
            self._stretch, self._began = Stretch(ledger.spent, end), time.perf_counter()
        if all(known is not ledger for known in self._ledgers):
            self._ledgers.append(ledger)
        stretch = self._stretch

        def tell(event: Record | Progress) -> None:
            # Hooks may draw random numbers, which does not change those of the training.
            with seeding.shielded(self._device):
                on_event(event)
            ledger.note_outside()

        with self._running(place):
            told = time.monotonic()
            tell(attrs.evolve(place, step=self.step))
            optimization.scale_rate(None)
            try:
                while True:
                    is_over = ledger.reached(stretch.end)
                    if stretch.losses and (is_over or batches.epoch_ends):
                        loss = stretch.mean_loss()
                        optimization.flush()
                        tell(self._record(place, loss, ledger))
                        stretch.forget()
                    if is_over:
                        break
                    optimization.heed_hooks()
                    batches.give(optimization.features)
                    inputs, targets = batches.next()
                    if rate is not None:
                        optimization.scale_rate(rate(stretch.share(ledger.spent)))
                    batch_loss = optimization.step(inputs, targets)
                    ledger.note_step()
                    stretch.note(batch_loss, len(inputs))
                    seeding.give_way(self._device)
                    if after_step is not None:
                        after_step()
                    if self.step % PROGRESS_STEPS == 0 or time.monotonic() > told + PROGRESS_SECONDS:
                        told = time.monotonic()
                        tell(attrs.evolve(place, step=self.step, loss=float(batch_loss)))
            finally:
                optimization.flush()

    def flush(self) -> None:
        """Write the trained numbers to the network, if a phase is running."""
        if self._is_training and self._optimization is not None:
            self._optimization.flush()

    def check_finite(self) -> None:
        """Raise TrainingError unless the numbers that the day trains, and some outputs of the task, are finite."""
        tensors: list[Tensor] = [item.parameter for item in self._network.trainables()]
        if self._sample is None:  # read once: reading may take long, and at the end of a night there is no time
            with seeding.forked(self._seed, "sample", self._day, device=self._device):
                self._sample = self._some(CHUNK)[0]
        # In batches of training, which take no more memory than that.
        size = self._training.batch_size
        tensors.append(predict(self._network, self._sample, None, self._training.transform, size))
        if not all(map(checks.all_finite, tensors)):
            raise TrainingError(
                "the last steps have made weights or outputs that are not finite. Call abandon_day, and lower the "
                "learning rate, clip gradients, or look for inputs far outside their usual range."
            )

    def take_statistics(self) -> None:
        """Take the running statistics of norm layers anew, on some training examples in one pass.

        After a prune, they are those of another network. Training moves them towards those of the pruned one; if no
        training follows, they must be taken anew.
        """
        if not norms.running(self._network.module):
            return
        n = len(self.task.train)
        index = torch.randperm(n, generator=self.generator("statistics"))[: norms.N_EXAMPLES]
        inputs, _ = load(self.task.train.subset(index.sort().values), self._network.dtype, self._device)
        with seeding.forked(self._seed, "statistics", self._day, device=self._device):
            norms.take_anew(
                self._network.module, inputs if self._training.transform is None else self._training.transform(inputs)
            )

    def measure(self) -> Measured:
        """Measure the day's task now, on its validation data, or on its training data if there are none."""
        with self._measuring() as (which, outputs, targets):
            return Measured(*self._training.judge(self.task, outputs, targets), which)

    def measure_gain(self) -> tuple[float, float]:
        """Return the loss now, on the data of `measure`, and by how much it is below that of guessing, 0 or more.

        Guessing gives each example the mean of the outputs of all. If its loss is not finite, the gain is 0.
        """
        loss = self._training.loss_of(self.task)
        with self._measuring() as (_, outputs, targets):
            guessed = number("loss", loss, outputs.mean(0, keepdim=True).expand_as(outputs).contiguous(), targets)
            found = number("loss", loss, outputs, targets)
        gain = guessed - found
        return found, gain if 0 < gain < math.inf else 0.0

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[tuple[Literal["train", "validation"], Tensor, Tensor]]:
        """Yield the name of the split to measure on, the outputs for it, and its targets."""
        which: Literal["train", "validation"] = "train" if self.task.validation is None else "validation"
        split, fit = self.task.splits()[which], (self._network.dtype, self._device)
        with seeding.forked(self._seed, "measure", self._day, self.step, device=self._device):
            outputs = outputs_of(self._network, split, None, self._training.transform, self._device)
            yield which, outputs, fitted(split.targets, *fit)

    def validated(self, ledger: Ledger) -> dict[str, Any]:
        """Return a record's values for the validation split; none if there is no such split, or no time to measure."""
        if self.task.validation is None or not ledger.allows("other"):
            return {}
        measured = self.measure()
        return {"validation_loss": measured.loss, "validation_score": measured.score}

    def generator(self, *names: str | int) -> torch.Generator:
        """Make a generator of this day's random numbers for the purpose that `names` states."""
        return seeding.generator(self._seed, "day", self._day, *names)

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients by each masked layer's weights of the mean loss over `N_FOR_GRADIENTS` examples."""
        loss, n = self._training.loss_of(self.task), min(N_FOR_GRADIENTS, len(self.task.train))
        total = [torch.zeros_like(weight) for weight in self._network.weights.values()]
        for found in self._derivatives(
            lambda outputs, targets: loss(outputs, targets) * (len(targets) / n), n, self._training.batch_size
        ):
            for part, gradient in zip(total, found, strict=True):
                part += gradient
        return dict(zip(self._network.weights, total, strict=True))

    def squared_jacobian(self, generator: torch.Generator, n_steps: float = math.inf) -> dict[str, Tensor]:
        """Estimate `daynight.criteria.Layer.squared_jacobian` of each masked layer.

        Args:
            generator: Draws the signs.
            n_steps: It takes as many examples as so many steps do, within the bounds of `N_FOR_JACOBIAN`.
        """
        (least, most), n_each = N_FOR_JACOBIAN, self._training.batch_size * self._training.accumulate
        n = int(min(most, len(self.task.train), max(least, n_steps * n_each)))
        loss = self._training.loss_of(self.task)

        def signed(outputs: Tensor, targets: Tensor) -> Tensor:
            own = loss.masked(outputs, targets, 0.0) if isinstance(loss, WithinGroups) else outputs
            signs = 2 * torch.randint(2, outputs.shape, generator=generator) - 1
            return (own * signs.to(outputs)).sum()

        dtype = torch.promote_types(self._network.dtype, torch.float32)
        total = [torch.zeros_like(weight, dtype=dtype) for weight in self._network.weights.values()]
        for found in self._derivatives(signed, n, min(N_SIGNED, self._training.batch_size)):
            for part, gradient in zip(total, found, strict=True):
                part += gradient.to(dtype).square() / n
        return dict(zip(self._network.weights, total, strict=True))

    def _derivatives(
        self, function: Callable[[Tensor, Tensor], Tensor], n: int, n_each: int
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield the derivatives by each masked layer's weights of a function of outputs and targets, batch by batch.

        Args:
            function: Function of the outputs and targets of a batch to a scalar.
            n: Number of training examples in all.
            n_each: Number of examples of a batch.
        """
        network, transform = self._network, self._training.transform
        index = torch.linspace(0, len(self.task.train) - 1, n).round().long()
        weights, was_training = list(network.weights.values()), network.module.training
        network.module.train().eval()  # in training mode, modules drop values that they keep
        try:
            for chunk in index.split(n_each):
                inputs, targets = load(self.task.train.subset(chunk), network.dtype, self._device)
                outputs = network.module(inputs if transform is None else transform(inputs))
                yield torch.autograd.grad(function(outputs, targets), weights)
        finally:
            network.module.train(was_training)

    def connections(self) -> Connections:
        """Return how the network's masked layers are connected; raise NetworkError if that cannot be told."""
        if self._connections is None:
            inputs, transform = self._some(self._training.batch_size)[0], self._training.transform
            with seeding.forked(self._seed, "draw", self._day, device=self._device):
                self._connections = Connections.of(self._network, inputs if transform is None else transform(inputs))
        return self._connections

    def state(self) -> dict[str, Any]:
        """Return the state of the trainer, without the network; `restore` takes it.

        During a phase, call this only from a hook, and only at a progress event.
        """
        self.flush()
        running: dict[str, Any] | None = None
        if self._stretch is not None:
            assert self._optimization is not None
            # A restored phase that is not resumed yet still has its restored random state.
            random = seeding.state(self._device) if self._is_training else self._random
            running = {
                "n_steps": self._n_steps, "optimization": self._optimization.state(), "stretch": self._stretch.state(),
                "seconds": time.perf_counter() - self._began, "random": random,
            }  # fmt: skip
        is_whole = None if self._tracing is None else self._tracing.is_whole
        return {"n_before": self._n_before, "is_whole": is_whole, "running": running}

    def restore(self, state: dict[str, Any], ledgers: Sequence[Ledger]) -> None:
        """Take over what `state` returned. The network must be restored already.

        Args:
            state: What `state` returned.
            ledgers: The ledgers of the phases so far.
        """
        self._n_before, self._ledgers, running = state["n_before"], list(ledgers), state["running"]
        if state["is_whole"] is not None:
            self._tracing = self._trace(state["is_whole"])
        if running is not None:
            self._make_optimization(running["n_steps"], running["optimization"]["narrows"])
            assert self._optimization is not None
            known = self._optimization.known()
            resumed.check_optimization(running["optimization"], self._optimization.state(), known)
            if running["random"] is not None:
                seeding.check(running["random"], self._device)
            self._optimization.restore(running["optimization"])
            self._stretch = Stretch.restore(running["stretch"], self._device)
            self._began, self._random = time.perf_counter() - running["seconds"], running["random"]

    @contextlib.contextmanager
    def _running(self, place: Progress) -> Iterator[None]:
        """Put the network into training mode, with the random numbers of a phase; check at the end that all is finite.

        Raises:
            TrainingError: If a loss, a trained number or an output is not finite. The error names the day, the phase
                and the cycle.
        """
        self._network.module.train()
        self._is_training = True
        try:
            with seeding.forked(self._seed, place.phase, self._day, place.cycle or 0, device=self._device):
                if self._random is not None:
                    seeding.restore(self._random, self._device)
                yield
            self.check_finite()
        except TrainingError as error:
            where = f"day {self._day}, {place.phase}" + ("" if place.cycle is None else f", cycle {place.cycle}")
            advice = ""
            if self._network.dtype is torch.float16:
                advice = " In float16, Adam's eps=1e-8 is 0: give the optimizer eps=1e-4, or train in float32."
            raise TrainingError(f"{where}: {error}{advice}") from error
        finally:
            self._is_training, self._stretch, self._random = False, None, None

    def _record(self, place: Progress, loss: float, ledger: Ledger) -> Record:
        """Return the record of an epoch, or of the part that was run if the phase ended within the epoch."""
        seconds = time.perf_counter() - self._began
        record = Record(
            kind="epoch", day=self._day, phase=place.phase, step=self.step, cycle=place.cycle, loss=loss,
            **self.validated(ledger), elapsed_seconds=seconds,
        )  # fmt: skip
        ledger.note_other()
        return record

    def _narrows(self, n_steps: int | None) -> bool:
        """Return whether leaving inputs out of all examples saves time. It costs about two epochs of reading them."""
        return n_steps is not None and n_steps >= 2 * self._training.steps_per_epoch(self.task, self.replay)

    def _make_optimization(self, n_steps: int | None, narrows: bool) -> None:
        if self._tracing is None:
            self._tracing = self._trace()
        traced, loss = self._tracing, self._training.loss_of(self.task)
        self._n_steps = n_steps
        self._optimization = Optimization(
            self._network, self._training, loss, n_steps, traced.parts, traced.live, narrows, traced.hooked
        )  # fmt: skip

    @interrupts.deferred()
    def _trace(self, is_whole: bool | None = None) -> Tracing:
        """Trace the network into a chain of parts, and find the inputs that are not zero in all examples of batches.

        Args:
            is_whole: Whether the network is left in one part; None tests whether the chain computes the same as the
                network.
        """
        training = self._training
        if training.is_by_module:
            return Tracing(None, None, bool(is_whole))
        batch, targets = self._some(training.batch_size)
        hooked = sequences.hooked(self._network.module.modules())
        functions = [function for function in (training.augment, training.transform) if function is not None]
        with seeding.forked(self._seed, "draw", self._day, device=self._device):
            for function in functions:
                batch = function(batch)
            parts = tracing.cut(self._network, batch)
            if is_whole is None and any(map(has_gradient_hooks, self._network.module.parameters())):
                is_whole = True  # hooks are called in steps only, and by autograd
            if is_whole is None and not sequences.is_plain(self._network.module):
                is_whole = not equivalence.holds(parts, self._network, batch, targets, training.loss_of(self.task))
            if is_whole:
                parts = tracing.uncut(self._network)
        held = [pair[0].flatten(1) for pair in (self._held, self._past) if pair is not None]
        live = None if functions or self._held is None else _live(held)
        return Tracing(parts, live, bool(is_whole), hooked)

    def _some(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the first n training examples, or all if there are fewer. Functions may write into these inputs."""
        if self._held is not None:
            inputs, targets = self._held
            return inputs[:n].clone(), targets[:n]
        index = torch.arange(min(n, len(self.task.train)))
        return load(self.task.train.subset(index), self._network.dtype, self._device)


def _live(inputs: Sequence[Tensor]) -> Tensor:
    """Return the features (int64) that are not zero in all inputs, and a few more, to align rows in memory."""
    is_live = torch.stack([some.any(0) for some in inputs]).any(0)
    dead = torch.nonzero(~is_live)[:, 0]
    is_live[dead[: -int(is_live.sum()) % ALIGNMENT]] = True
    return torch.nonzero(is_live)[:, 0]
