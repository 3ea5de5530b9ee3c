"""Measures of continual learning, from the matrix of accuracies at each dawn.

A matrix is float64 (day, task): row i holds the accuracy on each task's test data after day i, and NaN for later
tasks, as in `daynight.History.accuracy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from daynight.errors import SettingError
from daynight.pruning.capacity import check_free_at_end


def average_accuracy(matrix: Any) -> float:
    """Return the mean over all tasks of the accuracy after the last day (ACC of Lopez-Paz and Ranzato 2017)."""
    return float(_checked(matrix)[-1].mean())


def backward_transfer(matrix: Any) -> float:
    """Return the mean change of the accuracy on a task from its dawn to the last dawn; negative if tasks are forgotten.

    BWT = sum over i < T of (R[T, i] - R[i, i]) / (T - 1), of Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for
    Continual Learning". It is 0 for one task.
    """
    table = _checked(matrix)
    return float((table[-1, :-1] - np.diag(table)[:-1]).mean()) if len(table) > 1 else 0.0


def forgetting(matrix: Any) -> float:
    """Return the mean drop of the accuracy on a task from its best before the last day to the last day.

    F = sum over i < T of (max over l < T of R[l, i] - R[T, i]) / (T - 1), of Chaudhry et al. 2018, "Riemannian Walk for
    Incremental Learning". It is 0 for one task.
    """
    table = _checked(matrix)
    return float((np.nanmax(table[:-1, :-1], axis=0) - table[-1, :-1]).mean()) if len(table) > 1 else 0.0


def forward_transfer(matrix: Any, alone: Sequence[float]) -> float:
    """Return the mean gain in accuracy at a task's own dawn over the same network trained on that task alone.

    With private heads, no task can be tested before it is learnt. So this is measured against training from scratch: it
    is the negative of the intransigence of Chaudhry et al. 2018. The first task cannot gain, and is left out. It is 0
    for one task.

    Args:
        matrix: Accuracy (day, task).
        alone: Accuracy on each task of a network trained on it alone.

    Raises:
        SettingError: If `alone` does not have an accuracy for each task.
    """
    table, others = _checked(matrix), _numbers("forward_transfer: alone", alone)
    if others.shape != (len(table),) or not np.isfinite(others).all():
        raise SettingError(f"forward_transfer needs an accuracy for each of the {len(table)} tasks, not {alone!r}.")
    return float((np.diag(table) - others)[1:].mean()) if len(table) > 1 else 0.0


def compression(free_at_end: float, free_at_end_of_other: float) -> float:
    """Return how many times fewer weights another method owns at equal accuracy: (1 - p) / (1 - p of the other).

    Source: Ball et al., "A Study on Efficiency in Continual Learning Inspired by Human Learning", Section 2.

    Args:
        free_at_end: p, the fraction of weights still free, between 0 and 1.
        free_at_end_of_other: The fraction at which the other method reaches the same accuracy.
    """
    return (1 - check_free_at_end(free_at_end)) / (1 - check_free_at_end(free_at_end_of_other))


def _numbers(what: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{what} must be numbers in rows of equal length, not {values!r}.") from error


def _checked(matrix: Any) -> np.ndarray:
    table = _numbers("a matrix of accuracies", matrix)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not len(table):
        raise SettingError(f"a matrix of accuracies must have the shape (tasks, tasks), not {table.shape}.")
    if np.isnan(table[np.tril_indices(len(table))]).any():
        raise SettingError(
            "a matrix of accuracies needs each finished task at each dawn, and some are missing: test all "
            "of them, with a stream that begins with the task of day 0."
        )
    return table
