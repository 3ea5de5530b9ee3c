"""Sleep policies that react to measurements during the night."""

from __future__ import annotations

import math
from collections.abc import Generator

from daynight.nights.cycle import Cycle, Night
from daynight.nights.policy import SleepPolicy
from daynight.rates import Rate
from daynight.support import checks

#: Largest and smallest factor from the size of a prune to the size of the next prune.
_GROWTH, _SHRINKING = 4.0, 0.25
#: Safety factor: the size of the next prune is this fraction of the size that the last error allows.
_SAFETY = 0.9


class Controlled(SleepPolicy):
    """Prunes as far as a tolerance on the loss allows, retrains until the loss has recovered, and ends in time.

    The policy works like the controller of an adaptive step size (Hairer, Nørsett & Wanner, "Solving Ordinary
    Differential Equations I", Section II.4). A step is a prune, by a factor exp(-h), and a short REM. The error of a
    step is how far the loss after its REM is above the loss at dusk, in units of the tolerance. If the error is at most
    1, the next h is the last h times a safety factor, divided by the square root of the error. If the error is larger,
    the loss must recover first, and h is the least allowed. With the least h, equal prunes reach the dawn density
    before the last REM.

    Args:
        tolerance: How far the loss may rise above the loss at dusk, above 0. The loss is measured on the validation
            split if there is one, otherwise on training data.
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
        """Yield cycles as the loss and the time allow, and then the cycle with the last REM."""
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
