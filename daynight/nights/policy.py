"""Sleep policies: how a night is laid out in cycles. Write your own by subclassing `SleepPolicy`."""

from __future__ import annotations

import abc
from collections.abc import Generator, Iterable, Sequence

import attrs

from daynight.errors import DaynightError, PolicyError, ReactivePolicyError, SettingError
from daynight.nights.cycle import TOLERANCE, Cycle, Night, share_of_wake
from daynight.rates import Rate, factor_of
from daynight.support import checks

#: More cycles than this in one night are taken for a policy that never ends.
MAX_CYCLES = 100_000
#: Cycles on end that do nothing, of which more are taken for a loop that does not end.
MAX_IDLE = 100


class SleepPolicy(abc.ABC):
    """Lays out a night. Holds settings and never the state of a run, so one object serves many nights."""

    @property
    def rewinds(self) -> tuple[float, ...]:
        """Shares of the wake, 0 to 1, whose weights a policy that reacts may rewind to; those of a plan are known."""
        return ()

    @abc.abstractmethod
    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield the cycles of a night, one after another.

        Densities may not rise, the last must be ``night.dawn_density`` (or ``"dawn"``), and the lengths
        may sum to at most 1. ``night = yield Cycle(...)`` receives the next snapshot; a policy that
        reads its ``loss`` or ``score`` decides cycle by cycle.

        Args:
            night: The snapshot at dusk.
        """

    def plan(self, night: Night) -> tuple[Cycle, ...]:
        """Lay the whole night out and check it, without training anything.

        Args:
            night: The snapshot at dusk.

        Returns:
            The cycles, with each ``keep`` as a number.

        Raises:
            SettingError: If `night` is no snapshot.
            ReactivePolicyError: If the policy reads what is measured only during the night.
            PolicyError: If the plan breaks a rule of the night, or the policy raises an exception.
        """
        if not isinstance(night, Night):
            raise SettingError(
                f"night must be a Night, such as agent.night(task, Epochs(72)) gives, not {checks.shown(night)}."
            )
        night = attrs.evolve(night, measured=None)
        script = follow(self, night)
        plan: list[Cycle] = []
        cycle = next(script, None)
        while cycle is not None:
            plan.append(cycle)
            night = night.after(cycle)
            cycle = advance(script, night)
        check_end(self, night)
        return tuple(plan)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


def require_policy(policy: object) -> None:
    """Refuse what is no sleep policy.

    Raises:
        SettingError: If it is none.
    """
    if not isinstance(policy, SleepPolicy):
        hint = f" Did you mean {policy.__name__}(...)?" if isinstance(policy, type) else ""
        raise SettingError(
            f"the policy must be a SleepPolicy, such as UniformCycles(8), not {checks.shown(policy)}.{hint}"
        )


def planned(policy: SleepPolicy, night: Night) -> tuple[Cycle, ...] | None:
    """Give the policy's plan; None if the policy reacts.

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
            f"{checks.begun(policy)}: plan() must give a tuple of Cycle, not {checks.shown(plan)}. Leave plan() as "
            "SleepPolicy has it: it follows cycles() and checks them."
        )
    return plan


def remembered(policy: SleepPolicy, plan: Sequence[Cycle] | None) -> tuple[float, ...]:
    """Give the shares of the wake, rising, whose weights the nights of a policy may return to."""
    given = policy.rewinds
    if not isinstance(given, Iterable):
        raise PolicyError(
            f"{checks.begun(policy)}: rewinds must be shares of the wake, such as (0.1, 0.5), not {given!r}."
        )
    shares = {share_of_wake(share) for share in given}
    shares |= {cycle.rewind for cycle in plan or () if cycle.rewind is not None}
    return tuple(sorted(shares))


