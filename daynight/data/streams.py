"""Streams of images: the paper's split MNIST and CIFAR10, and permuted and rotated MNIST."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from daynight.data.images import Images, Source, load_images
from daynight.data.splits import Split
from daynight.data.tasks import Task, TaskStream
from daynight.errors import SettingError
from daynight.support import checks, seeding

#: The label pairs of the paper, one task each.
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))

Folder = str | os.PathLike[str] | None
Classes = Sequence[Sequence[int]]


def split_mnist(
    classes: Classes = PAIRS, *, data: Source = "auto", folder: Folder = None, n_train: int | None = None
) -> TaskStream:
    """Return one task for each group of digits; by default the paper's five pairs.

    Inputs are uint8 (n, 1, 28, 28), which a network reads as 0 to 1; labels count from 0 within each task.

    Args:
        classes: The digits of each task.
        data: ``"full"``, ``"sample"`` (5,000 images), or ``"auto"``, which is the first of these two that is available.
        folder: Folder of the data; see `daynight.data.images.load_images`.
        n_train: Number of training examples per task, spread evenly over the task's classes; None is all examples.

    Raises:
        DataNotFoundError, DataError: If the data are not available, or are damaged.
        SettingError: If a setting is not valid.
    """
    groups = _groups(classes)
    return _split(load_images("mnist", data, folder), groups, n_train)


def split_cifar10(
    classes: Classes = PAIRS, *, data: Source = "full", folder: Folder = None, n_train: int | None = None
) -> TaskStream:
    """Return one task for each group of classes; by default the paper's five pairs.

    Inputs are uint8 (n, 3, 32, 32), which a network reads as 0 to 1. For the arguments see `split_mnist`.
    """
    groups = _groups(classes)
    return _split(load_images("cifar10", data, folder), groups, n_train)


def permuted_mnist(
    n_tasks: int, *, seed: int = 0, data: Source = "auto", folder: Folder = None, n_train: int | None = None
) -> TaskStream:
    """Return tasks of ten digits, each with its own order of the pixels; the first task has the original order.

    All tasks share the memory of the images.

    Args:
        n_tasks: Number of tasks, 1 or more.
        seed: Seed of the orders.
        data: ``"full"``, ``"sample"`` or ``"auto"``; see `split_mnist`.
        folder: Folder of the data.
        n_train: Number of training examples per task, spread evenly over the digits; None is all examples.
    """
    n_tasks = checks.integer("n_tasks", n_tasks, least=1)
    views: list[Callable[[Tensor], Tensor] | None] = [None]
    views += [Permutation(seed=seed, index=index) for index in range(1, n_tasks)]
    return _viewed(load_images("mnist", data, folder), views, [f"order {i}" for i in range(n_tasks)], n_train)


def rotated_mnist(
    degrees: Sequence[float], *, data: Source = "auto", folder: Folder = None, n_train: int | None = None
) -> TaskStream:
    """Return tasks of ten digits, each rotated by its own angle.

    All tasks share the memory of the images.

    Args:
        degrees: The angle of each task in degrees, counter-clockwise.
        data: ``"full"``, ``"sample"`` or ``"auto"``; see `split_mnist`.
        folder: Folder of the data.
        n_train: Number of training examples per task, spread evenly over the digits; None is all examples.
    """
    angles = _angles(degrees)
    names = [f"{angle:g} degrees" for angle in angles]
    views = [Rotation(angle) if angle % 360 else None for angle in angles]
    return _viewed(load_images("mnist", data, folder), views, names, n_train)


@attrs.frozen
class Permutation:
    """Puts the values of each input, such as pixels, into another order.

    Args:
        seed: Seed of the order, together with `index`.
        index: Number of the order among the orders of `seed`.
    """

    seed: int
    index: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return inputs (n, ...) with the values of each input in the new order, which is the same for all inputs."""
        generator = seeding.generator(self.seed, "permutation", self.index)
        order = torch.randperm(inputs[0].numel(), generator=generator).to(inputs.device)
        return inputs.flatten(1)[:, order].reshape(inputs.shape)


