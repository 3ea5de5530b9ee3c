"""How many weights tasks may own after each night."""

from __future__ import annotations

import functools
import itertools
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from daynight.errors import CapacityError, SettingError
from daynight.pruning.shares import Bounds, Rules
from daynight.support import checks
from daynight.support.checks import round_half_up

#: The arguments of `Capacity` that have an effect only with ``share="need"``.
NEED = ("least", "most", "loan", "tolerance")


def kept_fraction_per_night(free_at_end: float, n_days: int) -> float:
    """Return the fraction of the available weights that a night keeps: 1 - r, with r = p^(1/T).

    Source: Ball et al., "A Study on Efficiency in Continual Learning Inspired by Human Learning",
    Algorithm 2, first line.

    Args:
        free_at_end: p, the fraction of weights still free after the last day, between 0 and 1.
        n_days: T, the number of tasks, 1 or more.

    Raises:
        SettingError: If an argument is outside its range.
    """
    n_days = checks.integer("n_days", n_days, least=1)
    return 1.0 - math.pow(check_free_at_end(free_at_end), 1.0 / n_days)


def pruned_fraction_per_round(n_rounds: int, n_days: int, free_at_end: float) -> float:
    """Return z, the fraction of the remaining weights that each of the N rounds of a night prunes (Algorithm 2).

    r = p^(1/T) is the fraction of the weights available at dusk that a night frees, and z = 1 - (1 - r)^(1/N).
    Source: Ball et al., "A Study on Efficiency in Continual Learning Inspired by Human Learning",
    Appendix D.

    Args:
        n_rounds: N, the number of rounds of pruning in a night, 1 or more.
        n_days: T, the number of tasks, 1 or more.
        free_at_end: p, the fraction of weights still free after the last day, between 0 and 1.

    Returns:
        z, between 0 and 1.

    Raises:
        SettingError: If an argument is outside its range.
    """
    n_rounds = checks.integer("n_rounds", n_rounds, least=1)
    return 1.0 - math.pow(kept_fraction_per_night(free_at_end, n_days), 1.0 / n_rounds)


def check_free_at_end(value: Any) -> float:
    """Return `value`, the fraction of weights free at the end, as a float above 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < 1:
        raise SettingError(
            f"free_at_end must be above 0 and below 1, not {value!r}: at 0 the first task would own "
            "every weight, at 1 no task may own any. Give the fraction that is still free after the "
            "last day, for example 0.95."
        )
    return float(value)


def _days(days: Any) -> int:
    return checks.integer("Capacity: days", days, least=1)


def _floor(n: Any) -> int:
    return checks.integer("Capacity: min_per_layer", n, least=0)


def _connected(value: Any) -> bool:
    checks.flag("Capacity: connected", value)
    return bool(value)


def _fraction(name: str, value: Any) -> float:
    fraction = checks.finite(f"Capacity: {name}", value)
    if not 0 < fraction <= 1:
        raise SettingError(
            f"Capacity: {name} is a fraction of all maskable weights, above 0 and up to 1, not {value!r}."
        )
    return fraction


def _per_night(value: Any) -> float:
    return _fraction("keep_per_night", value)


def _per_task(value: Any) -> float:
    return _fraction("keep_per_task", value)


def _least(value: Any) -> float:
    least = checks.finite("Capacity: least", value)
    if not 0 < least <= 1:
        raise SettingError(f"Capacity: least is a factor of the equal share, above 0 and up to 1, not {value!r}.")
    return least


def _most(value: Any) -> float:
    return checks.finite("Capacity: most (a factor of the equal share)", value, least=1)


def _loan(value: Any) -> float:
    return checks.finite("Capacity: loan (a factor of the equal share)", value, least=0)


def _tolerance(value: Any) -> float:
    return checks.finite("Capacity: tolerance", value, least=0)


def keeps_nothing(n_weights: int, day: int) -> CapacityError:
    """Return the error for a night that keeps none of the network's maskable weights."""
    return CapacityError(
        f"day {day}: the night would keep none of the {n_weights:,} maskable weights. Keep more per night, or use a "
        "larger network."
    )


