"""Small things to try daynight with: a toy stream and a toy network that learn in no time, and a clock of their own."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import torch
from torch import nn

from daynight import checks, seeding
from daynight.deadlines import Timer
from daynight.models import MLP
from daynight.tasks import Task, TaskStream


def toy_stream(
    n_tasks: int = 3,
    *,
    n_features: int = 6,
    n_classes: int = 2,
    n_train: int = 40,
    n_test: int = 20,
    seed: int = 0,
) -> TaskStream:
    """Make tasks of Gaussian blobs, one blob a class, in places of their own for each task.

    Args:
        n_tasks: Number of tasks.
        n_features: Number of values of an input: float32 (n, n_features).
        n_classes: Number of classes of each task.
        n_train: Number of training examples of each task.
        n_test: Number of test examples of each task.
        seed: Names the draw.
    """
    return TaskStream(
        (_blobs(index, n_features, n_classes, n_train, n_test, seed) for index in range(n_tasks)),
        source=f"{n_tasks} toy tasks",
    )


def toy_network(n_features: int = 6, width: int = 8) -> nn.Module:
    """Make a small MLP for `toy_stream`, with two hidden layers of `width` units."""
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


class FakeTimer(Timer):
    """Tells a simulated time, in which only optimizer steps and prunes take any: nights in seconds then repeat.

    Args:
        step_seconds: What an optimizer step takes, 0 or more: a number, or a function of how many there were before.
        prune_seconds: What a prune takes, likewise.
        start: When it begins, in the machine's time zone.
    """

    def __init__(
        self,
        step_seconds: float | Callable[[int], float] = 0.01,
        prune_seconds: float | Callable[[int], float] = 0.0,
        start: datetime.datetime = datetime.datetime(2001, 1, 1, 22, 0),
    ) -> None:
        self._seconds = {"step": step_seconds, "prune": prune_seconds}
        self._n = {"step": 0, "prune": 0}
        self._start = start.astimezone()
        self._passed = 0.0

    def now(self) -> float:
        """Give the simulated seconds since an odd moment, so that mixing it up with a real clock shows."""
        return 10_007.0 + self._passed

    def wall(self) -> datetime.datetime:
        """Give simulated date and time of day."""
        return self._start + datetime.timedelta(seconds=self._passed)

    def advance(self, seconds: float) -> None:
        """Let time pass, 0 seconds or more."""
        self._passed += checks.finite("advance: seconds", seconds, least=0)

    def worked(self, what: str) -> None:
        """Let the time pass that this piece of work takes."""
        seconds = self._seconds[what]
        self.advance(seconds(self._n[what]) if callable(seconds) else seconds)
        self._n[what] += 1
