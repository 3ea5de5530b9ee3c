"""`FakeTimer`: a simulated clock, for budgets of time."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from daynight.errors import SettingError
from daynight.nights.deadlines import Timer
from daynight.support import checks


class FakeTimer(Timer):
    """Tells a simulated time, in which only optimizer steps and prunes take any: nights in seconds then repeat.

    Args:
        step_seconds: What an optimizer step takes, above 0: a number, or a function of how many there were before.
        prune_seconds: What a prune takes, 0 or more, likewise.
        start: When it begins, in the machine's time zone.

    Raises:
        SettingError: If one of them is outside its range; a function, when it is asked.
    """

    def __init__(
        self,
        step_seconds: float | Callable[[int], float] = 0.01,
        prune_seconds: float | Callable[[int], float] = 0.0,
        start: datetime.datetime = datetime.datetime(2001, 1, 1, 22, 0),
    ) -> None:
        checks.kind("FakeTimer: start", start, datetime.datetime, "datetime.datetime(2001, 1, 1, 22, 0)")
        self._seconds = {"step": step_seconds, "prune": prune_seconds}
        for what in self._seconds:
            self._takes(what, 0)
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
        self.advance(self._takes(what, self._n[what]))
        self._n[what] += 1

    def _takes(self, what: str, n: int) -> float:
        """Give what a piece of work takes, of which there were n before."""
        given, name = self._seconds[what], f"FakeTimer: {what}_seconds"
        try:
            seconds = given(n) if callable(given) else given
        except Exception as error:
            raise SettingError(f"{name} must be a number, or a function of one, and fails for {n}: {error}") from error
        return checks.positive(name, seconds) if what == "step" else checks.finite(name, seconds, least=0)