@attrs.frozen
class Room:
    """How many weights the task of a day has: of each layer or, if all layers are ranked together, one number.

    Attributes:
        free: Number of weights that it holds at dusk.
        new: Number of weights that it owns at dawn; the smallest one if the night chooses it.
        due: If the night chooses (``share="need"``), the number that it owns if nothing is known; otherwise None.
        most: If the night chooses, the largest number; otherwise None.
        bank: Number of weights that earlier days have saved; below 0 if they have borrowed them.
    """

    free: tuple[int, ...]
    new: tuple[int, ...]
    due: tuple[int, ...] | None = None
    most: tuple[int, ...] | None = None
    bank: int = 0

    @property
    def dawn_density(self) -> float:
        """Fraction of the weights held at dusk that the task owns at dawn; 1 if it holds none."""
        return self._density(self.new)

    @property
    def due_density(self) -> float | None:
        """`due` as a fraction of the weights held at dusk; None if the night does not choose."""
        return None if self.due is None else self._density(self.due)

    @property
    def highest_density(self) -> float | None:
        """`most` as a fraction of the weights held at dusk; None if the night does not choose."""
        return None if self.most is None else self._density(self.most)

    def kept(self, density: float) -> tuple[int, ...]:
        """Return how many weights the night keeps at a density, a fraction of those held at dusk, up to 1.

        A density up to the dawn density gives exactly the counts that the task owns at dawn. If the night chooses, the
        densities of `due` and `most` give exactly these counts, and those between give counts between.
        """
        rounded, below = tuple(round_half_up(density * n) for n in self.free), self.new
        for counts in (self.new, self.due, self.most):
            if counts is not None and density <= self._density(counts):
                if counts is self.new or density == self._density(counts):
                    return counts
                return tuple(map(min, counts, map(max, below, rounded)))
            below = counts or below
        return tuple(map(max, below, rounded))

    def _density(self, counts: tuple[int, ...]) -> float:
        return sum(counts) / sum(self.free) if sum(self.free) else 1.0


