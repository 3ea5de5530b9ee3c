"""`SleepPolicy`, which divides a night into cycles, and the rules for these cycles."""

from __future__ import annotations

import abc
from collections.abc import Callable, Generator, Iterable, Sequence

import attrs

from daynight.errors import DaynightError, PolicyError, ReactivePolicyError, SettingError
from daynight.nights.cycle import TOLERANCE, Cycle, Measured, Night, share_of_wake
from daynight.rates import Rate, factor_of
from daynight.support import checks

#: Maximum number of cycles in one night. A policy that yields more is assumed never to end.
MAX_CYCLES = 100_000
#: Maximum number of consecutive cycles that do nothing. A policy that yields more is assumed never to end.
MAX_IDLE = 100


class SleepPolicy(abc.ABC):
    """Divides a night into cycles. For a policy of your own, write a subclass with the one method `cycles`.

    A policy holds settings and never the state of a run, so one object can be used for many nights.
    """

    @property
    def rewinds(self) -> tuple[float, ...]:
        """Points of the wake, as shares of the wake from 0 to 1, to which a policy that reacts may rewind weights.

        A policy with a plan does not have to list these points: they are read from its cycles.
        """
        return ()

    @abc.abstractmethod
    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the cycles of a night, one after another.

        Densities must not rise, the last density must be ``night.dawn_density`` (or ``"dawn"``), and the lengths must
        sum to at most 1. ``night = yield Cycle(...)`` receives the next snapshot. A policy that reads the snapshot's
        ``loss`` or ``score`` decides cycle by cycle.

        Args:
            night: The snapshot at dusk.
        """

    def plan(self, night: Night) -> tuple[Cycle, ...]:
        """Return the cycles of the whole night, checked, without training anything.

        Args:
            night: The snapshot at dusk.

        Returns:
            The cycles, with each ``keep`` as a number.

        Raises:
            SettingError: If `night` is not a Night.
            ReactivePolicyError: If the policy reads a loss or score, which are measured only during the night.
            PolicyError: If the plan breaks a rule of the night, or the policy raises an exception.
        """
        if not isinstance(night, Night):
            raise SettingError(
                f"night must be a Night, such as agent.night(task, Epochs(72)) returns, not {checks.shown(night)}."
            )
        return self._laid_out(attrs.evolve(night, measured=None), lambda night: night)

    def simulate(self, night: Night, measure: Callable[[Night], tuple[float, float]]) -> tuple[Cycle, ...]:
        """Return the cycles of a night with measurements of your own, checked, without training anything.

        A night of a policy that reacts has no plan. This lays out the night as it would be with these measurements,
        such as those of an earlier night as a function of the density; `daynight.plots.plan` draws it.

        Args:
            night: The snapshot at dusk.
            measure: A function of a snapshot, at dusk and after each cycle, to the loss and the score then.

        Raises:
            SettingError: If `night` is not a Night, `measure` is not a function, or returns other than two numbers.
            PolicyError: If a cycle breaks a rule of the night, or the policy raises an exception.
        """
        checks.kind("simulate: night", night, Night, "agent.night(task, Epochs(72))")
        checks.function("simulate: measure", measure)
        return self._laid_out(night, lambda night: _measured(night, measure))

    def _laid_out(self, night: Night, look: Callable[[Night], Night]) -> tuple[Cycle, ...]:
        """Return the cycles of a night, checked, whose snapshots a function gives their measurements."""
        night = look(night)
        script = follow(self, night)
        cycles: list[Cycle] = []
        cycle = next(script, None)
        while cycle is not None:
            cycles.append(cycle)
            night = look(night.after(cycle))
            cycle = advance(script, night)
        check_end(self, night)
        return tuple(cycles)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


def _measured(night: Night, measure: Callable[[Night], tuple[float, float]]) -> Night:
    """Return a snapshot with the loss and score that a function gives for it."""
    found = measure(night)
    if not isinstance(found, tuple) or len(found) != 2:
        raise SettingError(f"simulate: measure must return (loss, score), not {checks.shown(found)}.", page="policies")
    loss, score = checks.finite("simulate: loss", found[0]), checks.finite("simulate: score", found[1])
    return attrs.evolve(night, measured=Measured(loss, score, "validation"))


def require_policy(policy: object) -> None:
    """Raise SettingError unless `policy` is a SleepPolicy."""
    if not isinstance(policy, SleepPolicy):
        hint = f" Did you mean {policy.__name__}(...)?" if isinstance(policy, type) else ""
        raise SettingError(
            f"the policy must be a SleepPolicy, such as UniformCycles(8), not {checks.shown(policy)}.{hint}"
        )


def planned(policy: SleepPolicy, night: Night) -> tuple[Cycle, ...] | None:
    """Return the policy's plan, or None if the policy reacts.

    Raises:
        SettingError: If `policy` is not a sleep policy.
        PolicyError: If the plan breaks a rule of the night.
    """
    require_policy(policy)
    if night.price > 1:
        raise PolicyError(f"the night's budget {night.budget!r} does not pay for a single prune: lower its price.")
    try:
        plan = policy.plan(night)
    except ReactivePolicyError:
        return None
    if not isinstance(plan, tuple) or not all(isinstance(cycle, Cycle) for cycle in plan):
        raise PolicyError(
            f"{checks.brief(policy)}: plan() must return a tuple of Cycle, not {checks.shown(plan)}. Do not override "
            "plan(): that of SleepPolicy calls cycles() and checks what it yields."
        )
    return plan


def remembered(policy: SleepPolicy, plan: Sequence[Cycle] | None) -> tuple[float, ...]:
    """Return the points of the wake to which a night of the policy may rewind, as shares of the wake in rising order.

    Args:
        policy: The policy.
        plan: The policy's plan; None if the policy reacts.

    Raises:
        PolicyError: If the policy's `rewinds` are not valid.
        SettingError: If one of the `rewinds` is not a share, 0 to 1.
    """
    given = policy.rewinds
    if not isinstance(given, Iterable):
        raise PolicyError(
            f"{checks.brief(policy)}: rewinds must be shares of the wake, such as (0.1, 0.5), not {given!r}."
        )
    shares = {share_of_wake(share) for share in given}
    shares |= {cycle.rewind for cycle in plan or () if cycle.rewind is not None}
    return tuple(sorted(shares))


def follow(policy: SleepPolicy, night: Night) -> Generator[Cycle, Night, None]:
    """Yield the cycles of a policy for one night, and check each.

    Args:
        policy: The policy.
        night: The snapshot at dusk. After each cycle, send the next snapshot.

    Yields:
        The policy's cycles, with ``keep`` as a number.

    Raises:
        ReactivePolicyError: If the policy reads a loss or score that is not measured.
        PolicyError: At the first cycle that breaks a rule of the night, or if the policy raises an exception.
    """
    script: Generator[Cycle, Night, None] | None = None
    n_idle = 0
    while True:
        try:
            if script is None:
                script = _script(policy, night)
                cycle = next(script)
            else:
                cycle = _send(script, night)
        except StopIteration:
            return
        except ReactivePolicyError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, DaynightError) else f"{type(error).__name__}: {error}"
            raise PolicyError(f"{_where(policy, night)}: {reason}") from error
        checked = _checked(policy, cycle, night)
        is_idle = checked.length <= TOLERANCE and checked.keep == night.density and not night.is_settled
        n_idle = n_idle + 1 if is_idle else 0
        if n_idle > MAX_IDLE:
            raise PolicyError(
                f"{_where(policy, night)}: {n_idle:,} cycles in a row neither prune nor last. Does its loop end?"
            )
        night = yield checked


def advance(script: Generator[Cycle, Night, None], night: Night) -> Cycle | None:
    """Send the next snapshot to a policy's generator; return the next cycle, or None if there are no more."""
    try:
        return _send(script, night)
    except StopIteration:
        return None


