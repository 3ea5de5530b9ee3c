"""Budgets of time: phases that end after a number of seconds, or at a time of day."""

from __future__ import annotations

import copy
import datetime
import math
import re
import time
from collections.abc import Mapping
from typing import Any

import attrs

from daynight.errors import SettingError
from daynight.nights.budgets import MAX_BUDGET, Budget, Ledger, price_of
from daynight.support import checks, expected

#: Times that differ by less than this many seconds are equal: the wall clock counts microseconds.
_SAME = 2e-6
#: Seconds of a day.
_DAY = 86_400
#: Weight of the last step in the running mean of the durations of steps.
_NEWEST = 0.1


class Timer:
    """The clock of budgets of time. A subclass can simulate a machine, as `daynight.testing.FakeTimer` does."""

    def now(self) -> float:
        """Return the seconds since a fixed moment, which is the same during the life of the process."""
        return time.monotonic()

    def wall(self) -> datetime.datetime:
        """Return the date and time of day, with time zone."""
        return datetime.datetime.now().astimezone()

    def worked(self, what: str) -> None:
        """Do nothing. Called with ``"step"`` after each optimizer step, and with ``"prune"`` after each NREM."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class TimeLedger(Ledger):
    """A ledger in seconds. Time counts only between `resume` and `pause`.

    The budget is spent as soon as less time is left than the next step is expected to take.

    Args:
        seconds: The budget, in seconds.
        price_seconds: Seconds that each prune costs in addition to its duration.
        timer: Tells the time.

    Attributes:
        longest: Seconds of the longest ``"step"``, the longest ``"prune"`` and the longest ``"other"`` work, such as a
            measurement. The duration of a step includes its preparation.
        step_seconds: Running mean of the seconds of a step, except first steps after a prune or after `resume`; None
            before there is such a step.
        preparing_seconds: Seconds of the longest first step after a prune or after `resume`.
        aside_seconds: Seconds of work other than steps since the last step.
        last_aside_seconds: Value of `aside_seconds` when the latest REM began.
        before_seconds: Seconds spent until the last `pause`.
        worked_seconds: Seconds spent until the end of the last step or prune.
    """

    fields = (
        *Ledger.fields, "seconds", "price_seconds", "price", "longest", "step_seconds", "preparing_seconds",
        "aside_seconds", "last_aside_seconds", "before_seconds", "worked_seconds",
    )  # fmt: skip
    is_timed = True

    n_steps = None

    def __init__(self, seconds: float, price_seconds: float, timer: Timer) -> None:
        self.seconds, self.price_seconds = seconds, price_seconds
        self.price = price_seconds / seconds if seconds else (math.inf if price_seconds else 0.0)
        self.spent_steps = self.n_prunes = 0
        self.longest = {"step": 0.0, "prune": 0.0, "other": 0.0}
        self.step_seconds: float | None = None
        self.preparing_seconds = self.aside_seconds = self.last_aside_seconds = 0.0
        self.before_seconds = self.worked_seconds = 0.0
        # The attributes below refer to the clock of this process, so a checkpoint does not hold them.
        self._timer, self._latest = timer, -math.inf
        self._since: float | None = None  # when the ledger was resumed
        self._mark = 0.0  # when the last piece of work was over
        self._is_prepared = False  # whether there has been a step since the last prune

    @property
    def elapsed_seconds(self) -> float:
        """Seconds spent, prices included; more than `seconds` after the end of the budget."""
        running = 0.0 if self._since is None else self._now() - self._since
        return self.before_seconds + running + self.n_prunes * self.price_seconds

    @property
    def spent(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        return min(1.0, max(0.0, self.elapsed_seconds / self.seconds)) if self.seconds else 1.0

    @property
    def least_cycle(self) -> float:  # type: ignore[override]
        """Smallest share of the budget that a cycle may have: its price, and as much time for steps as for other work.

        Other work is the prune, and what is measured, checked and prepared. Its duration is estimated from the cycles
        so far; before the first prune, the share is 0.
        """
        preparing = max(0.0, self.preparing_seconds - (self.step_seconds or 0.0))
        aside = max(self.last_aside_seconds, self.aside_seconds) + preparing if self.n_prunes else 0.0
        return (self.price_seconds + 2 * aside) / self.seconds if aside > _SAME and self.seconds else 0.0

    @property
    def latest_end(self) -> float:  # type: ignore[override]
        """Latest end of a REM that leaves time for a prune as long as the longest so far, as a share of the budget."""
        return 1 - self.longest["prune"] / self.seconds

    def rest(self) -> TimeLedger:
        """Return a new ledger for the seconds that are left, of the same class."""
        twin = copy.copy(self)
        TimeLedger.__init__(twin, self.seconds_left, self.price_seconds, self._timer)
        return twin

    def resume(self) -> None:
        """Begin to count time."""
        self._since = self._mark = self._now()
        self._is_prepared = False

    def pause(self) -> None:
        """Stop counting time."""
        if self._since is not None:
            self.before_seconds += self._now() - self._since
            self._since = None

    def note_step(self) -> None:
        """Enter one optimizer step."""
        self._timer.worked("step")
        self.spent_steps += 1
        seconds = self._lap("step")
        if not self._is_prepared:
            self.last_aside_seconds = self.aside_seconds
            self._is_prepared, self.preparing_seconds = True, max(self.preparing_seconds, seconds)
        elif self.step_seconds is None:
            self.step_seconds = seconds
        else:
            self.step_seconds += _NEWEST * (seconds - self.step_seconds)
        self.aside_seconds = 0.0

    def note_prune(self) -> None:
        """Enter one prune."""
        self._timer.worked("prune")
        if self.n_prunes and not self._is_prepared:  # the cycle before has had no step
            self.last_aside_seconds, self.aside_seconds = self.aside_seconds, 0.0
        self.n_prunes += 1
        self.aside_seconds += self._lap("prune", self.price_seconds) - self.price_seconds
        self._is_prepared = False

    def note_other(self) -> None:
        """Enter the time since the last entry as work that is neither a step nor a prune."""
        seconds = self._lap("other")
        self.aside_seconds += seconds if self.n_prunes else 0.0

    def note_outside(self) -> None:
        """Enter the time since the last entry, such as that of hooks, without an effect on estimates of later work."""
        self._mark = self._now()

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget is spent."""
        return max(0.0, self.seconds - self.elapsed_seconds)

    def times(self) -> dict[str, Any]:
        """Return the seconds of the phase, its budget, its longest step and its longest prune, by field of `Record`."""
        return {
            "night_seconds": self.worked_seconds, "budget_seconds": self.seconds,
            "longest_step_seconds": self.longest["step"], "longest_prune_seconds": self.longest["prune"],
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return the attributes in `fields` as plain values, as if `pause` were called now; `restore` takes them."""
        running = 0.0 if self._since is None else self._now() - self._since
        return {
            **super().state(), "longest": dict(self.longest), "before_seconds": self.before_seconds + running
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the values that `state` returned for a ledger of the same kind.

        Raises:
            ValueError: If values are missing, or are no times.
        """
        super().restore(state)
        expected.fields(dict.fromkeys(("step", "prune", "other"), expected.number(0)))("ledger.longest", self.longest)
        expected.optional(expected.number(0))("ledger.step_seconds", self.step_seconds)
        for name in TimeLedger.fields:
            value = getattr(self, name)
            if isinstance(value, float) and not value >= 0:
                raise ValueError(f"ledger.{name} must be 0 or more, not {value!r}")

    def allows(self, what: str) -> bool:
        """Return whether there is time for one more piece of work, if it takes as long as the longest of its kind."""
        return self.seconds - self.elapsed_seconds >= self.longest[what] - _SAME

    def reached(self, share: float) -> bool:
        """Return whether `share` (0 to 1) of the budget is spent, or the time until then is too short for a step."""
        step = self.step_seconds or 0.0
        ahead = step if self._is_prepared else max(step, self.preparing_seconds)
        elapsed = self.elapsed_seconds
        # A share below 1 is reached with the step whose end is nearest to it. The last step ends before the night does.
        left = min(2 * (share * self.seconds - elapsed), self.seconds - elapsed)
        return left <= _SAME or left < ahead - _SAME

    def steps_until(self, share: float) -> int | None:
        """Estimate how many steps are left until `share` (0 to 1) is spent; None if no step has been timed yet."""
        if self.step_seconds is None:
            return None
        left = share * self.seconds - self.elapsed_seconds
        return max(0, int(min(left / self.step_seconds, MAX_BUDGET))) if self.step_seconds else MAX_BUDGET

    def _now(self) -> float:
        now = self._timer.now()
        if isinstance(now, bool) or not isinstance(now, int | float) or not self._latest <= now < math.inf:
            raise SettingError(
                f"{self._timer!r}: now() must give seconds that never run backward, and gave {now!r} after "
                f"{self._latest!r}."
            )
        self._latest = float(now)
        return self._latest

    def _lap(self, what: str, more: float = 0.0) -> float:
        now = self._now()
        seconds, self._mark = now - self._mark + more, now
        self.longest[what] = max(self.longest[what], seconds)
        if what != "other":
            self.worked_seconds = self.elapsed_seconds
        return seconds


class DeadlineLedger(TimeLedger):
    """A ledger of time that ends at a deadline. Time also counts while the program is not running.

    Time that the phase was at work counts by the timer's `now`, too, and the larger number holds: a wall clock that is
    set back during a phase does not lengthen the phase.

    Args:
        deadline: Date and time at which the budget ends, with time zone.
        price_seconds: Seconds that each prune costs in addition to its duration.
        timer: Tells the time.
    """

    fields = (*TimeLedger.fields, "missed_by_seconds")

    def __init__(self, deadline: datetime.datetime, price_seconds: float, timer: Timer) -> None:
        left = (deadline - timer.wall()).total_seconds()
        super().__init__(max(0.0, left), price_seconds, timer)
        self.deadline, self.missed_by_seconds = deadline, max(0.0, -left)
        if not self.seconds:
            self.price = 0.0  # such a night has one prune, whatever the prune costs

    @property
    def overdue(self) -> float:  # type: ignore[override]
        """Seconds since the deadline; 0 before the deadline."""
        return max(0.0, (self._timer.wall() - self.deadline).total_seconds())

    @property
    def elapsed_seconds(self) -> float:
        """Seconds spent, prices included; more than `seconds` after the end of the budget."""
        left = (self.deadline - self._timer.wall()).total_seconds()
        by_wall = self.seconds - left - self.missed_by_seconds + self.n_prunes * self.price_seconds
        return max(by_wall, super().elapsed_seconds)

    def rest(self) -> DeadlineLedger:
        """Return a new ledger for the time until the deadline, of the same class."""
        twin = copy.copy(self)
        DeadlineLedger.__init__(twin, self.deadline, self.price_seconds, self._timer)
        return twin

    def state(self) -> dict[str, Any]:
        """Return the attributes in `fields`, and the deadline, as plain values; `restore` takes them."""
        return {**super().state(), "deadline": self.deadline.isoformat()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the values that `state` returned, including the deadline."""
        deadline = datetime.datetime.fromisoformat(state["deadline"])
        if deadline.tzinfo is None:
            raise ValueError(f"the deadline {deadline} has no time zone")
        super().restore(state)
        self.deadline = deadline


def _seconds(n: Any) -> float:
    return checks.finite("Seconds: n", n, least=0, most=MAX_BUDGET)


def _reserve(reserve: Any) -> float:
    return checks.finite("reserve", reserve, least=0, most=MAX_BUDGET)


def _longest(longest: Any) -> float:
    found = checks.positive("Until: longest", longest)
    if found > _DAY:
        raise SettingError(f"Until: longest must be at most a day, {_DAY} seconds, not {longest!r}.")
    return found


def _check_timer(_instance: Any, _attribute: Any, timer: Any) -> None:
    checks.kind("timer", timer, Timer, "FakeTimer()")


@attrs.frozen
class Seconds(Budget):
    """A budget in seconds of wall-clock time.

    A night ends on time, at the dawn density, after the last optimizer step for which there is time. It is late by at
    most one step and one prune, if this step and this prune take longer than all earlier ones. Planned cycles are
    merged if their REMs are shorter than the other work of the cycle, such as the prune. Work at dawn, such as
    evaluation, saving and what the agent keeps of the data, is not part of the night. Time does not count while the
    program is not running.

    Args:
        n: Number of seconds, from 0 to 10^12.
        price: Seconds that each NREM costs in addition to its duration, 0 or more.
        reserve: Seconds of `n` that are kept for work after the night, such as saving, from 0 to `n`.
        timer: The clock. `daynight.testing.FakeTimer` simulates a machine.

    Raises:
        SettingError: If an argument is not valid.
    """

    n: float = attrs.field(converter=_seconds)
    price: float = attrs.field(default=0.0, converter=price_of, kw_only=True)
    reserve: float = attrs.field(default=0.0, converter=_reserve, kw_only=True)
    timer: Timer = attrs.field(factory=Timer, validator=_check_timer, kw_only=True, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.reserve > self.n:
            raise SettingError(f"Seconds: reserve must be at most n, {self.n:g}, not {self.reserve:g}.")

    def open(self, steps_per_epoch: int) -> TimeLedger:
        """Open an account of the budget for one phase, and return this account, a ledger."""
        return TimeLedger(self.n - self.reserve, self.price, self.timer)


def _time_of_day(when: Any) -> str:
    found = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", when) if isinstance(when, str) else None
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        raise SettingError(f"Until: when must be a time of day from '00:00' to '23:59', not {when!r}.")
    return f"{int(found[1]):02}:{found[2]}"


@attrs.frozen
class Until(Budget):
    """A budget that ends at a time of day in the machine's time zone: when the clock next shows `when`.

    The end is fixed when the phase begins. Time also counts while the program is not running. Where clocks are put
    back, a time of day may come twice: the phase ends at the next one. Where they are put forward over `when`, it ends
    at that change. If the machine's clock is set back during the phase, the phase still does not work longer than it
    could have before.

    If a phase begins after its end, because earlier work took too long, the phase is over at once: a night then prunes,
    has no REM, and gives a warning. In all other respects the budget works like `Seconds`.

    Args:
        when: Time of day, such as ``"06:30"``.
        longest: Maximum duration of the phase in real seconds, above 0 and up to a day. If `when` is further ahead than
            `longest`, the phase counts as late: it should have ended at the last `when`.
        price: Seconds that each NREM costs in addition to its duration, 0 or more.
        reserve: Seconds before `when` that are kept for work after the night, such as saving, from 0 to `longest`.
        timer: The clock. `daynight.testing.FakeTimer` simulates a machine.

    Raises:
        SettingError: If an argument is not valid.
    """

    when: str = attrs.field(converter=_time_of_day)
    longest: float = attrs.field(default=18 * 3600.0, converter=_longest, kw_only=True)
    price: float = attrs.field(default=0.0, converter=price_of, kw_only=True)
    reserve: float = attrs.field(default=0.0, converter=_reserve, kw_only=True)
    timer: Timer = attrs.field(factory=Timer, validator=_check_timer, kw_only=True, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.reserve > self.longest:
            raise SettingError(f"Until: reserve must be at most longest, {self.longest:g}, not {self.reserve:g}.")

    def open(self, steps_per_epoch: int) -> DeadlineLedger:
        """Open an account of the budget for one phase, and return this account, a ledger."""
        return DeadlineLedger(self._next() - datetime.timedelta(seconds=self.reserve), self.price, self.timer)

    def _next(self) -> datetime.datetime:
        now = self.timer.wall()
        if not isinstance(now, datetime.datetime) or now.tzinfo is None:
            raise SettingError(f"{self.timer!r}: wall() must give date and time with a time zone, not {now!r}.")
        # A fixed offset, such as `astimezone` gives, does not know when clocks change: the machine's zone does.
        zone = None if isinstance(now.tzinfo, datetime.timezone) else now.tzinfo
        hour, minute = map(int, self.when.split(":"))
        today = now.astimezone(zone).replace(tzinfo=None, hour=hour, minute=minute, second=0, microsecond=0, fold=0)
        due = [time for n in range(-2, 3) for time in _moments(today + datetime.timedelta(days=n), zone)]
        ahead = min(time for time in due if time > now)
        if ahead - now <= datetime.timedelta(seconds=self.longest):
            return ahead
        return max(time for time in due if time <= now)


def _moments(reading: datetime.datetime, zone: datetime.tzinfo | None) -> list[datetime.datetime]:
    """Return the moments, in UTC, at which a clock shows a reading: two if it is put back over it.

    If the clock is put forward over the reading, the moment of that change is returned.

    Args:
        reading: Date and time of day, without a time zone.
        zone: The clock's time zone; None is the machine's.
    """
    # Not `astimezone`: without a zone, it gives the two moments of a reading that is skipped the other way round.
    stamps = [reading.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)]
    after, before = (datetime.datetime.fromtimestamp(stamp, datetime.timezone.utc) for stamp in stamps)
    # They are equal unless clocks change. Of a reading that is skipped, the one of fold=1 is the earlier one.
    if after <= before:
        return sorted({after, before})
    offset = after.astimezone(zone).utcoffset()
    while after - before > datetime.timedelta(seconds=1):
        middle = (before + (after - before) / 2).replace(microsecond=0)
        before, after = (before, middle) if middle.astimezone(zone).utcoffset() == offset else (middle, after)
    return [after]
