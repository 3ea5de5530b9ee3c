"""A toy stream and a toy network, small enough to learn in milliseconds."""

from __future__ import annotations

import torch
from torch import nn

from daynight.data.tasks import Task, TaskStream
from daynight.models import MLP
from daynight.support import seeding


def toy_stream(
    n_tasks: int = 3,
    *,
    n_features: int = 6,
    n_classes: int = 2,
    n_train: int = 40,
    n_test: int = 20,
    seed: int = 0,
) -> TaskStream:
    """Return tasks of Gaussian blobs: one blob for each class, at different places for each task.

    Args:
        n_tasks: Number of tasks.
        n_features: Length of an input; inputs are float32 (n, n_features).
        n_classes: Number of classes of each task.
        n_train: Number of training examples of each task.
        n_test: Number of test examples of each task.
        seed: Seed of the random numbers.
    """
    return TaskStream(
        (_blobs(index, n_features, n_classes, n_train, n_test, seed) for index in range(n_tasks)),
        source=f"{n_tasks} toy tasks",
    )


def toy_network(n_features: int = 6, width: int = 8) -> nn.Module:
    """Return a small MLP for `toy_stream`, with two hidden layers of `width` units."""
    return MLP(n_features, width, width)


def _blobs(index: int, n_features: int, n_classes: int, n_train: int, n_test: int, seed: int) -> Task:
    generator = seeding.generator(seed, "toy", index)
    centres = 3.0 * torch.randn(n_classes, n_features, generator=generator)
    labels = torch.arange(n_train + n_test) % n_classes
    inputs = centres[labels] + torch.randn(len(labels), n_features, generator=generator)
    return Task(
        train=(inputs[:n_train], labels[:n_train]),
        test=(inputs[n_train:], labels[n_train:]),
        n_outputs=n_classes,
        name=f"toy {index}",
    )
