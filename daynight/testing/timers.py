"""`FakeTimer`: a simulated clock for budgets in seconds."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from daynight.errors import SettingError
from daynight.nights.deadlines import Timer
from daynight.support import checks


class FakeTimer(Timer):
    """A simulated clock. Only optimizer steps and prunes take time, so nights in seconds are repeatable.

    Args:
        step_seconds: Seconds that an optimizer step takes, above 0: a number, or a function of the number of earlier
            steps.
        prune_seconds: Seconds that a prune takes, 0 or more: a number, or a function of the number of earlier prunes.
        start: Date and time at which the clock begins, in the machine's time zone.

    Raises:
        SettingError: If an argument is not valid. What a function returns is checked at each call.
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
        """Return simulated seconds. They begin at 10,007, so that a mix-up with a real clock is noticed."""
        return 10_007.0 + self._passed

    def wall(self) -> datetime.datetime:
        """Return the simulated date and time of day."""
        return self._start + datetime.timedelta(seconds=self._passed)

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Args:
            seconds: Seconds that pass, 0 or more.
        """
        self._passed += checks.finite("advance: seconds", seconds, least=0)

    def worked(self, what: str) -> None:
        """Let the time pass that a ``"step"`` or ``"prune"`` takes."""
        self.advance(self._takes(what, self._n[what]))
        self._n[what] += 1

    def _takes(self, what: str, n: int) -> float:
        """Return the seconds that a ``"step"`` or ``"prune"`` takes, after `n` earlier steps or prunes."""
        given, name = self._seconds[what], f"FakeTimer: {what}_seconds"
        try:
            seconds = given(n) if callable(given) else given
        except Exception as error:
            raise SettingError(
                f"{name} must be a number, or a function of a number, and failed for {n}: {error}"
            ) from error
        return checks.positive(name, seconds) if what == "step" else checks.finite(name, seconds, least=0)
