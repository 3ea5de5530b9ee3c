"""Sleep policies that react to what is measured in the night."""

from __future__ import annotations

import math
from collections.abc import Generator

from daynight.nights.cycle import Cycle, Night
from daynight.nights.policy import SleepPolicy
from daynight.rates import Rate
from daynight.support import checks

#: By how much the next prune may be larger or smaller than the last.
_GROWTH, _SHRINKING = 4.0, 0.25
#: How far the next prune stays behind what the error of the last would allow.
_SAFETY = 0.9


class Controlled(SleepPolicy):
    """Prunes as far as a tolerance on the loss allows, sleeps until it has recovered, and ends in time.

    It works as the controller of an adaptive step size does (Hairer, Nørsett & Wanner, "Solving Ordinary Differential
    Equations I", Section II.4). A step is a prune, by a factor exp(-h), and a short REM. Its error is the rise of the
    loss over that at dusk, in units of the tolerance, after that REM. Below 1 the next h is the last, times a safety
    factor and over the square root of the error; above it the night goes on without a prune until the loss has
    recovered. As the night goes on, h is in any case as large as it must be for equal prunes to reach the dawn density
    before the last REM.

    Args:
        tolerance: How far the loss may rise above that at dusk, above 0; on the validation split if there is one.
        length: Share of the night that a cycle takes, above 0 and up to 1.
        last: Share of the night that is kept for the last REM, 0 to 1.
        rate: How the learning rate goes over each REM; see `daynight.Cycle`.

    Raises:
        SettingError: If an argument is outside its range.
    """

    def __init__(
        self, tolerance: float = 0.01, length: float = 1 / 72, last: float = 0.3, *, rate: Rate | None = None
    ) -> None:
        self.tolerance = checks.positive("Controlled: tolerance", tolerance)
        self.length = checks.share("Controlled: length", checks.positive("Controlled: length", length))
        self.last = checks.share("Controlled: last", last)
        if rate is not None:
            checks.function("Controlled: rate", rate)
        self.rate = rate

    def cycles(self, night: Night) -> Generator[Cycle, Night, None]:
        """Yield cycles for as long as the loss and the time allow, and the last REM."""
        at_dusk = night.loss
        length = max(self.length, night.price)
        step = 0.0  # -log of the share that a prune keeps
        while True:
            due = math.log(night.density / night.dawn_density)
            n_left = math.floor((night.left - max(self.last, length)) / length + 1e-9)
            if due <= 0 or n_left < 1:
                break
            error = (night.loss - at_dusk) / self.tolerance
            least = due / (n_left + 1)  # the last prune begins the last REM
            if night.cycle == 0:
                step = least
            elif error <= 1:
                factor = _SAFETY / math.sqrt(max(error, 1e-6))
                step = step * min(_GROWTH, max(_SHRINKING, factor)) if step else least
            now = max(step if error <= 1 else 0.0, least)
            if now >= due:
                break
            step = now
            night = yield Cycle(keep=night.density * math.exp(-now), length=length, rate=self.rate)
        yield Cycle(keep="dawn", length=night.left, rate=self.rate)
