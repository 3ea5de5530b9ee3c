"""`Sleep`: the night of a day. It runs the cycles of the planner, and undoes a cycle that fails."""

from __future__ import annotations

import functools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from torch import Tensor

from daynight.criteria import Criterion
from daynight.errors import PolicyError, TrainingError
from daynight.history import Hook, Progress, Record
from daynight.networks.masked import FREE, Mark, MaskedNetwork
from daynight.nights.budgets import Ledger
from daynight.nights.cycle import Cycle, Night
from daynight.nights.policy import SleepPolicy, check_end, remembered
from daynight.pruning.capacity import Capacity, Room
from daynight.pruning.selection import Selection
from daynight.rates import Rate, factor_of
from daynight.training.planner import Planner, Turn
from daynight.training.settings import Training
from daynight.training.trainer import Trainer


@attrs.frozen(eq=False, kw_only=True)
class Rem:
    """A REM that is running.

    Attributes:
        turn: The cycle of the REM.
        cut: How much the NREM before it has cut, 0 to 1: the norm of the pruned weights over that of all held weights.
        end: Share of the budget that is spent when the REM is over, 0 to 1.
        before: The snapshot before the cycle.
        mark: The network before the cycle.
        pruned_at: Number of steps at the last prune before the cycle, if no step had followed it; otherwise None.
    """

    turn: Turn
    cut: float
    end: float
    before: Night
    mark: Mark
    pruned_at: int | None = None

    def state(self) -> dict[str, Any]:
        """Return the REM as plain values and tensors; `restore` takes them."""
        turn = attrs.asdict(self.turn, filter=lambda field, _: field.name != "cycle")
        cycle = {"keep": self.turn.cycle.keep, "length": self.turn.cycle.length}
        state = {**turn, **cycle, "cut": self.cut, "end": self.end, "before": self.before.to_json(), "mark": self.mark}
        return state | ({"pruned_at": self.pruned_at} if self.before.chooses else {})

    @classmethod
    def restore(cls, state: dict[str, Any], planner: Planner, night: Night) -> Rem:
        """Make a REM from what `state` returned, with the cycle that the policy now yields.

        Raises:
            PolicyError: If the policy yields another cycle.
        """
        before = Night.from_json(state["before"], night.budget)
        cycle = Cycle(keep=state["keep"], length=state["length"])
        if state["is_given"]:
            cycle = planner.resumed(cycle, before)
        turn = Turn(cycle, is_last=state["is_last"], takes_all=state["takes_all"], is_given=state["is_given"])
        cut, end, pruned_at = state["cut"], state["end"], state.get("pruned_at")
        return cls(turn=turn, cut=cut, end=end, before=before, mark=state["mark"], pruned_at=pruned_at)


