"""How a task is learnt: the settings, and the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from daynight import checks, metrics
from daynight.errors import SettingError
from daynight.tasks import Task

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer, int], torch.optim.lr_scheduler.LRScheduler]
Transform = Callable[[Tensor], Tensor]
EngineName = Literal["auto", "dense", "sparse", "module"]


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the study's optimizer: Adam with a learning rate of 1e-3, in its fused form."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def _batch_size(n: Any) -> int:
    return checks.whole("Training: batch_size", n, least=1)


def _check_callable(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(value):
        raise SettingError(f"Training: {attribute.name} must be a function, not {value!r}.")


def _check_engine(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    checks.one_of("Training: engine", value, get_args(EngineName))


@attrs.frozen(kw_only=True)
class Training:
    """How a task is learnt, at wake and in REM alike.

    Args:
        batch_size: Examples an optimizer step, 1 or more; the last batch of an epoch may be smaller.
        optimizer: Makes an optimizer of parameters. It is called at each wake and at each REM.
        scheduler: Makes a learning-rate scheduler of an optimizer and the number of steps it will
            take; stepped after each optimizer step. None keeps the rate constant.
        loss: Function of (outputs, targets) to a scalar, the mean over a batch. None is cross-entropy
            for class labels and mean squared error for regression.
        metric: Function of (outputs, targets) of a whole split to a number. None is the accuracy for
            class labels and the coefficient of determination for regression.
        transform: Applied to each batch of inputs, in training and prediction, such as a normalisation.
        augment: Applied to each batch of inputs in training, before `transform`. What it draws from
            PyTorch's global generator is seeded.
        carry_optimizer: Whether the optimizer (and scheduler) goes on through the cycles of a night,
            with the state of pruned weights cleared, in place of a new one at each REM.
        engine: What computes the optimizer steps; all give the same gradients but for rounding. ``"auto"``
            chooses for each layer and phase by shapes and density; ``"dense"`` and ``"sparse"`` force one
            where it can be; ``"module"`` runs the network itself by autograd, and leaves nothing out.

    Raises:
        SettingError: If `batch_size` is not positive, a function cannot be called, or there is no such engine.
    """

    batch_size: int = attrs.field(default=128, converter=_batch_size)
    optimizer: OptimizerFactory = attrs.field(default=adam, validator=_check_callable)
    scheduler: SchedulerFactory | None = attrs.field(default=None, validator=_check_callable)
    loss: Callable[[Tensor, Tensor], Tensor] | None = attrs.field(default=None, validator=_check_callable)
    metric: Callable[[Tensor, Tensor], float] | None = attrs.field(default=None, validator=_check_callable)
    transform: Transform | None = attrs.field(default=None, validator=_check_callable)
    augment: Transform | None = attrs.field(default=None, validator=_check_callable)
    carry_optimizer: bool = False
    engine: EngineName = attrs.field(default="auto", validator=_check_engine)

    def steps_per_epoch(self, task: Task) -> int:
        """Count the optimizer steps of one epoch of `task`."""
        return -(-len(task.train) // self.batch_size)

    def loss_of(self, task: Task) -> Callable[[Tensor, Tensor], Tensor]:
        """Give the loss for `task`."""
        if self.loss is not None:
            return self.loss
        return functional.cross_entropy if task.classifies else functional.mse_loss

    def metric_of(self, task: Task) -> Callable[[Tensor, Tensor], float]:
        """Give the metric for `task`."""
        if self.metric is not None:
            return self.metric
        return metrics.accuracy if task.classifies else metrics.r_squared

    def judge(self, task: Task, outputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """Give loss and metric of outputs of `task`.

        Raises:
            SettingError: If one of them fails, or gives no single number.
        """
        loss = _number("loss", self.loss_of(task), outputs, targets)
        return loss, _number("metric", self.metric_of(task), outputs, targets)

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make an optimizer.

        Raises:
            SettingError: If what `optimizer` makes is none that steps without a closure.
        """
        optimizer = self.optimizer(parameters)
        if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
            raise SettingError(
                "Training: optimizer must make a torch.optim.Optimizer that steps without a closure, not "
                f"{type(optimizer).__name__}."
            )
        return optimizer

    def check(self, task: Task, outputs: Tensor, targets: Tensor) -> None:
        """Make sure that the functions work together, on a few outputs, without training anything.

        Args:
            task: The task.
            outputs: (n, outputs of the task), a few of them.
            targets: Theirs.

        Raises:
            SettingError: If they do not.
        """
        self.make_optimizer([nn.Parameter(torch.zeros(1, device=outputs.device))])
        _number("loss", self.loss_of(task), outputs, targets)
        # Some metrics need more than a few examples, of all classes.
        blank = outputs.new_zeros(len(task.test), task.n_outputs)
        _number("metric", self.metric_of(task), blank, task.test.targets.to(outputs.device))


def _number(name: str, function: Callable[[Tensor, Tensor], Any], outputs: Tensor, targets: Tensor) -> float:
    try:
        return float(function(outputs, targets))
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise SettingError(
            f"Training: the {name} must give one number for outputs {tuple(outputs.shape)} and targets "
            f"{tuple(targets.shape)}, and failed: {error}"
        ) from error


class Batches:
    """Endless batches of examples held in memory, in a new random order each epoch.

    Args:
        inputs: (n, ...), as a network reads them.
        targets: (n,) or (n, outputs).
        batch_size: Examples a batch; the last one of an epoch may be smaller.
        generator: Draws the orders.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, batch_size: int, generator: torch.Generator) -> None:
        self._whole, self._given, self._targets = inputs, inputs, targets
        self._features: Tensor | None = None
        self._batch_size, self._generator = batch_size, generator
        self._queue: list[Tensor] = []

    def give(self, features: Tensor | None) -> None:
        """Give only some features of the flattened inputs from now on (int64), or with None the inputs as they are."""
        if features is self._features:
            return
        self._features = features
        self._given = self._whole if features is None else self._whole.flatten(1).index_select(1, features)

    def next(self) -> tuple[Tensor, Tensor]:
        """Give the next batch: inputs (batch, ...) or (batch, features), and targets."""
        if not self._queue:
            order = torch.randperm(len(self._targets), generator=self._generator).to(self._whole.device)
            self._queue = list(order.split(self._batch_size))[::-1]
        # Gathered batch by batch, for a permuted epoch would have to be written to memory and read again.
        index = self._queue.pop()
        return self._given.index_select(0, index), self._targets.index_select(0, index)

    @property
    def epoch_ends(self) -> bool:
        """Whether the last batch given was the last of its epoch."""
        return not self._queue
