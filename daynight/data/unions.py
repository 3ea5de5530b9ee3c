"""Unions: several tasks learnt as one task, in which each example counts with the outputs of its own task."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from daynight.data.splits import LazyInputs, Split
from daynight.data.tasks import Task, titled
from daynight.errors import DataError


def union(tasks: Sequence[Task], name: str = "union") -> Task:
    """Return one task made of `tasks`, with their classes numbered consecutively in the order of `tasks`.

    In the loss and the score of the union, each example counts with the outputs of its own task only, as if each task
    had its own head.

    Args:
        tasks: One or more tasks in memory, with class labels and the same input shape.
        name: Name of the union in tables.

    Raises:
        DataError: If there are no tasks, or a task has no class labels, is not in memory, has another input shape, or
            is a union.
    """
    parts = [within_union(tasks, index) for index in range(len(tasks))]
    if not parts:
        raise DataError("union: there are no tasks. Give one or more.")
    splits = {
        which: _joined([part.splits()[which] for part in parts])
        for which in ("train", "validation", "test")
        if all(which in part.splits() for part in parts)
    }
    groups = parts[0].groups
    return Task(
        train=splits["train"], validation=splits.get("validation"), test=splits["test"], n_outputs=sum(groups),
        name=name, groups=groups,
    )  # fmt: skip


def within_union(tasks: Sequence[Task], index: int) -> Task:
    """Return a task with its classes numbered as in the `union` of `tasks`, to evaluate an agent that learnt the union.

    Args:
        tasks: The tasks of the union.
        index: Index of the task in `tasks`, from 0.

    Raises:
        DataError: If a task has no class labels, is read lazily, or is a union itself.
    """
    for task in tasks:
        check_can_join(task)
    return _within(tasks[index], index, [task.n_outputs for task in tasks])


def after(task: Task, n_outputs: Sequence[int]) -> Task:
    """Return a task with its classes numbered after those of earlier tasks, as in their `union`.

    Args:
        task: The task.
        n_outputs: Number of outputs of each earlier task, in order.

    Raises:
        DataError: If the task has no class labels, is read lazily, or is a union itself.
    """
    check_can_join(task)
    return _within(task, len(n_outputs), [*n_outputs, task.n_outputs])


def _within(task: Task, index: int, groups: Sequence[int]) -> Task:
    """Return a task with its classes numbered as those of the group `index` of a union."""
    first = sum(groups[:index])
    splits = {which: attrs.evolve(split, targets=split.targets + first) for which, split in task.splits().items()}
    return Task(
        train=splits["train"], validation=splits.get("validation"), test=splits["test"], n_outputs=sum(groups),
        name=task.name, groups=tuple(groups),
    )  # fmt: skip


def check_can_join(task: Task) -> None:
    """Raise DataError unless a task can join a union: it has class labels, is in memory, and is not a union itself."""
    if not task.classifies:
        raise DataError(
            f"{titled(task.name)} has no class labels, and only tasks with class labels can be joined. Leave it out."
        )
    if task.groups:
        raise DataError(f"{titled(task.name)} is a union of tasks already. Give its tasks one by one.")
    if any(isinstance(split.inputs, LazyInputs) for split in task.splits().values()):
        raise DataError(
            f"{titled(task.name)} is read lazily, and only tasks in memory can be learnt together. Give tensors."
        )


def _joined(splits: Sequence[Split]) -> Split:
    """Return the examples of `splits` as one split.

    The inputs are stored unchanged if all splits have the same view, type and shape; otherwise as a network reads them.
    """
    targets = torch.cat([split.targets for split in splits])
    held = [split.inputs for split in splits if isinstance(split.inputs, Tensor)]
    view = splits[0].view
    is_alike = all(
        split.view is view and inputs.dtype == held[0].dtype and inputs.shape[1:] == held[0].shape[1:]
        for split, inputs in zip(splits, held, strict=True)
    )
    if is_alike:
        return Split(torch.cat(held), targets, view)
    loaded = [split.load()[0] for split in splits]
    for one, other in itertools.pairwise(loaded):
        if one.shape[1:] != other.shape[1:]:
            raise DataError(
                f"the tasks of a union have inputs of the shapes {tuple(one.shape[1:])} and {tuple(other.shape[1:])}. "
                "One network reads one shape: resize or pad them."
            )
    return Split(torch.cat(loaded), targets)
