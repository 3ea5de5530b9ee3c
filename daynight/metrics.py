"""Metrics: how good a task's predictions are. A metric is any function of (outputs, targets)."""

from __future__ import annotations

from torch import Tensor


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Fraction of examples whose largest output is that of their class, 0 to 1.

    Args:
        outputs: Floating point (n, classes).
        targets: int64 (n,), class labels from 0.
    """
    return float((outputs.argmax(dim=1) == targets).sum()) / len(targets)


def mean_squared_error(outputs: Tensor, targets: Tensor) -> float:
    """Mean of the squared differences, in squared units of the targets, 0 or more; lower is better.

    Args:
        outputs: Floating point (n, outputs).
        targets: Floating point (n, outputs).
    """
    return float((outputs - targets).square().mean())


def r_squared(outputs: Tensor, targets: Tensor) -> float:
    """Coefficient of determination, 1 - residual / total sum of squares, up to 1; higher is better.

    Over all outputs together, each about its own mean. Without any spread in the targets it is 0.

    Args:
        outputs: Floating point (n, outputs).
        targets: Floating point (n, outputs).
    """
    total = float((targets - targets.mean(dim=0)).square().sum())
    return 1.0 - float((outputs - targets).square().sum()) / total if total else 0.0