class Sleep:
    """The night of a day: its ledger, and how far it has come.

    Args:
        night: The snapshot at dusk.
        ledger: The account of the night's budget.
        trainer: Trains the day's task.
        network: The network, on that day.
        capacity: How layers are ranked.
        room: How many weights the task holds at dusk, and owns or may own at dawn.
        training: How the task is learnt.
        criterion: Scores weights for a prune.
        start: By layer, the weights at the beginning of the day, if the criterion uses them.
        learnt: By share of the wake, the weights that cycles may rewind to.

    Attributes:
        night: The snapshot after the last finished cycle.
        ledger: As given.
        room: As given.
    """

    def __init__(
        self,
        night: Night,
        ledger: Ledger,
        *,
        trainer: Trainer,
        network: MaskedNetwork,
        capacity: Capacity,
        room: Room,
        training: Training,
        criterion: Criterion,
        start: Mapping[str, Tensor],
        learnt: Mapping[float, Mapping[str, Tensor]],
    ) -> None:
        self.night, self.ledger, self._trainer, self._network = night, ledger, trainer, network
        self._capacity, self._training, self._criterion = capacity, training, criterion
        self._start, self._learnt, self.room = start, learnt, room
        self._batches = trainer.new_batches("night")
        # Number of steps at the last prune, if no step has followed it: then running statistics are those of another
        # network. None if a step has.
        self._pruned_at: int | None = None
        self._is_open = False  # whether a policy has passed its checks
        self._planner: Planner | None = None
        self._rem: Rem | None = None  # the REM that is running
        # While a night chooses: the loss at dusk, and what is allowed above it at the equal share. None: not measured.
        self._limit: tuple[float, float] | None = None
        self._stored: dict[str, Any] | None = None  # the state of a REM to resume

    def run(self, policy: SleepPolicy, on_begin: Callable[[], None], on_event: Hook) -> None:
        """Run the cycles of a policy until they are finished or no time is left.

        Args:
            policy: Chooses the cycles of the rest of the night.
            on_begin: Called after the policy has passed its checks, before anything is pruned.
            on_event: Called with each record and progress event.

        Raises:
            PolicyError: If the policy breaks a rule.
            TrainingError: If the loss is not finite.
        """
        try:
            turn = self._begin(policy, on_begin) if self._stored is None else self._resume(policy, self._stored)
            assert self._planner is not None
            takes_all = False
            while turn is not None:
                # The steps of a resumed REM before its interruption also count as its steps.
                n_done = self.ledger.n_done if self._rem is None else None
                is_last = self._run_cycle(turn, on_event)
                spent = attrs.evolve(self.night.after(turn.cycle), density=self.night.density)
                if self.ledger.is_timed and self.ledger.n_done != n_done:
                    # A cycle that is too short for a step leaves its time to the next cycle.
                    spent = attrs.evolve(spent, spent=self.ledger.spent)
                self.night = spent
                if is_last:
                    return
                takes_all, turn = turn.takes_all, self._planner.next(self.night, self._measure)
            is_over = takes_all or self.ledger.reached(1.0) or self.night.is_settled
            if self.night.cycle == 0 or not is_over:
                check_end(policy, self.night)
        except BaseException as error:
            if self._is_open and isinstance(error, TrainingError):
                raise TrainingError(f"{error} {self._advice()}") from error
            if self._is_open and hasattr(error, "add_note"):  # from Python 3.11 on
                error.add_note(self._advice())
            raise

    def finish(self, on_event: Hook) -> None:
        """Prune down to the density at which the night ends, if the density is still above it."""
        if self.night.density > self.night.last_density:
            self._prune(self.night, self.night.last_density, on_event, is_end=True)
        if self._pruned_at is not None or self._training.norm_statistics == "anew":
            self._take_statistics()

    def state(self) -> dict[str, Any]:
        """Return the state of the night, without the network and the trainer; `restore` takes it.

        During a REM, call this only from a hook, and only at a progress event.
        """
        parts = {"ledger": self.ledger.state(), "batches": self._batches.state()}
        state: dict[str, Any] = {"night": self.night.to_json(), **parts}
        state |= {} if self._pruned_at is None else {"pruned_at": self._pruned_at}
        state |= {} if self._limit is None else {"limit": list(self._limit)}
        if self._stored is not None:  # the REM is not resumed yet
            state |= {"script": self._stored["script"], "rem": self._stored["rem"]}
        elif self._rem is not None and self._planner is not None:
            state |= {"script": self._planner.state(), "rem": self._rem.state()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned. The night must be the same, and at its dusk."""
        self.night = Night.from_json(state["night"], self.night.budget)
        self.ledger.restore(state["ledger"])
        self._is_open = True
        self._pruned_at, self._limit = state.get("pruned_at"), tuple(state["limit"]) if "limit" in state else None
        self._batches.restore(state["batches"])
        self._stored = state if "rem" in state else None

    def _begin(self, policy: SleepPolicy, on_begin: Callable[[], None]) -> Turn | None:
        """Ask a policy for the cycles of the rest of the night, and return the first one."""
        planner = Planner(policy, self.night, self.ledger)
        # A night that was interrupted within a REM has spent more than its last finished cycle says.
        self.night = attrs.evolve(self.night, spent=max(self.night.spent, self.ledger.spent))
        if planner.plan is None:
            self._measure()
        if self.night.chooses and self.night.cycle == 0 and self.ledger.allows("other"):
            loss, gain = self._trainer.measure_gain()
            if math.isfinite(loss):
                self._limit = loss, self._capacity.tolerance * gain
            else:
                warnings.warn(
                    f"day {self.night.day}: the loss at dusk is {loss}, by which the night cannot choose how many "
                    "weights the task keeps (Capacity(share='need')), so it keeps the equal share.", stacklevel=2,
                )  # fmt: skip
            self.ledger.note_other()
        self._check_remembered(remembered(policy, planner.plan))
        on_begin()
        self._is_open = True
        self._trainer.rest()
        self._planner = planner
        return planner.first(self.night)

    def _resume(self, policy: SleepPolicy, state: dict[str, Any]) -> Turn:
        """Resume within a REM, after repeating all calls made to the policy before."""
        self._planner = Planner.restore(state["script"], policy, self.night, self.ledger)
        self._rem = Rem.restore(state["rem"], self._planner, self.night)
        self._stored = None
        return self._rem.turn

    def _run_cycle(self, turn: Turn, on_event: Hook) -> bool:
        """Run a cycle. If the cycle fails, undo it; the budget that it has used stays spent.

        Returns:
            Whether the cycle is the night's last one.
        """
        rem, pruned_at = self._rem, self._pruned_at
        night, mark = (rem.before, rem.mark) if rem else (self.night, self._network.mark())
        if rem and night.chooses:
            pruned_at = rem.pruned_at
        try:
            if rem is None:
                is_last, rem = self._nrem(turn, mark, on_event)
            else:
                is_last = rem.turn.is_last
            if rem is not None:
                self._rem = rem
                self._retrain(rem, on_event)
            if not is_last:
                self._choose(night, mark, pruned_at)
            return is_last
        except BaseException:
            self._trainer.rest()
            self._network.put_back(mark)
            self.night, self._pruned_at = night, pruned_at
            raise
        finally:
            self._rem = None

    def _choose(self, before: Night, mark: Mark, pruned_at: int | None) -> None:
        """Choose the dawn density after a cycle, if there is a choice and the cycle shows which it must be.

        The rule is that of `daynight.Capacity` with ``share="need"``.

        Args:
            before: The snapshot before the cycle.
            mark: The network before the cycle.
            pruned_at: Number of steps at the last prune before the cycle, if no step had followed it.
        """
        night = self.night
        if night.highest_density is None or night.density > night.highest_density:
            return
        if self._limit is None or not self.ledger.allows("other"):  # no time to find out
            self.night = night.settled(night.last_density)
            return
        loss = self._trainer.measure().loss
        self.ledger.note_other()
        assert night.due_density is not None
        at_dusk, allowed = self._limit
        if not -math.inf < loss <= at_dusk + allowed * night.density / night.due_density:
            self._trainer.rest()
            self._network.put_back(mark)
            self.night = before.settled(min(before.density, night.highest_density))
            self._pruned_at = pruned_at
        elif night.density <= night.dawn_density:
            self.night = night.settled(night.dawn_density)

    def _nrem(self, turn: Turn, mark: Mark, on_event: Hook) -> tuple[bool, Rem | None]:
        """Prune, and prepare to retrain until the cycle's share of the budget is spent.

        Returns:
            Whether the cycle is the night's last one, and its REM; None in place of the REM if the share is spent
            already.
        """
        night, cycle, ledger, pruned_at = self.night, turn.cycle, self.ledger, self._pruned_at
        keep, end = cycle.resolved(night), night.spent + cycle.length
        cut = self._prune(night, keep, on_event, weighs=cycle.rate is not None)
        may_prune_again = not turn.is_last if night.chooses else keep > night.dawn_density
        if self.night.density < keep:
            turn, end = attrs.evolve(turn, is_last=True), 1.0
        elif may_prune_again:
            end = min(end, ledger.latest_end)
        if ledger.reached(end):
            return turn.is_last, None
        if cycle.rewind is not None:
            self._check_remembered([cycle.rewind])
            self._network.rewind(self._learnt[cycle.rewind])
        n_steps = ledger.steps_until(end)
        if not self._training.carry_optimizer:
            self._trainer.optimize(n_steps, n_steps)
        elif self._trainer.has_optimizer:
            self._trainer.carry_on(n_steps)
        else:
            self._trainer.optimize(ledger.steps_until(1.0), n_steps)
        return turn.is_last, Rem(turn=turn, cut=cut, end=end, before=night, mark=mark, pruned_at=pruned_at)

    def _retrain(self, rem: Rem, on_event: Hook) -> None:
        assert self._planner is not None
        rate = None if rem.turn.cycle.rate is None else functools.partial(self._factor, rem.turn.cycle.rate, rem.cut)
        place = Progress(day=self.night.day, phase="rem", cycle=self.night.cycle, n_cycles=self._planner.n_cycles)
        self._trainer.train(place, self._batches, self.ledger, rem.end, on_event, rate)
        if self.ledger.spent_steps != self._pruned_at:
            self._pruned_at = None

    def _prune(self, night: Night, keep: float, on_event: Hook, weighs: bool = False, is_end: bool = False) -> float:
        """Prune the day's weights to the density `keep`; the number of kept weights is exact.

        With `is_end`, no training follows, and running statistics are taken anew.

        Returns:
            With `weighs`, how much the prune has cut: the norm of the pruned weights over that of all weights held
            before, 0 to 1. Without, 0.
        """
        began = time.perf_counter()
        ledger = self.ledger
        ledger.note_other()
        held, chosen = self._network.held(), self._selection(night)
        masks, before = chosen.masks(keep, held), chosen.squares(held) if weighs else 0.0
        # This prune may take so long that there is no time for another one. So choose the weights with which the night
        # would then end now, too.
        last = attrs.evolve(night, density=keep).last_density
        at_dawn = chosen.masks(last, masks) if ledger.is_timed and keep > last else None
        self._network.release(masks)
        self.night = attrs.evolve(night, density=keep)
        if keep < night.density:
            self._pruned_at = ledger.spent_steps
        if is_end:
            self._take_statistics()
        if keep < night.density:
            ledger.note_prune()
        if at_dawn is not None and not ledger.allows("prune"):
            self._network.release(at_dawn)
            self.night = attrs.evolve(night, density=last)
        cut = math.sqrt(max(0.0, 1 - chosen.squares(self._network.held()) / before)) if before else 0.0
        owned = sum(self._network.count(night.day).values())
        available = sum(self.room.free)
        record = Record(
            kind="prune", day=night.day, phase="nrem", step=self._trainer.step, cycle=night.cycle,
            **self._trainer.validated(ledger), density=owned / available if available else 1.0, owned=owned,
            free=sum(self._network.count(FREE).values()), elapsed_seconds=time.perf_counter() - began,
        )  # fmt: skip
        ledger.note_other()
        on_event(record)
        ledger.note_outside()
        return cut

    def _take_statistics(self) -> None:
        self._trainer.take_statistics()
        self._pruned_at = None

    def _selection(self, night: Night) -> Selection:
        n_steps = self.ledger.spent_steps / night.cycle if night.cycle else math.inf  # of a cycle
        squared_jacobian = functools.partial(self._trainer.squared_jacobian, n_steps=n_steps)
        return Selection(
            network=self._network, capacity=self._capacity, room=self.room, criterion=self._criterion,
            start=self._start, gradients=self._trainer.gradients, squared_jacobian=squared_jacobian,
            generator=self._trainer.generator, cycle=night.cycle, connections=self._trainer.connections,
        )  # fmt: skip

    def _factor(self, rate: Rate, cut: float, share: float) -> float:
        """Return the factor of the learning rate at a share of a REM."""
        try:
            return factor_of(rate, share, cut)
        except PolicyError as error:
            raise PolicyError(f"day {self.night.day}, cycle {self.night.cycle}: {error}") from error

    def _measure(self) -> Night:
        """Measure the task, which takes time of the night, and return the snapshot with the result."""
        self.night = attrs.evolve(self.night, measured=self._trainer.measure())
        self.ledger.note_other()
        return self.night

    def _check_remembered(self, shares: Iterable[float]) -> None:
        """Raise PolicyError unless the weights at the given shares of the wake have been kept."""
        if missing := [share for share in shares if share not in self._learnt]:
            raise PolicyError(
                f"day {self.night.day}: a cycle rewinds to the share {missing[0]:g} of the wake, whose weights have "
                f"not been kept. Call wake(..., remember={missing!r}); a Clock does so for a plan, and for the rewinds "
                "of a policy that reacts."
            )

    def _advice(self) -> str:
        """Return a text that says where the night is after an error, and what can be done."""
        night = self.night
        back = f"the end of cycle {night.cycle - 1}" if night.cycle else "dusk"
        return (
            f"In day {night.day}, cycle {night.cycle}, at step {self._trainer.step}: the night has gone back to "
            f"{back} and is open there. Call sleep to resume it within what is left of its budget, or finish_night to "
            "end it without a REM."
        )