def follow(policy: SleepPolicy, night: Night) -> Generator[Cycle, Night, None]:
    """Run `policy` through one night, checking each cycle as it is yielded.

    Args:
        policy: The policy.
        night: The snapshot at dusk; send the next one after each cycle.

    Yields:
        The policy's cycles, with ``keep`` as a number.

    Raises:
        ReactivePolicyError: If the policy reads what is not measured in `night`.
        PolicyError: At the first cycle that breaks a rule of the night, or that the policy fails to yield.
    """
    script: Generator[Cycle, Night, None] | None = None
    n_idle = 0
    while True:
        try:
            if script is None:
                script = _script(policy, night)
                cycle = next(script)
            else:
                cycle = script.send(night) if _listens(script) else next(script)
        except StopIteration:
            return
        except ReactivePolicyError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, DaynightError) else f"{type(error).__name__}: {error}"
            raise PolicyError(f"{_where(policy, night)}: {reason}") from error
        checked = _checked(policy, cycle, night)
        n_idle = n_idle + 1 if checked.length <= TOLERANCE and checked.keep == night.density else 0
        if n_idle > MAX_IDLE:
            raise PolicyError(
                f"{_where(policy, night)}: {n_idle:,} cycles on end neither prune nor last. Does its loop end?"
            )
        night = yield checked


def advance(script: Generator[Cycle, Night, None], night: Night) -> Cycle | None:
    """Send the next snapshot to the cycles of a policy, and give the next of them; None if there is none."""
    try:
        return script.send(night) if _listens(script) else next(script)
    except StopIteration:
        return None


def check_end(policy: SleepPolicy, night: Night) -> None:
    """Make sure that a night which ends with the snapshot `night` has reached the dawn density."""
    if night.cycle == 0:
        raise PolicyError(
            f"{checks.begun(policy)} on day {night.day} yields no cycle. A night without retraining is one cycle of "
            "nothing but its prune: Cycle(keep='dawn', length=night.price)."
        )
    if night.density > night.dawn_density:
        raise PolicyError(
            f"{checks.begun(policy)} on day {night.day} never reaches the dawn density: it ends at "
            f"{night.density:.6g}, and {night.dawn_density:.6g} is due. Let the last cycle have keep='dawn'. "
            "A keep is the fraction of what there was at dusk, not of what the cycle before has left."
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
    if keep > night.density * (1 + TOLERANCE):
        raise PolicyError(
            f"{_where(policy, night)}: the density goes up, from {night.density:.6g} to {keep:.6g}. A pruned weight "
            "stays pruned until the next wake: each keep must be at most the one before."
        )
    if keep < night.dawn_density:
        raise PolicyError(
            f"{_where(policy, night)}: keep={keep:.9g} is below the dawn density {night.dawn_density:.9g}. Keep at "
            "least night.dawn_density, which keep='dawn' says, too."
        )
    if cycle.rate is not None:
        try:
            _check_rate(cycle.rate)
        except PolicyError as error:
            raise PolicyError(f"{_where(policy, night)}: {error}") from error
    if keep < night.density and cycle.length < night.price * (1 - TOLERANCE):
        raise PolicyError(
            f"{_where(policy, night)}: its prune costs {night.price:.6g} of the night's budget, and the cycle takes "
            f"{cycle.length:.6g}. The length of a cycle includes the price of its NREM, night.price: plan fewer "
            "cycles, or longer ones."
        )
    total = night.spent + cycle.length
    if night.n_steps is None and night._measured is not None:
        # Time has passed as it would, and not as it was planned.
        return attrs.evolve(cycle, keep=keep, length=min(cycle.length, night.left))
    if total > 1 + TOLERANCE:
        raise PolicyError(
            f"{_where(policy, night)}: overspends: its cycles would take {total:.9g} of the night's budget. Lengths "
            "are shares of the whole night and sum to at most 1"
            + (f", the {night.price:.6g} that each prune costs included." if night.price else ".")
            + (" What is left is in the snapshot that each yield gives." if night.spent else "")
        )
    return attrs.evolve(cycle, keep=keep)


def _check_rate(rate: Rate) -> None:
    """Refuse a learning-rate shape that gives no factor in some places; elsewhere it is when it comes to that."""
    for share, cut in ((0.0, 0.0), (0.0, 1.0), (0.25, 0.5), (0.5, 0.5), (0.75, 0.5), (1.0, 1.0)):
        factor_of(rate, share, cut)


def _listens(script: Generator[Cycle, Night, None]) -> bool:
    """Tell whether a generator can be sent to: not while it does ``yield from`` a list or another iterator."""
    inner = getattr(script, "gi_yieldfrom", None)
    return inner is None or (hasattr(inner, "send") and _listens(inner))


def _where(policy: SleepPolicy, night: Night) -> str:
    return f"{checks.begun(policy)} on day {night.day}, cycle {night.cycle}"