@attrs.frozen(kw_only=True, repr=False)
class Capacity:
    """How many of the maskable weights tasks may own after each night.

    With `free_at_end` and `keep_per_night`, every count comes from a cumulative total, ``round(size * share)``, so
    rounding errors never add up.

    With ``share="need"``, a night itself chooses what its task keeps, from `least` to `most` times the day's equal
    share, by the loss L on the task's validation split or, if it has none, on its training data. From `most` times the
    share on, it prunes for as long as

        L after the cycle <= L at dusk + `tolerance` * k * max(0, L of guessing - L at dusk),

    where k is what is kept, as a multiple of the equal share, and guessing gives each example the mean of the outputs
    of all at dusk. (If what pruning costs falls as the same power of the number of weights for all tasks, their sum
    with a given total is least where this cost over the number is the same for all: its derivatives are equal there.)
    It ends at the last density for which this held, or at `most` times the share if it held for none. The rest of the
    budget retrains what is kept. A night that is cut off before it has chosen ends at the equal share, or where it is
    if that is less. What a task does not keep of its equal share goes into a bank. A task may keep more than its share
    if the bank has it, or, while nothing is owed, on a loan, which the later days pay by even parts of their shares.
    The last day keeps exactly what is left, so that after it all tasks together own what they own with equal shares.
    The bank is what equal shares would have given until then, less what is owned: what retired tasks leave is in it,
    and so is the share of a task that a gate has refused.

    Args:
        free_at_end: p, the fraction of weights still free after `days` nights, between 0 and 1, both excluded.
            Each night frees p^(1/days) of the weights available at dusk.
        days: Number of days after which `free_at_end` is reached, 1 or more.
        keep_per_night: Fraction of all maskable weights that each task owns after its night, until no weight is free.
            Give it instead of `free_at_end` and `days` if the number of days is unknown.
        keep_per_task: Fraction of all maskable weights that each living task owns, ``round(size * share)`` for each
            task alike. Give it instead if tasks retire or are succeeded: what they leave serves later tasks, so the
            number of days is not limited. A day for which less is free is refused.
        ranking: ``"layer"`` ranks weights within each layer, and the counts are exact in each layer;
            ``"global"`` ranks all weights together, and the counts are exact in total. ``"balanced"`` works like
            ``"global"``, after each layer's scores are rescaled so that small layers are not starved
            (`daynight.pruning.layer_adaptive`).
        min_per_layer: Least number of new weights that each layer gets each night (if the layer has
            that many free weights), 0 or more.
        connected: Whether prunes avoid weights in vain. A weight into a unit that nothing reads, or out of a unit that
            nothing reaches, ranks last in its layer, again until none such is left. Each layer keeps as many weights as
            without. All masked layers must be linear layers or convolutions in one chain; other networks are refused.
        share: ``"equal"`` gives each task its equal share. With ``"need"``, each night chooses, as said above. It needs
            `free_at_end` and `days`.
        least: With ``share="need"``, the smallest part of its equal share that a task keeps, above 0 and up to 1.
        most: The largest multiple of its equal share that a task keeps, 1 or more. What the last day keeps may be more.
        loan: How much may be owed at any time, as a multiple of the equal share of the day that borrows, 0 or more.
            With 0, no task has to keep less than its equal share because of another.
        tolerance: The part of what learning has gained over guessing that pruning may cost at the equal share, 0 or
            more.

    Raises:
        SettingError: If a value is outside its range, or the arguments are not one of `free_at_end` with `days`,
            `keep_per_night` and `keep_per_task`; if ``share="need"`` is given without `free_at_end`, or one of the
            arguments after it without ``share="need"``.
    """

    free_at_end: float | None = attrs.field(default=None, converter=attrs.converters.optional(check_free_at_end))
    days: int | None = attrs.field(default=None, converter=attrs.converters.optional(_days))
    keep_per_night: float | None = attrs.field(default=None, converter=attrs.converters.optional(_per_night))
    ranking: Literal["layer", "global", "balanced"] = attrs.field(default="layer")
    min_per_layer: int = attrs.field(default=0, converter=_floor)
    keep_per_task: float | None = attrs.field(default=None, converter=attrs.converters.optional(_per_task))
    connected: bool = attrs.field(default=False, converter=_connected)
    share: Literal["equal", "need"] = attrs.field(default="equal")
    least: float = attrs.field(default=0.25, converter=_least)
    most: float = attrs.field(default=2.0, converter=_most)
    loan: float = attrs.field(default=0.0, converter=_loan)
    tolerance: float = attrs.field(default=0.001, converter=_tolerance)

    def __repr__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in attrs.fields(Capacity)
                 if getattr(self, field.name) != field.default}  # fmt: skip
        return f"Capacity({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def __attrs_post_init__(self) -> None:
        if sum(value is not None for value in (self.free_at_end, self.keep_per_night, self.keep_per_task)) != 1:
            raise SettingError("Capacity takes either free_at_end with days, or keep_per_night, or keep_per_task.")
        if (self.free_at_end is None) != (self.days is None):
            raise SettingError(
                "Capacity: free_at_end and days go together. If the number of days is unknown, use keep_per_night."
            )
        checks.one_of("Capacity: ranking", self.ranking, ("layer", "global", "balanced"))
        checks.one_of("Capacity: share", self.share, ("equal", "need"))
        if self.share == "need" and self.free_at_end is None:
            raise SettingError(
                "Capacity: share='need' divides a total among a known number of days. Give free_at_end and days."
            )
        given = [name for name in NEED if getattr(self, name) != getattr(attrs.fields(Capacity), name).default]
        if self.share != "need" and given:
            raise SettingError(
                f"Capacity: {given[0]} has an effect only with share='need'. Add that, or leave {given[0]} out."
            )

    def owned_after(self, sizes: Sequence[int], n_nights: int) -> tuple[int, ...]:
        """Return how many weights all tasks together own after `n_nights` nights, with equal shares until then.

        Args:
            sizes: Number of maskable weights of each layer.
            n_nights: Number of nights, 0 or more.

        Returns:
            One count for each layer; a single count if all layers are ranked together.

        Raises:
            CapacityError: If `n_nights` is more than `days`.
        """
        if self.days is not None and n_nights > self.days:
            raise CapacityError(f"{n_nights} nights are {self._beyond()}")
        if self.ranking == "layer":
            return tuple(self._owned(size, self.min_per_layer, n_nights) for size in sizes)
        return (self._owned(sum(sizes), self.min_per_layer * len(sizes), n_nights),)

    def room(self, sizes: Sequence[int], day: int, free: Sequence[int] | None = None, n_shares: int = 0) -> Room:
        """Return how many weights the task of a day holds at dusk and owns at dawn.

        Args:
            sizes: Number of maskable weights of each layer.
            day: Index of the day, from 0.
            free: Number of weights of each layer that the task holds at dusk. None is what is left if all earlier
                tasks own their equal shares.
            n_shares: With `keep_per_task`, the number of shares that the days until then take away from `free`.

        Raises:
            CapacityError: If `day` is beyond the last day.
        """
        if self.days is not None and day >= self.days:
            raise CapacityError(f"day {day} is {self._beyond()}")
        before, after = self.owned_after(sizes, day), self.owned_after(sizes, day + 1)
        groups = tuple(sizes) if self.ranking == "layer" else (sum(sizes),)
        left = tuple(size - owned for size, owned in zip(groups, before, strict=True))
        if free is not None:
            left = tuple(free) if self.ranking == "layer" else (sum(free),)
        if self.share == "need":
            return self._chosen(groups, before, left, day, self.min_per_layer * (len(sizes) // len(groups)))
        due = tuple(new - old for old, new in zip(before, after, strict=True))
        if self.keep_per_task is not None:
            due = self.owned_after(sizes, 1)
            left = tuple(max(0, n - n_shares * share) for n, share in zip(left, due, strict=True))
        return Room(left, tuple(map(min, due, left)))

    def bank(self, sizes: Sequence[int], day: int, free: Sequence[int]) -> int:
        """Return how many weights less than with equal shares are owned when a day begins.

        Args:
            sizes: Number of maskable weights of each layer.
            day: Index of the day, from 0 to `days`.
            free: Number of weights of each layer that nobody owns.
        """
        return sum(self.owned_after(sizes, day)) - (sum(sizes) - sum(free))

    def allows(self, sizes: Sequence[int], counts: Sequence[Sequence[int]]) -> bool:
        """Return whether nights can have given tasks these numbers of weights, if no task has retired.

        Args:
            sizes: Number of maskable weights of each layer.
            counts: For each task from the first one on, how many weights of each layer it owns.

        Raises:
            CapacityError: If there are more tasks than days.
        """
        free = tuple(sizes)
        for day, owned in enumerate(counts):
            room = self.room(sizes, day, free)
            new = tuple(owned) if self.ranking == "layer" else (sum(owned),)
            most = room.new if room.most is None else room.most
            if not all(low <= n <= high for low, n, high in zip(room.new, new, most, strict=True)):
                return False
            free = tuple(before - n for before, n in zip(free, owned, strict=True))
        return True

    def available(self, sizes: Sequence[int], day: int) -> int:
        """Return how many weights are free when `day` begins. The task of the day holds all of them at dusk.

        Raises:
            CapacityError: If `day` is beyond the last day.
        """
        return sum(self.room(sizes, day).free)

    def dawn_density(self, sizes: Sequence[int], day: int) -> float:
        """Return the fraction of the weights available on `day` that its task owns at dawn; 1 if none is available.

        Raises:
            CapacityError: If `day` is beyond the last day.
        """
        return self.room(sizes, day).dawn_density

    def kept(self, sizes: Sequence[int], day: int, density: float) -> tuple[int, ...]:
        """Return how many weights the night of `day` keeps at a density.

        Args:
            sizes: Number of maskable weights of each layer.
            day: Index of the day, from 0.
            density: Fraction of the weights available at dusk, up to 1. A density up to the dawn density gives
                exactly the counts that the task owns at dawn.

        Returns:
            One count for each layer; a single count if all layers are ranked together.

        Raises:
            CapacityError: If `day` is beyond the last day.
        """
        return self.room(sizes, day).kept(density)

    def check(self, layers: Mapping[str, int], day: int, room: Room | None = None) -> None:
        """Raise CapacityError unless the task of `day` gets new weights, in each layer if ranking is ``"layer"``.

        Args:
            layers: Name and number of maskable weights of each layer.
            day: Index of the day, from 0.
            room: How many weights the task has; None is what `room` says without `free`.

        Raises:
            CapacityError: If `day` is beyond the last day, no weight is free, a layer gets no new weight, or less than
                a task's share is free.
        """
        sizes = tuple(layers.values())
        room = self.room(sizes, day) if room is None else room
        if not sum(room.free):
            advice = "Keep less per night, or begin a new agent with a larger network."
            if self.keep_per_task is not None:
                advice = "Retire a task, let the new one succeed another, or begin a new agent with a larger network."
            raise CapacityError(
                f"day {day}: all {sum(sizes):,} maskable weights are owned, so nothing is free to learn with. {advice}"
            )
        if self.keep_per_task is not None and room.new != (due := self.owned_after(sizes, 1)):
            raise CapacityError(
                f"day {day}: a task's share is {sum(due):,} weights, and of some layers less is free "
                f"({sum(room.free):,} of all). Retire a task, or let the new one succeed another."
            )
        if self.ranking != "layer":
            if not sum(room.new):
                raise keeps_nothing(sum(sizes), day)
            return
        starved = [name for name, left, new in zip(layers, room.free, room.new, strict=True) if not new and left]
        if starved:
            raise CapacityError(
                f"day {day}: layer {starved[0]!r} ({layers[starved[0]]:,} weights) would get no new weight"
                + (f", nor would {len(starved) - 1} more" if len(starved) > 1 else "")
                + ". Set Capacity(min_per_layer=1) or higher, keep more per night, or exclude the layer."
            )

    def _chosen(
        self, sizes: Sequence[int], before: Sequence[int], free: tuple[int, ...], day: int, floor: int
    ) -> Room:  # fmt: skip
        """Return the room of a day whose night chooses what the task keeps.

        Args:
            sizes: Number of maskable weights of each group that is ranked together.
            before: How many weights of each group equal shares would have given until then.
            free: Number of weights of each group that the task holds at dusk.
            day: Index of the day, from 0.
            floor: Least number of new weights of each group.
        """
        assert self.days is not None
        rules, found = Rules(least=self.least, most=self.most, loan=self.loan), list[Bounds]()
        for size, left in zip(sizes, free, strict=True):
            totals = _by_night(self, size, floor, self.days + 1)
            found.append(rules.bounds(totals, day, size - left, floor))
        least, due, most = (tuple(getattr(each, name) for each in found) for name in ("least", "due", "most"))
        bank = sum(before) - sum(sizes) + sum(free)
        return Room(free, least, bank=bank) if least == most else Room(free, least, due, most, bank)

    def _beyond(self) -> str:
        return (
            f"beyond the {self.days} days that the capacity is shared among. Give Capacity more days, or use "
            "keep_per_night if their number is unknown."
        )

    def _owned(self, size: int, floor: int, n_nights: int) -> int:
        if self.keep_per_task is not None:
            return min(size, n_nights * max(round_half_up(size * self.keep_per_task), min(size, floor)))
        if not floor:  # the totals alone decide
            return min(size, self._total(size, n_nights))
        return _by_night(self, size, floor, 2 ** n_nights.bit_length())[n_nights]

    def _totals(self, size: int, floor: int) -> Iterator[int]:
        """Yield how many of `size` weights are owned after 0, 1, ... nights, each of which takes `floor` or more."""
        owned = 0
        for n in itertools.count(1):
            yield owned
            owned = min(size, max(self._total(size, n), owned + floor))

    def _total(self, size: int, n_nights: int) -> int:
        if self.free_at_end is not None and self.days is not None:
            return size - round_half_up(size * self.free_at_end ** (n_nights / self.days))
        assert self.keep_per_night is not None
        return round_half_up(size * self.keep_per_night * n_nights)


@functools.lru_cache(maxsize=256)
def _by_night(capacity: Capacity, size: int, floor: int, n_nights: int) -> tuple[int, ...]:
    """Return how many weights of a layer tasks own after 0, 1, 2 ... nights, if each night gives at least `floor`."""
    return tuple(itertools.islice(capacity._totals(size, floor), n_nights))
