"""Metrics: how good a task's predictions are. A metric is any function of (outputs, targets)."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

#: First parameters of functions that take targets before outputs, as those of scikit-learn do.
_TARGETS = (
    "y_true", "labels_true", "true", "target", "targets", "label", "labels", "ground_truth", "truth", "gt", "actual",
    "actuals", "expected", "desired",
)  # fmt: skip
#: First parameters that may be targets or outputs. Targets they are if the second one is called as outputs are.
_EITHER, _OUTPUTS = ("y", "t"), re.compile("(y_?)?(pred|prob|out|logit|score|hat|forecast|estimat).*|p|o|yp")
#: Longer names are not shown.
_LONGEST = 60


class WithinGroups:
    """A loss or metric of a union of tasks, in which each example counts with the outputs of its own task only.

    Args:
        function: Function of (outputs, targets) of one task, a mean over its examples.
        sizes: Number of outputs of each task, in the order of the union.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Any], sizes: Sequence[int]) -> None:
        self.function = function
        self._task_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self._is_foreign = self._task_of[:, None] != self._task_of
        self._ends = torch.tensor(sizes).cumsum(0).tolist()
        self._sizes = tuple(sizes)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Any:
        """Return the mean of the function over all examples.

        Args:
            outputs: Floating point (n, outputs of all tasks).
            targets: int64 (n,), classes numbered consecutively over all tasks.
        """
        tasks, total = self._task_of.to(targets.device)[targets], 0
        for task, (end, size) in enumerate(zip(self._ends, self._sizes, strict=True)):
            rows = tasks == task
            n = int(rows.sum())
            if n:
                value = self.function(outputs[rows, end - size : end], targets[rows] - (end - size))
                total = total + value * (n / len(targets))
        return total

    def masked(self, outputs: Tensor, targets: Tensor, value: float = -torch.inf) -> Tensor:
        """Return the outputs with `value` for classes of other tasks; softmax turns minus infinity into zero."""
        return outputs.masked_fill(self._is_foreign.to(targets.device)[targets], value)


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Return the fraction of examples whose largest output is the output of the right class, 0 to 1.

    Args:
        outputs: Floating point (n, classes).
        targets: int64 (n,), class labels from 0.
    """
    return float((outputs.argmax(dim=1) == targets).sum()) / len(targets)


def label_accuracy(outputs: Tensor, targets: Tensor, threshold: float = 0.0) -> float:
    """Return the fraction of labels that are right, 0 to 1, if an example may have several labels, or none.

    Args:
        outputs: Floating point (n, labels); an output above `threshold` says that the label is there.
        targets: Floating point (n, labels): 1 for a label that is there, and 0 for others.
        threshold: 0 for outputs before a sigmoid, and 0.5 for probabilities.
    """
    return float(((outputs > threshold) == (targets > 0.5)).double().mean())


class OfLabels:
    """A metric of predicted classes instead of outputs, such as most metrics for classification of scikit-learn.

    The predicted class of an example is that of its largest output.

    Args:
        function: Function of (true classes, predicted classes), both int64 arrays (n,) of NumPy, to a number.
        settings: Further arguments of the function, such as ``average="macro"``.
    """

    def __init__(self, function: Callable[..., Any], **settings: Any) -> None:
        self.function, self.settings = function, settings

    def __call__(self, outputs: Tensor, targets: Tensor) -> float:
        """Return the metric of outputs, floating point (n, classes), and class labels, int64 (n,)."""
        predicted = outputs.argmax(dim=1).cpu().numpy()
        return float(self.function(targets.cpu().numpy(), predicted, **self.settings))


def accumulates(function: Any) -> bool:
    """Return whether a metric is an object that collects batches, as those of torchmetrics do, until it is reset."""
    return all(callable(getattr(function, name, None)) for name in ("reset", "update", "compute"))


def adapted(function: Callable[..., Any]) -> Callable[[Tensor, Tensor], Any]:
    """Return a loss or a metric as a function of (outputs, targets) that collects nothing from call to call.

    Args:
        function: The loss or metric. If its first parameter is named as targets are, such as ``y_true``, and its second
            is not, it is called with (targets, outputs); of an object that collects batches, the method ``update``.
    """
    if accumulates(function):
        return functools.partial(_anew, function)
    return functools.partial(_turned, function) if _takes_targets_first(function) else function


def given(function: Any) -> Any:
    """Return the loss or metric of which `adapted`, or a `WithinGroups`, made a function."""
    while True:
        if isinstance(function, functools.partial) and function.func in (_anew, _turned):
            function = function.args[0]
        elif isinstance(function, WithinGroups):
            function = function.function
        else:
            return function


def name_of(function: Any) -> str | None:
    """Return the name of a metric in words, such as ``"accuracy"`` or ``"f1 score"``; None if it has none."""
    function = given(function)
    while isinstance(function, functools.partial | OfLabels):
        function = given(function.func if isinstance(function, functools.partial) else function.function)
    name = f"{getattr(function, '__name__', None) or type(function).__name__}".strip("_").replace("_", " ")
    return name if name != "<lambda>" and name.isprintable() and 0 < len(name) <= _LONGEST else None


def _takes_targets_first(function: Any) -> bool:
    called: Any = function.forward if isinstance(function, nn.Module) else function
    try:
        first, second, *_ = [*inspect.signature(called).parameters, "", ""]
    except (TypeError, ValueError):  # a function that is written in C
        return False
    if first in _EITHER:
        return _OUTPUTS.fullmatch(second) is not None
    return first in _TARGETS and second not in _TARGETS


def _turned(function: Callable[[Tensor, Tensor], Any], outputs: Tensor, targets: Tensor) -> Any:
    return function(targets, outputs)


def _anew(metric: Any, outputs: Tensor, targets: Tensor) -> Any:
    metric.reset()
    try:
        metric.update(*((targets, outputs) if _takes_targets_first(metric.update) else (outputs, targets)))
        return metric.compute()
    finally:
        metric.reset()


def mean_squared_error(outputs: Tensor, targets: Tensor) -> float:
    """Return the mean squared difference, in squared units of the targets, 0 or more; lower is better.

    Args:
        outputs: Floating point (n, outputs).
        targets: Floating point (n, outputs).
    """
    return float((outputs - targets).square().mean())


def r_squared(outputs: Tensor, targets: Tensor) -> float:
    """Return the coefficient of determination, 1 - residual / total sum of squares, up to 1; higher is better.

    Both sums are over all outputs together. The total is the sum of squares about the mean of each output. If all
    targets are equal, the result is 0.

    Args:
        outputs: Floating point (n, outputs).
        targets: Floating point (n, outputs).
    """
    total = float((targets - targets.mean(dim=0)).square().sum())
    return 1.0 - float((outputs - targets).square().sum()) / total if total else 0.0
