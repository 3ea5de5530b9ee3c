"""Replay: a uniform sample of the training data of all past days, of bounded size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from daynight.data.splits import LazyInputs, Split, as_inputs
from daynight.data.tasks import Task, titled
from daynight.errors import DataError, SettingError
from daynight.support import checks, digests, expected, seeding

#: Examples of a lazy split are read in chunks of this size.
CHUNK = 256


def _examples(value: Any) -> int:
    return checks.integer("Replay: examples", value, least=1)


def _share(value: Any) -> float:
    share = checks.share("Replay: share", value)
    if share in (0, 1):
        raise SettingError(
            f"Replay: share must be above 0 and below 1, not {value!r}: at 0 nothing is replayed, and at 1 the day "
            "itself is not learnt."
        )
    return share


@attrs.frozen
class Replay:
    """How many examples of past days an agent keeps, and how much of each batch they are.

    With ``Agent(replay=Replay(5000))``, the agent keeps a uniform sample of the training data of all its finished days.
    On a day whose task succeeds another, each batch has kept examples of all earlier versions of the task. A task
    without a predecessor trains on its own data alone, since examples of other tasks have other outputs. With
    ``consolidation="rehearse"``, the batches of each day have kept examples of all tasks.

    An epoch is one pass over the day's own data. Since each step has fewer of them, it has more steps: with a share of
    0.5, twice as many.

    Args:
        examples: Largest number of examples to keep, of all past days together, 1 or more.
        share: Share of each batch that is drawn from the kept examples, above 0 and below 1.

    Raises:
        SettingError: If a value is outside its range.
    """

    examples: int = attrs.field(converter=_examples)
    share: float = attrs.field(default=0.5, converter=_share)

    def n_in(self, batch_size: int) -> int:
        """Return how many examples of a batch are drawn from the kept ones: ``share * batch_size``, rounded.

        A batch of two or more has at least one kept example, and one of the day.
        """
        return min(max(checks.round_half_up(self.share * batch_size), 1), batch_size - 1) if batch_size > 1 else 0


@attrs.frozen(eq=False)
class Kept:
    """Examples of past days, which have one form.

    Attributes:
        inputs: (n, ...), as they are stored; `Memory.examples` returns them as a network reads them.
        targets: int64 (n,), or floating point (n, outputs).
        days: int64 (n,), the day on which each example was learnt.
        tasks: int64 (n,), the index of the task of each example or, if that was succeeded, of its latest version.
        ranks: float64 (n,), the random number of each example, from 0 to 1. The smallest are kept.
    """

    inputs: Tensor
    targets: Tensor
    days: Tensor
    tasks: Tensor
    ranks: Tensor

    def __len__(self) -> int:
        return len(self.days)

    def at(self, index: Tensor) -> Kept:
        """Return the examples at some places (int64), or where a mask (bool) is true."""
        return Kept(*(tensor[index] for tensor in self.tensors()))

    def with_more(self, more: Kept) -> Kept:
        """Return these examples, and then some of the same form."""
        return Kept(*(torch.cat(pair) for pair in zip(self.tensors(), more.tensors(), strict=True)))

    def tensors(self) -> tuple[Tensor, ...]:
        """Return inputs, targets, days, tasks and ranks."""
        return self.inputs, self.targets, self.days, self.tasks, self.ranks

    def form(self) -> tuple[Any, ...]:
        """Return type and shape of one input and one target."""
        return self.inputs.dtype, self.inputs.shape[1:], self.targets.dtype, self.targets.shape[1:]


class Memory:
    """A uniform sample without replacement of the training data of all past days.

    Each example gets a random number, and those with the smallest numbers are kept. So after each day, every set of
    `examples` of all examples that were added is equally likely to be kept; as long as no more were added, all are
    kept. This has the distribution of Algorithm R (J. S. Vitter, "Random sampling with a reservoir", 1985), and stays
    uniform if some days are forgotten. Source: E. Cohen and H. Kaplan, "Summarizing data using bottom-k sketches",
    2007. Seed, day and the number of examples added before determine the numbers. Only what is kept is read.

    Bytes of pixels are kept as bytes, one per pixel. Inputs of a split with a view are kept as the view returns them.

    Args:
        examples: Largest number of examples to keep, 1 or more.
        seed: Seed of the random numbers, 0 or more.

    Raises:
        SettingError: If `examples` or `seed` is not valid.
    """

    def __init__(self, examples: int, seed: int = 0) -> None:
        self._most = checks.integer("Memory: examples", examples, least=1)
        self._seed = checks.integer("Memory: seed", seed, least=0)
        self._n_seen = 0
        # Of the days that are not forgotten, the examples with a number below this one are kept, and no others.
        self._below = 1.0
        self._parts: tuple[Kept, ...] = ()
        self._digests: tuple[str, ...] = ()  # of all tensors of the parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @property
    def n_seen(self) -> int:
        """Number of all examples that were added, also on days that are forgotten."""
        return self._n_seen

    @property
    def n_bytes(self) -> int:
        """Bytes that the kept examples take in memory, with targets, days, tasks and random numbers."""
        return sum(tensor.numel() * tensor.element_size() for part in self._parts for tensor in part.tensors())

    @property
    def days(self) -> Tensor:
        """The day of each kept example, int64 (n,)."""
        return torch.cat([torch.empty(0, dtype=torch.int64), *(part.days for part in self._parts)])

    @property
    def tasks(self) -> Tensor:
        """The index of the latest version of the task of each kept example, int64 (n,)."""
        return torch.cat([torch.empty(0, dtype=torch.int64), *(part.tasks for part in self._parts)])

    def add(self, day: int, split: Split, succeeds: int | None = None) -> None:
        """Add the training data of a day. If this fails, the memory is as it was before.

        Args:
            day: Index of the day, from 0, which is also the index of its task.
            split: All training examples of the day. A lazy split is read at the indices of the examples to be kept.
            succeeds: Index of the task that the day's task succeeds. The examples of that task count as examples of the
                day's task from then on. None if there is none.

        Raises:
            SettingError: If `day` is not valid.
            DataError: If examples cannot be read.
        """
        day = checks.integer("Memory: day", day, least=0)
        generator = seeding.generator(self._seed, "replay", day, self._n_seen)
        ranks = torch.rand(len(split), generator=generator, dtype=torch.float64)
        held = torch.cat([ranks[:0], *(part.ranks for part in self._parts)])
        of_all = torch.cat([held, ranks])
        of_all = of_all[of_all < self._below].sort().values
        below = float(of_all[self._most]) if len(of_all) > self._most else self._below
        parts = [_succeeded(part.at(part.ranks < below), succeeds, day) for part in self._parts]
        index = torch.where(ranks < below)[0]
        if len(index):
            new = self._read(day, split, index, ranks[index])
            same = [place for place, part in enumerate(parts) if part.form() == new.form()]
            if same:
                parts[same[0]] = parts[same[0]].with_more(new)
            else:
                parts.append(new)
        self._hold(parts)
        self._below = below
        self._n_seen += len(split)

    def forget(self, task: int) -> None:
        """Drop all examples of a task and of the tasks that it succeeded. The others stay a uniform sample of the rest.

        The memory is then smaller, and grows again with the days to come.

        Args:
            task: Index of the task, from 0.
        """
        self._hold([part.at(part.tasks != task) for part in self._parts])

    def all(self) -> tuple[Kept, ...]:
        """Return all kept examples, in parts of one form each, with inputs as they are stored."""
        return self._parts

    def examples(self, task: int | None = None) -> list[Kept]:
        """Return kept examples, as a network reads them.

        Args:
            task: Index of a task: its examples, and those of the tasks that it succeeded. None is all examples.

        Returns:
            Parts of one form each. There is one part if all days have inputs and targets of one type and shape, and
            none if nothing is kept.
        """
        parts = [part if task is None else part.at(part.tasks == task) for part in self._parts]
        return [attrs.evolve(part, inputs=as_inputs(part.inputs)) for part in parts if len(part)]

    def changed(self) -> list[str]:
        """Return the names of the tensors that something other than the memory has changed."""
        known = zip(self.tensors().items(), self._digests, strict=True)
        return [name for (name, tensor), of_held in known if digests.digest(tensor) != of_held]

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the memory by their names in files, such as ``0.inputs``; `parts_of` takes them."""
        return {
            f"{place}.{name}": tensor
            for place, part in enumerate(self._parts)
            for name, tensor in attrs.asdict(part, recurse=False).items()
        }

    def values(self) -> dict[str, Any]:
        """Return the plain values that belong to the tensors."""
        return {"n_seen": self._n_seen, "below": self._below}

    def state(self) -> dict[str, Any]:
        """Return the kept examples and their count as tensors and plain values; `restore` takes them."""
        return {**self.values(), "parts": [attrs.asdict(part, recurse=False) for part in self._parts]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned for a memory of the same size.

        Raises:
            ValueError: If values are missing, or do not fit each other.
        """
        _STATE("memory", dict(state))
        parts, below = tuple(Kept(**part) for part in state["parts"]), float(state["below"])
        for place, part in enumerate(parts):
            _check(f"memory.parts[{place}]", part, below)
        n, most = sum(map(len, parts)), min(self._most, state["n_seen"])
        if n > most:
            raise ValueError(f"the memory has {n:,} examples, and can have at most {most:,}")
        if len({part.form() for part in parts}) < len(parts):
            raise ValueError("the memory has two parts of one form")
        self._hold(parts)
        self._below, self._n_seen = below, state["n_seen"]

    def _hold(self, parts: Sequence[Kept]) -> None:
        """Keep these parts, without empty ones, in place of the last ones. Tensors are never written to."""
        self._parts = tuple(part for part in parts if len(part))
        self._digests = tuple(digests.digest(tensor) for part in self._parts for tensor in part.tensors())

    def _read(self, day: int, split: Split, index: Tensor, ranks: Tensor) -> Kept:
        """Return the examples of a split at some indices (int64), in memory of their own."""
        if isinstance(split.inputs, Tensor) and split.view is None:
            inputs = split.inputs[index]
        else:  # a user's dataset or view, which may draw from the global generators
            with seeding.forked(self._seed, "replay", day):
                inputs = torch.cat([_inputs(split, chunk) for chunk in index.split(CHUNK)])
        days = torch.full((len(index),), day)
        return Kept(inputs.cpu(), split.targets[index].cpu(), days, days.clone(), ranks)


def _succeeded(part: Kept, task: int | None, day: int) -> Kept:
    """Return a part whose examples of a task are examples of the task of `day`, which succeeds it."""
    return part if task is None else attrs.evolve(part, tasks=torch.where(part.tasks == task, day, part.tasks))


def parts_of(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the parts of a `Memory.state` of which `Memory.tensors` returned the tensors.

    Raises:
        ValueError: If parts are missing.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        place, _, field = name.partition(".")
        parts.setdefault(place, {})[field] = tensor
    if parts.keys() != {str(place) for place in range(len(parts))}:
        raise ValueError("parts of the kept examples are missing")
    return [parts[str(place)] for place in range(len(parts))]


def check_targets(task: Task, part: Kept) -> None:
    """Raise DataError unless kept examples have targets of the same kind and shape as those of a task."""
    own, kept = task.train.targets, part.targets
    if own.is_floating_point() != kept.is_floating_point() or own.shape[1:] != kept.shape[1:]:
        raise DataError(
            f"{titled(task.name)} has {_named(own)} as targets, and the examples that are kept of earlier versions "
            f"have {_named(kept)}. Give targets of the same form, or begin a task of its own, without succeeds."
        )


def joined(parts: Sequence[Kept], task: Task) -> Kept | None:
    """Return kept examples as one part, for the batches of a task; None if there are none.

    Args:
        parts: The examples, as `Memory.examples` returns them.
        task: The task.

    Raises:
        DataError: If their targets are not of the same kind and shape as those of the task.
    """
    for part in parts:
        check_targets(task, part)
    return Kept(*map(torch.cat, zip(*(part.tensors() for part in parts), strict=True))) if parts else None


def _named(targets: Tensor) -> str:
    return f"{targets.shape[1]} numbers" if targets.is_floating_point() else "labels"


def _inputs(split: Split, index: Tensor) -> Tensor:
    """Return some inputs as they are stored, or as the view of the split returns them."""
    held = split.inputs
    inputs = next(held.batches([index])) if isinstance(held, LazyInputs) else held[index]
    return inputs if split.view is None else split.prepared(inputs)


_PART = expected.fields({field.name: expected.tensor() for field in attrs.fields(Kept)})
_STATE = expected.fields({"n_seen": expected.whole(), "below": expected.number(0, 1), "parts": expected.listed(_PART)})


def _check(where: str, part: Kept, below: float) -> None:
    """Raise ValueError unless the tensors of a part fit each other, and all its random numbers are below `below`."""
    if any(tensor.dim() < 1 for tensor in part.tensors()) or not len(part):
        raise ValueError(f"{where} has no examples")
    n = len(part)
    expected.tensor((n,), torch.int64)(f"{where}.days", part.days)
    expected.tensor((n,), torch.float64)(f"{where}.ranks", part.ranks)
    expected.tensor((n,), torch.int64)(f"{where}.tasks", part.tasks)
    expected.tensor((n, *part.inputs.shape[1:]))(f"{where}.inputs", part.inputs)
    if part.targets.is_floating_point():
        expected.tensor((n, part.targets.shape[-1]))(f"{where}.targets", part.targets)
    else:
        expected.tensor((n,), torch.int64)(f"{where}.targets", part.targets)
    if bool((part.tasks < part.days).any()):
        raise ValueError(f"{where} has examples of days after those of their tasks")
    if int(part.days.min()) < 0 or not bool(((part.ranks >= 0) & (part.ranks < below)).all()):
        raise ValueError(f"{where} has days below 0, or random numbers that are not from 0 to {below:g}")
    for name, tensor in (("inputs", part.inputs), ("targets", part.targets)):
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{where}.{name} are not all finite")