def check_end(policy: SleepPolicy, night: Night) -> None:
    """Raise PolicyError unless the night has had a cycle, and has reached the dawn density.

    Args:
        policy: The policy.
        night: The snapshot after the night's last cycle.
    """
    if night.cycle == 0:
        raise PolicyError(
            f"{checks.brief(policy)} on day {night.day} yields no cycle. A night without retraining is one cycle "
            "with nothing but a prune: Cycle(keep='dawn', length=night.price)."
        )
    if night.density > night.dawn_density:
        raise PolicyError(
            f"{checks.brief(policy)} on day {night.day} never reaches the dawn density: it ends at "
            f"{night.density:.6g}, and must end at {night.dawn_density:.6g}. Give the last cycle keep='dawn'. A keep "
            "is a fraction of the weights available at dusk, not of those that the cycle before has left."
        )


def _script(policy: SleepPolicy, night: Night) -> Generator[Cycle, Night, None]:
    script = policy.cycles(night)
    if not isinstance(script, Generator):
        raise PolicyError(
            "cycles() must be a generator method that yields Cycle(keep=..., length=...), but it returned "
            f"{type(script).__name__}."
        )
    return script


def _checked(policy: SleepPolicy, cycle: Cycle, night: Night) -> Cycle:
    if not isinstance(cycle, Cycle):
        raise PolicyError(f"{_where(policy, night)}: yielded {checks.shown(cycle)}, not a Cycle(keep=..., length=...).")
    if night.cycle >= MAX_CYCLES:
        raise PolicyError(f"{_where(policy, night)}: more than {MAX_CYCLES:,} cycles in one night. Does its loop end?")
    keep = cycle.resolved(night)
    if night.is_settled:
        keep = max(keep, night.dawn_density)
    if keep > night.density * (1 + TOLERANCE):
        raise PolicyError(
            f"{_where(policy, night)}: the density goes up, from {night.density:.6g} to {keep:.6g}. A pruned weight "
            "stays pruned until the next wake: each keep must be at most the one before."
        )
    if keep < night.dawn_density:
        raise PolicyError(
            f"{_where(policy, night)}: keep={keep:.9g} is below the dawn density {night.dawn_density:.9g}. Keep at "
            "least night.dawn_density; keep='dawn' means exactly that."
        )
    if cycle.rate is not None:
        try:
            _check_rate(cycle.rate)
        except PolicyError as error:
            raise PolicyError(f"{_where(policy, night)}: {error}") from error
    is_planned = not night.is_settled  # a prune that follows from what a night has chosen is none of the policy's
    if is_planned and keep < night.density and cycle.length < night.price * (1 - TOLERANCE):
        raise PolicyError(
            f"{_where(policy, night)}: its prune costs {night.price:.6g} of the night's budget, and the cycle takes "
            f"{cycle.length:.6g}. The length of a cycle includes the price of its NREM, night.price: plan fewer "
            "cycles, or longer ones."
        )
    total = night.spent + cycle.length
    if night.is_timed and night.is_measured:
        # With a budget of time, a night may have less time left than the policy planned with.
        return attrs.evolve(cycle, keep=keep, length=min(cycle.length, night.left))
    if total > 1 + TOLERANCE:
        raise PolicyError(
            f"{_where(policy, night)}: overspends: its cycles would take {total:.9g} of the night's budget. Lengths "
            "are shares of the whole night and sum to at most 1"
            + (f", the {night.price:.6g} that each prune costs included." if night.price else ".")
            + (" What is left is night.left of the snapshot that each yield returns." if night.spent else "")
        )
    return cycle if cycle.keep == keep else attrs.evolve(cycle, keep=keep)


def _check_rate(rate: Rate) -> None:
    """Raise PolicyError if a learning-rate shape fails at a few points; during the night, every factor is checked."""
    for share, cut in ((0.0, 0.0), (0.0, 1.0), (0.25, 0.5), (0.5, 0.5), (0.75, 0.5), (1.0, 1.0)):
        factor_of(rate, share, cut)


def _send(script: Generator[Cycle, Night, None], night: Night) -> Cycle:
    return script.send(night) if _listens(script) else next(script)


def _listens(script: Generator[Cycle, Night, None]) -> bool:
    """Return whether a value can be sent to a generator: not while it does ``yield from`` a list or an iterator."""
    inner = getattr(script, "gi_yieldfrom", None)
    return inner is None or (hasattr(inner, "send") and _listens(inner))


def _where(policy: SleepPolicy, night: Night) -> str:
    return f"{checks.brief(policy)} on day {night.day}, cycle {night.cycle}"
