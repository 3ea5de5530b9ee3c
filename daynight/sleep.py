"""`Sleep`: the night of a day, cycle by cycle."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from torch import Tensor

from daynight.capacity import Capacity
from daynight.criteria import Criterion
from daynight.deadlines import TimeLedger
from daynight.errors import PolicyError, TrainingError
from daynight.history import Hook, Progress, Record
from daynight.lesson import Lesson
from daynight.network import FREE, MaskedNetwork
from daynight.policies import SleepPolicy, advance, check_end, follow, paced, planned, remembered
from daynight.rates import Rate, factor_of
from daynight.schedule import TOLERANCE, Cycle, Ledger, Night
from daynight.selection import Selection
from daynight.training import Training


class Sleep:
    """The night of a day: what is left of its budget, and how far it has come.

    Args:
        night: The snapshot at dusk.
        ledger: What the night may spend.
        lesson: What the day trains.
        network: The network, in that day.
        capacity: How many weights the task may own at dawn.
        training: How it is learnt.
        criterion: Scores weights for a prune.
        start: By layer, the weights as they were when the day began, if the criterion looks at them.
        learnt: By share of the wake, what cycles may rewind to.

    Attributes:
        night: The snapshot after the last finished cycle.
        ledger: What has been spent.
    """

    def __init__(
        self,
        night: Night,
        ledger: Ledger,
        *,
        lesson: Lesson,
        network: MaskedNetwork,
        capacity: Capacity,
        training: Training,
        criterion: Criterion,
        start: Mapping[str, Tensor],
        learnt: Mapping[float, Mapping[str, Tensor]],
    ) -> None:
        self.night, self.ledger, self._lesson, self._network = night, ledger, lesson, network
        self._capacity, self._training, self._criterion = capacity, training, criterion
        self._start, self._learnt = start, learnt
        self._timed = ledger if isinstance(ledger, TimeLedger) else None
        self._batches = lesson.new_batches("night")

    def run(self, policy: SleepPolicy, on_begin: Callable[[], None], on_event: Hook) -> None:
        """Run the cycles of a policy, as far as there is time for them.

        Args:
            policy: Lays out what is left of the night.
            on_begin: Called once the policy has been found sound, before anything is pruned.
            on_event: Called with each record, and with signs of life.

        Raises:
            PolicyError: If the policy breaks a rule.
            TrainingError: If the loss is not finite.
        """
        plan, planned_left = planned(policy, self.night), self.night.left
        # A night that was interrupted within a REM has spent more than its last finished cycle tells.
        self.night = attrs.evolve(self.night, spent=max(self.night.spent, self.ledger.spent))
        if plan is None:
            self._measure()
        self._check_remembered(remembered(policy, plan))
        on_begin()
        self._lesson.rest()
        is_live = plan is None or self._timed is None
        script = follow(policy, self.night) if is_live else paced(plan or (), self.night, planned_left)
        cycle, has_to_end, takes_all = next(script, None), False, False
        while cycle is not None:
            has_to_end = has_to_end or self._is_late(cycle)
            takes_all = cycle.length >= self.night.left - TOLERANCE
            if has_to_end:
                cycle = Cycle(keep="dawn", length=self.night.left)
            has_to_end |= self._tried(cycle, None if plan is None else len(plan), on_event)
            spent = self.night.after(cycle).spent if self._timed is None else self._timed.spent
            self.night = attrs.evolve(self.night.after(cycle), density=self.night.density, spent=spent)
            if has_to_end:
                break
            # Where there is no time to measure what the policy would like to know, its next cycle is the last.
            has_to_end = plan is None and not self.ledger.allows("other")
            if not has_to_end:
                if plan is None:
                    self._measure()
                cycle = advance(script, self.night)
        if not has_to_end and (self.night.cycle == 0 or not (takes_all or self.ledger.reached(1.0))):
            check_end(policy, self.night)

    def end(self, on_event: Hook) -> None:
        """Prune what is still above the dawn density."""
        if self.night.density > self.night.dawn_density:
            self._prune(self.night, self.night.dawn_density, on_event)

    def times(self) -> dict[str, Any]:
        """Give what a night in seconds took, for the record of the day."""
        ledger = self._timed
        if ledger is None:
            return {}
        return {
            "night_seconds": ledger.worked_seconds, "budget_seconds": ledger.seconds,
            "longest_step_seconds": ledger.longest["step"], "longest_prune_seconds": ledger.longest["prune"],
        }  # fmt: skip

    def _is_late(self, cycle: Cycle) -> bool:
        """Tell whether a night that does not reach its dawn density with a cycle has no time for it."""
        if self._timed is None:
            return False
        is_last = cycle.resolved(self.night) <= self.night.dawn_density
        return self._timed.reached(1.0) or not (is_last or self._timed.allows("prune"))

    def _tried(self, cycle: Cycle, n_cycles: int | None, on_event: Hook) -> bool:
        """Run a cycle; whatever goes wrong in it, all is put back as it was before it, but for what it has spent."""
        night, put_back = self.night, self._network.mark()
        try:
            return self._cycle(cycle, n_cycles, on_event)
        except BaseException as error:
            self._lesson.rest()
            put_back()
            self.night = night
            back = f"the end of cycle {night.cycle - 1}" if night.cycle else "dusk"
            note = (
                f"In day {night.day}, cycle {night.cycle}, at step {self._lesson.step}: the night has gone back to "
                f"{back} and is open there. Call sleep to go on with what is left of it, or finish_night to end it "
                "without a REM."
            )
            if isinstance(error, TrainingError):
                raise TrainingError(f"{error} {note}") from error
            if hasattr(error, "add_note"):  # from Python 3.11 on
                error.add_note(note)
            raise

    def _cycle(self, cycle: Cycle, n_cycles: int | None, on_event: Hook) -> bool:
        """Prune, and retrain until the cycle's share of the budget is spent.

        Returns:
            Whether it had to be the last, for want of time.
        """
        night, keep, ledger = self.night, cycle.resolved(self.night), self.ledger
        end = night.spent + cycle.length
        cut = self._prune(night, keep, on_event, weighs=cycle.rate is not None)
        is_last = self.night.density < keep
        if is_last:
            end = 1.0
        elif self._timed is not None and keep > night.dawn_density:
            end = min(end, 1 - self._timed.longest["prune"] / self._timed.seconds)
        if ledger.reached(end):
            return is_last
        if cycle.rewind is not None:
            self._check_remembered([cycle.rewind])
            self._network.rewind(self._learnt[cycle.rewind])
        rate = None if cycle.rate is None else functools.partial(self._factor, cycle.rate, cut)
        n_steps = ledger.steps_until(end)
        if not self._training.carry_optimizer:
            self._lesson.optimize(n_steps, n_steps)
        elif self._lesson.is_begun:
            self._lesson.carry_on(n_steps)
        else:
            self._lesson.optimize(ledger.steps_until(1.0), n_steps)
        sign = Progress(day=night.day, phase="rem", cycle=night.cycle, n_cycles=n_cycles)
        self._lesson.train(sign, self._batches, ledger, end, on_event, rate)
        return is_last

    def _prune(self, night: Night, keep: float, on_event: Hook, weighs: bool = False) -> float:
        """Keep exactly as many of the day's weights as the density `keep` means.

        Returns:
            How much that has cut, if it `weighs` it: the norm of the weights that it took, over that of those that were
            held, 0 to 1.
        """
        began = time.perf_counter()
        ledger = self.ledger
        ledger.note_other()
        held, chosen = self._network.held(), self._selection(night)
        masks, before = chosen.masks(keep, held), chosen.squares(held) if weighs else 0.0
        # A prune may take longer than any before. What is left of a night then has no time for another: be ready.
        is_timed = self._timed is not None and keep > night.dawn_density
        ready = chosen.masks(night.dawn_density, masks) if is_timed else None
        self._network.release(masks)
        self.night = attrs.evolve(night, density=keep)
        if keep < night.density:
            ledger.note_prune()
        if ready is not None and not ledger.allows("prune"):
            self._network.release(ready)
            self.night = attrs.evolve(night, density=night.dawn_density)
        cut = math.sqrt(max(0.0, 1 - chosen.squares(self._network.held()) / before)) if before else 0.0
        owned = sum(self._network.count(night.day).values())
        available = self._capacity.available(tuple(self._network.sizes.values()), night.day)
        on_event(
            Record(
                kind="prune",
                day=night.day,
                phase="nrem",
                step=self._lesson.step,
                cycle=night.cycle,
                **self._lesson.validated(ledger),
                density=owned / available if available else 1.0,
                owned=owned,
                free=sum(self._network.count(FREE).values()),
                elapsed_seconds=time.perf_counter() - began,
            )
        )
        ledger.note_other()
        return cut

    def _selection(self, night: Night) -> Selection:
        return Selection(
            network=self._network, capacity=self._capacity, criterion=self._criterion, lesson=self._lesson,
            start=self._start, cycle=night.cycle,
        )  # fmt: skip

    def _factor(self, rate: Rate, cut: float, share: float) -> float:
        """Give the factor of the learning rate at a share of a REM."""
        return factor_of(rate, share, cut, f"day {self.night.day}, cycle {self.night.cycle}")

    def _measure(self) -> None:
        """Measure the task within the night, which takes its time."""
        self.night = attrs.evolve(self.night, measured=self._lesson.measure())
        self.ledger.note_other()

    def _check_remembered(self, shares: Iterable[float]) -> None:
        """Make sure that the weights of these shares of the wake have been kept.

        Raises:
            PolicyError: If some have not.
        """
        missing = [share for share in shares if share not in self._learnt]
        if missing:
            raise PolicyError(
                f"day {self.night.day}: a cycle rewinds to the share {missing[0]:g} of the wake, which has not kept "
                f"its weights there. Call wake(..., remember={missing!r}); a Clock does so for a plan, and for what a "
                "policy that reacts has in rewinds."
            )
