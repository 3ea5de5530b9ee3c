"""Replay: a uniform sample of the training data of all past days, of bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from daynight.data.splits import LazyInputs, Split, as_inputs
from daynight.errors import SettingError
from daynight.support import checks, expected, seeding

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
        inputs: (n, ...), as they are stored; `Memory.draw` returns them as a network reads them.
        targets: int64 (n,), or floating point (n, outputs).
        days: int64 (n,), the day on which each example was learnt, which is also the index of its task.
        ranks: float64 (n,), the random number of each example, from 0 to 1. The smallest are kept.
    """

    inputs: Tensor
    targets: Tensor
    days: Tensor
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
        """Return inputs, targets, days and ranks."""
        return self.inputs, self.targets, self.days, self.ranks

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

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @property
    def n_seen(self) -> int:
        """Number of all examples that were added, also on days that are forgotten."""
        return self._n_seen

    @property
    def n_bytes(self) -> int:
        """Bytes that the kept examples take in memory, with targets, days and random numbers."""
        return sum(tensor.numel() * tensor.element_size() for part in self._parts for tensor in part.tensors())

    @property
    def days(self) -> Tensor:
        """The day of each kept example, int64 (n,)."""
        return torch.cat([torch.empty(0, dtype=torch.int64), *(part.days for part in self._parts)])

    def add(self, day: int, split: Split) -> None:
        """Add the training data of a day. If this fails, the memory is as it was before.

        Args:
            day: Index of the day, from 0, which is also the index of its task.
            split: All training examples of the day. A lazy split is read at the indices of the examples to be kept.

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
        parts = [part.at(part.ranks < below) for part in self._parts]
        index = torch.where(ranks < below)[0]
        if len(index):
            new = self._read(day, split, index, ranks[index])
            same = [place for place, part in enumerate(parts) if part.form() == new.form()]
            if same:
                parts[same[0]] = parts[same[0]].with_more(new)
            else:
                parts.append(new)
        self._parts, self._below = tuple(part for part in parts if len(part)), below
        self._n_seen += len(split)

    def forget(self, day: int) -> None:
        """Drop all examples of a day. The others stay a uniform sample of all other days.

        The memory is then smaller, and grows again with the days to come.

        Args:
            day: Index of the day, from 0.
        """
        parts = (part.at(part.days != day) for part in self._parts)
        self._parts = tuple(part for part in parts if len(part))

    def all(self) -> tuple[Kept, ...]:
        """Return all kept examples, in parts of one form each, with inputs as they are stored."""
        return self._parts

    def draw(self, n: int, generator: torch.Generator) -> list[Kept]:
        """Return `n` kept examples, drawn uniformly and independently.

        Args:
            n: How many, 0 or more.
            generator: CPU generator that draws them.

        Returns:
            Examples of one form each: one part if all days have inputs and targets of one type and shape, and none if
            nothing is kept.
        """
        if not self._parts:
            return []
        places = torch.randint(len(self), (n,), generator=generator)
        found, first = [], 0
        for part in self._parts:
            of_part = places[(places >= first) & (places < first + len(part))] - first
            first += len(part)
            if len(of_part):
                drawn = part.at(of_part)
                found.append(attrs.evolve(drawn, inputs=as_inputs(drawn.inputs)))
        return found

    def state(self) -> dict[str, Any]:
        """Return the kept examples and their count as tensors and plain values; `restore` takes them."""
        parts = [attrs.asdict(part, recurse=False) for part in self._parts]
        return {"n_seen": self._n_seen, "below": self._below, "parts": parts}

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
        self._parts, self._below, self._n_seen = parts, below, state["n_seen"]

    def _read(self, day: int, split: Split, index: Tensor, ranks: Tensor) -> Kept:
        """Return the examples of a split at some indices (int64), in memory of their own."""
        if isinstance(split.inputs, Tensor) and split.view is None:
            inputs = split.inputs[index]
        else:  # a user's dataset or view, which may draw from the global generators
            with seeding.forked(self._seed, "replay", day):
                inputs = torch.cat([_inputs(split, chunk) for chunk in index.split(CHUNK)])
        return Kept(inputs, split.targets[index], torch.full((len(index),), day), ranks)


def _inputs(split: Split, index: Tensor) -> Tensor:
    """Return some inputs as they are stored, or as the view of the split returns them."""
    held = split.inputs
    inputs = next(held.batches([index])) if isinstance(held, LazyInputs) else held[index]
    return inputs if split.view is None else split.prepared(inputs)


_PART = expected.fields(dict.fromkeys(("inputs", "targets", "days", "ranks"), expected.tensor()))
_STATE = expected.fields({"n_seen": expected.whole(), "below": expected.number(0, 1), "parts": expected.listed(_PART)})


def _check(where: str, part: Kept, below: float) -> None:
    """Raise ValueError unless the tensors of a part fit each other, and all its random numbers are below `below`."""
    if any(tensor.dim() < 1 for tensor in part.tensors()) or not len(part):
        raise ValueError(f"{where} has no examples")
    n = len(part)
    expected.tensor((n,), torch.int64)(f"{where}.days", part.days)
    expected.tensor((n,), torch.float64)(f"{where}.ranks", part.ranks)
    expected.tensor((n, *part.inputs.shape[1:]))(f"{where}.inputs", part.inputs)
    if part.targets.is_floating_point():
        expected.tensor((n, part.targets.shape[-1]))(f"{where}.targets", part.targets)
    else:
        expected.tensor((n,), torch.int64)(f"{where}.targets", part.targets)
    if int(part.days.min()) < 0 or not bool(((part.ranks >= 0) & (part.ranks < below)).all()):
        raise ValueError(f"{where} has days below 0, or random numbers that are not from 0 to {below:g}")
    for name, tensor in (("inputs", part.inputs), ("targets", part.targets)):
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{where}.{name} are not all finite")
