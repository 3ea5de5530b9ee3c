"""`Sleep`: the night of a day, cycle by cycle."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from torch import Tensor

from daynight.criteria import Criterion
from daynight.errors import PolicyError, TrainingError
from daynight.history import Hook, Progress, Record
from daynight.networks.masked import FREE, Mark, MaskedNetwork
from daynight.nights.budgets import Budget, Ledger
from daynight.nights.cycle import TOLERANCE, Cycle, Night
from daynight.nights.deadlines import TimeLedger
from daynight.nights.policy import SleepPolicy, check_end, remembered
from daynight.pruning.capacity import Capacity
from daynight.pruning.selection import Selection
from daynight.rates import Rate, factor_of
from daynight.training.planner import Script, Turn, heard, same, told
from daynight.training.settings import Training
from daynight.training.trainer import Lesson


@attrs.define(eq=False, kw_only=True)
class Rem:
    """A REM that is under way.

    Attributes:
        turn: Its cycle.
        cut: How much its NREM has cut, 0 to 1.
        end: Share of the budget that is spent when it is over, 0 to 1.
        before: The snapshot before the cycle.
        mark: The network, likewise.
    """

    turn: Turn
    cut: float
    end: float
    before: Night
    mark: Mark

    def state(self) -> dict[str, Any]:
        """Give what it is, in plain values and tensors, for `restore`."""
        turn = attrs.asdict(self.turn, filter=lambda field, _: field.name != "cycle")
        cycle = {"keep": self.turn.cycle.keep, "length": self.turn.cycle.length}
        return {**turn, **cycle, "cut": self.cut, "end": self.end, "before": told(self.before), "mark": self.mark}

    @classmethod
    def restore(cls, state: dict[str, Any], cycle: Cycle | None, budget: Budget) -> Rem:
        """Make one of what `state` gave, with the cycle that a policy lays out for it.

        Raises:
            PolicyError: If that is another.
        """
        before, made = heard(state["before"], budget), Cycle(keep=state["keep"], length=state["length"])
        if state["is_given"]:
            made = same(made, cycle, before)
        turn = Turn(made, is_last=state["is_last"], takes_all=state["takes_all"], is_given=state["is_given"])
        return cls(turn=turn, cut=state["cut"], end=state["end"], before=before, mark=state["mark"])


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
        self._is_open = False  # from the time on when a policy has been found sound
        self._script: Script
        self._rem: Rem | None = None  # while it is under way
        self._taken: dict[str, Any] | None = None  # a REM to go on with

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
        try:
            turn = self._begun(policy, on_begin) if self._taken is None else self._taken_up(policy, self._taken)
            while turn is not None:
                # A REM to go on with has had steps already.
                n_done = self._timed.n_done if self._timed is not None and self._rem is None else None
                self._tried(turn, on_event)
                after = attrs.evolve(self.night.after(turn.cycle), density=self.night.density)
                if self._timed is not None and self._timed.n_done != n_done:
                    after = attrs.evolve(after, spent=self._timed.spent)  # cycles too short for a step add up to one
                self.night = after
                if turn.is_last:
                    return
                takes_all, turn = turn.takes_all, self._following()
            if self.night.cycle == 0 or not (takes_all or self.ledger.reached(1.0)):
                check_end(policy, self.night)
        except BaseException as error:
            if self._is_open and isinstance(error, TrainingError):
                raise TrainingError(f"{error} {self._way_on()}") from error
            if self._is_open and hasattr(error, "add_note"):  # from Python 3.11 on
                error.add_note(self._way_on())
            raise

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

    def state(self) -> dict[str, Any]:
        """Give all that makes the night what it is beside the network and the lesson, for `restore`.

        In the midst of a REM it may be called by what is told of its progress, and not elsewhere.
        """
        found = {"night": told(self.night), "ledger": self.ledger.state(), "batches": self._batches.state()}
        if self._taken is not None:  # and has not gone on yet
            found |= {"script": self._taken["script"], "rem": self._taken["rem"]}
        elif self._rem is not None:
            found |= {"script": self._script.state(), "rem": self._rem.state()}
        return found

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave, in the same night at its dusk."""
        self.night = heard(state["night"], self.night.budget)
        self.ledger.restore(state["ledger"])
        self._is_open = True
        self._batches.restore(state["batches"])
        self._taken = state if "rem" in state else None

    def _begun(self, policy: SleepPolicy, on_begin: Callable[[], None]) -> Turn | None:
        """Ask a policy for what is left of the night, and give its first cycle."""
        script = Script(policy, self.night)
        # A night that was interrupted within a REM has spent more than its last finished cycle tells.
        self.night = attrs.evolve(self.night, spent=max(self.night.spent, self.ledger.spent))
        if script.plan is None:
            self._measure()
        self._check_remembered(remembered(policy, script.plan))
        on_begin()
        self._is_open = True
        self._lesson.rest()
        self._script = script
        return self._turn(script.next(self.night, self.ledger.least_cycle))

    def _taken_up(self, policy: SleepPolicy, state: dict[str, Any]) -> Turn:
        """Go on in the midst of a REM, with a policy that is asked once more for what it was asked before that."""
        self._script = Script.restore(state["script"], policy, self.night.budget)
        self._rem = Rem.restore(state["rem"], self._script.last, self.night.budget)
        self._taken = None
        return self._rem.turn

    def _following(self) -> Turn | None:
        """Give the next cycle."""
        if self._script.plan is None:
            if self.night.density <= self.night.dawn_density and self.ledger.reached(1.0):
                return None
            if not self.ledger.allows("other"):
                # Where there is no time to measure what the policy would like to know, its next cycle is the last.
                return self._dawn()
            self._measure()
        return self._turn(self._script.next(self.night, self.ledger.least_cycle))

    def _turn(self, cycle: Cycle | None) -> Turn | None:
        if cycle is None:
            return None
        if self._timed is not None:
            goes_to_dawn = cycle.resolved(self.night) <= self.night.dawn_density
            if self._timed.reached(1.0) or not (goes_to_dawn or self._timed.allows("prune")):
                return self._dawn()
        return Turn(cycle, takes_all=cycle.length >= self.night.left - TOLERANCE)

    def _dawn(self) -> Turn:
        """Give the cycle that ends a night for which there is no time as it was laid out."""
        return Turn(Cycle(keep="dawn", length=self.night.left), is_last=True, is_given=False)

    def _tried(self, turn: Turn, on_event: Hook) -> None:
        """Run a cycle; whatever goes wrong in it, all is put back as it was before it, but for what it has spent."""
        rem = self._rem
        night, mark = (rem.before, rem.mark) if rem else (self.night, self._network.mark())
        try:
            rem = rem or self._nrem(turn, mark, on_event)
            if rem is not None:
                self._rem = rem
                self._retrain(rem, on_event)
        except BaseException:
            self._lesson.rest()
            self._network.put_back(mark)
            self.night = night
            raise
        finally:
            self._rem = None

    def _way_on(self) -> str:
        """Say where the night is after something has gone wrong, and what can be done."""
        night = self.night
        back = f"the end of cycle {night.cycle - 1}" if night.cycle else "dusk"
        return (
            f"In day {night.day}, cycle {night.cycle}, at step {self._lesson.step}: the night has gone back to "
            f"{back} and is open there. Call sleep to go on with what is left of it, or finish_night to end it "
            "without a REM."
        )

    def _nrem(self, turn: Turn, mark: Mark, on_event: Hook) -> Rem | None:
        """Prune, and make ready to retrain until the cycle's share of the budget is spent; None if it is already."""
        night, cycle, ledger = self.night, turn.cycle, self.ledger
        keep, end = cycle.resolved(night), night.spent + cycle.length
        cut = self._prune(night, keep, on_event, weighs=cycle.rate is not None)
        if self.night.density < keep:
            turn.is_last, end = True, 1.0
        elif self._timed is not None and keep > night.dawn_density:
            end = min(end, 1 - self._timed.longest["prune"] / self._timed.seconds)
        if ledger.reached(end):
            return None
        if cycle.rewind is not None:
            self._check_remembered([cycle.rewind])
            self._network.rewind(self._learnt[cycle.rewind])
        n_steps = ledger.steps_until(end)
        if not self._training.carry_optimizer:
            self._lesson.optimize(n_steps, n_steps)
        elif self._lesson.is_begun:
            self._lesson.carry_on(n_steps)
        else:
            self._lesson.optimize(ledger.steps_until(1.0), n_steps)
        return Rem(turn=turn, cut=cut, end=end, before=night, mark=mark)

    def _retrain(self, rem: Rem, on_event: Hook) -> None:
        rate = None if rem.turn.cycle.rate is None else functools.partial(self._factor, rem.turn.cycle.rate, rem.cut)
        sign = Progress(day=self.night.day, phase="rem", cycle=self.night.cycle, n_cycles=self._script.n_cycles)
        self._lesson.train(sign, self._batches, self.ledger, rem.end, on_event, rate)

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
        record = Record(
            kind="prune", day=night.day, phase="nrem", step=self._lesson.step, cycle=night.cycle,
            **self._lesson.validated(ledger), density=owned / available if available else 1.0, owned=owned,
            free=sum(self._network.count(FREE).values()), elapsed_seconds=time.perf_counter() - began,
        )  # fmt: skip
        ledger.note_other()
        on_event(record)
        ledger.note_outside()
        return cut

    def _selection(self, night: Night) -> Selection:
        return Selection(
            network=self._network, capacity=self._capacity, criterion=self._criterion, start=self._start,
            gradients=self._lesson.gradients, generator=self._lesson.generator, cycle=night.cycle,
        )  # fmt: skip

    def _factor(self, rate: Rate, cut: float, share: float) -> float:
        """Give the factor of the learning rate at a share of a REM."""
        try:
            return factor_of(rate, share, cut)
        except PolicyError as error:
            raise PolicyError(f"day {self.night.day}, cycle {self.night.cycle}: {error}") from error

    def _measure(self) -> None:
        """Measure the task within the night, which takes its time."""
        self.night = attrs.evolve(self.night, measured=self._lesson.measure())
        self.ledger.note_other()

    def _check_remembered(self, shares: Iterable[float]) -> None:
        """Make sure that the weights of these shares of the wake have been kept.

        Raises:
            PolicyError: If some have not.
        """
        if missing := [share for share in shares if share not in self._learnt]:
            raise PolicyError(
                f"day {self.night.day}: a cycle rewinds to the share {missing[0]:g} of the wake, which has not kept "
                f"its weights there. Call wake(..., remember={missing!r}); a Clock does so for a plan, and for what a "
                "policy that reacts has in rewinds."
            )
