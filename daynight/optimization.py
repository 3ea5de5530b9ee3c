"""The optimizer loop, which cannot move what is frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from daynight.errors import TrainingError
from daynight.network import MaskedNetwork, Trainable
from daynight.schedule import Ledger
from daynight.training import Batches, Training


class Optimization:
    """The optimizer of one phase, which cannot move what is frozen.

    Gradients of frozen weights are set to zero, so that optimizers that look across weights do not see
    them, and after each step frozen weights get back the value they had: weight decay and momentum move
    weights without any gradient.

    Args:
        network: The network, in a day.
        training: The settings.
        loss: Function of (outputs, targets) to a scalar.
        n_steps: Number of steps that this optimizer will take, for the scheduler.

    Raises:
        SettingError: If `training` makes no optimizer that can be used.
    """

    def __init__(
        self, network: MaskedNetwork, training: Training, loss: Callable[[Tensor, Tensor], Tensor], n_steps: int
    ) -> None:
        self._network, self._training, self._loss = network, training, loss
        self._trainables: list[Trainable] = []
        self._anchors: list[Tensor | None] = []
        self.refresh()
        self._optimizer = training.make_optimizer([item.parameter for item in self._trainables])
        self._scheduler = training.scheduler(self._optimizer, n_steps) if training.scheduler else None

    def refresh(self) -> None:
        """Take over the network's masks as they are now, after a prune."""
        self._trainables = self._network.trainables()
        self._anchors = [None if item.mask is None else item.parameter.detach().clone() for item in self._trainables]

    def forget_pruned(self) -> None:
        """Clear the optimizer's state wherever nothing may move, and take over the masks (see `refresh`)."""
        self.refresh()
        for item in self._trainables:
            if item.mask is None:
                continue
            for value in self._optimizer.state[item.parameter].values():
                if isinstance(value, Tensor) and value.shape == item.mask.shape:
                    value.masked_fill_(~item.mask, 0)

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Take one optimizer step on a batch, and give its loss."""
        if self._training.augment is not None:
            inputs = self._training.augment(inputs)
        if self._training.transform is not None:
            inputs = self._training.transform(inputs)
        loss = self._loss(self._network.module(inputs), targets)
        self._optimizer.zero_grad()
        loss.backward()
        for item in self._trainables:
            if item.mask is not None and item.parameter.grad is not None:
                item.parameter.grad.mul_(item.mask)
        try:
            self._optimizer.step()
        finally:
            self._hold()
        if self._scheduler is not None:
            self._scheduler.step()
        return loss.detach()

    def _hold(self) -> None:
        for item, anchor in zip(self._trainables, self._anchors, strict=True):
            if item.mask is not None and anchor is not None:
                weight = item.parameter.detach()
                torch.where(item.mask, weight, anchor, out=weight)


def train(
    optimization: Optimization,
    batches: Batches,
    ledger: Ledger,
    end: float,
    on_step: Callable[[Tensor], None],
) -> Iterator[float]:
    """Take optimizer steps until a share of a budget is spent.

    Args:
        optimization: Takes the steps.
        batches: Gives them their examples.
        ledger: Where they are entered.
        end: Share of the budget to stop at, 0 to 1.
        on_step: Called with the loss of each step.

    Yields:
        The mean loss, at the end of each epoch and of the phase, over the examples since the last.

    Raises:
        TrainingError: If that mean is not finite.
    """
    n_examples, sums = 0, list[Tensor]()
    while not ledger.reached(end):
        inputs, targets = batches.next()
        loss = optimization.step(inputs, targets)
        ledger.note_step()
        on_step(loss)
        sums.append(loss * len(inputs))
        n_examples += len(inputs)
        if batches.epoch_ends or ledger.reached(end):
            total = float(torch.stack(sums).double().sum())
            if not math.isfinite(total):
                raise TrainingError(
                    "the loss is not finite. Lower the learning rate, clip gradients, or look for inputs "
                    "far outside their usual range."
                )
            yield total / n_examples
            sums, n_examples = [], 0
