"""Sleep policies that react to what is measured during the night."""

from __future__ import annotations

import math
from collections.abc import Generator

from daynight.nights.cycle import Cycle, Night
from daynight.nights.policy import SleepPolicy
from daynight.rates import Rate
from daynight.support import checks

#: The next prune is at most and at least so many times as large as the last.
_GROWTH, _SHRINKING = 4.0, 0.25
#: Safety factor: the next prune takes this share of what the error of the last would allow.
_SAFETY = 0.9


class Controlled(SleepPolicy):
    """Prunes as far as a tolerance on the loss allows, retrains until the loss has recovered, and ends in time.

    It works as the controller of an adaptive step size does (Hairer, Nørsett & Wanner, "Solving Ordinary Differential
    Equations I", Section II.4). A step is a prune, by a factor exp(-h), and a short REM. Its error is how far the loss
    after that REM is above the loss at dusk, in units of the tolerance. If the error is at most 1, the next h is the
    last one times a safety factor, divided by the square root of the error. If it is larger, the loss must recover
    first. In either case h is at least so large that equal prunes reach the dawn density before the last REM.

    Args:
        tolerance: How far the loss may rise above that at dusk, above 0. The loss is that on the validation split, if
            there is one.
        length: Share of the night that a cycle takes, above 0 and up to 1.
        last: Share of the night that is kept for the last REM, 0 to 1.
        rate: How the learning rate changes over each REM; see `daynight.Cycle`.

    Raises:
        SettingError: If an argument is not valid.
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
        """Yield cycles as the loss and the time allow, and one with the last REM."""
        at_dusk = night.loss
        length = max(self.length, night.price)
        step = 0.0  # h: -log of the share of the weights that a prune keeps
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