@attrs.frozen
class Rotation:
    """Rotates images about their centre. Pixels from outside the image are 0.

    Args:
        degrees: The angle in degrees, counter-clockwise.
    """

    degrees: float

    def __call__(self, images: Tensor) -> Tensor:
        """Return images, float32 (n, channels, height, width), rotated with bilinear interpolation."""
        angle = torch.deg2rad(torch.tensor(self.degrees, dtype=torch.float64)).to(images)
        zero = torch.zeros_like(angle)
        rows = [torch.stack([angle.cos(), -angle.sin(), zero]), torch.stack([angle.sin(), angle.cos(), zero])]
        # An affine grid says where each pixel comes from. As rows count downwards, this rotates counter-clockwise.
        turn = torch.stack(rows)[None]
        parts = []
        for part in images.split(4096):
            grid = functional.affine_grid(turn.expand(len(part), 2, 3), list(part.shape), align_corners=False)
            parts.append(functional.grid_sample(part, grid, align_corners=False))
        return torch.cat(parts)


def _groups(classes: Classes) -> list[tuple[int, ...]]:
    try:
        groups = [tuple(checks.integer("a label", label, least=0, most=9) for label in group) for group in classes]
    except (TypeError, SettingError):
        groups = []
    if not groups or not all(len(set(group)) == len(group) > 1 for group in groups):
        raise SettingError(
            "classes must be one or more groups, each of two or more different labels from 0 to 9, such as "
            f"[(0, 1), (2, 3)], not {classes!r}."
        )
    return groups


def _angles(degrees: Sequence[float]) -> list[float]:
    try:
        angles = [checks.finite("an angle", angle) for angle in degrees]
    except (TypeError, SettingError):
        angles = []
    if not angles:
        raise SettingError(f"degrees must be at least one finite angle, such as [0, 30, 60], not {degrees!r}.")
    return angles


def _split(images: Images, groups: list[tuple[int, ...]], n_train: int | None) -> TaskStream:
    tasks = []
    for group in groups:
        train = _subset(images.x_train, images.y_train, group, n_train)
        test = _subset(images.x_test, images.y_test, group, None)
        tasks.append(Task(train=train, test=test, n_outputs=len(group), name="/".join(map(str, group))))
    return TaskStream(tasks, images.source)


def _viewed(
    images: Images, views: Sequence[Callable[[Tensor], Tensor] | None], names: Sequence[str], n_train: int | None
) -> TaskStream:
    train = _subset(images.x_train, images.y_train, range(10), n_train)
    test = _subset(images.x_test, images.y_test, range(10), None)
    tasks = [
        Task(train=attrs.evolve(train, view=view), test=attrs.evolve(test, view=view), n_outputs=10, name=name)
        for view, name in zip(views, names, strict=True)
    ]
    return TaskStream(tasks, images.source)


def _subset(x: np.ndarray, y: np.ndarray, group: Sequence[int], n: int | None) -> Split:
    """Return the examples of the classes in `group`, in the order of the data, with labels from 0."""
    chosen = [np.flatnonzero(y == label) for label in group]
    if n is not None:
        n = checks.integer("n_train", n, least=1)
        # Numbers per class come from a cumulative total, so that they differ by one at most and sum to n.
        shares = np.diff([n * i // len(group) for i in range(len(group) + 1)])
        for label, members, share in zip(group, chosen, shares, strict=True):
            if share > len(members):
                raise SettingError(
                    f"n_train={n} needs {share} training examples of class {label}, and there are {len(members)}."
                )
        chosen = [members[:share] for members, share in zip(chosen, shares, strict=True)]
    index = np.sort(np.concatenate(chosen))
    lookup = np.full(10, -1, dtype=np.int64)
    lookup[list(group)] = np.arange(len(group))
    inputs = torch.from_numpy(x[index])
    inputs = inputs[:, None] if inputs.dim() == 3 else inputs.permute(0, 3, 1, 2).contiguous()
    return Split(inputs, torch.from_numpy(lookup[y[index]]))
