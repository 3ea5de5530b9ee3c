"""Phases with a scheduler: how many steps each will take, and whether the scheduler can take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from daynight.errors import SettingError
from daynight.networks.masked import MaskedNetwork
from daynight.nights.budgets import Budget, Ledger, opened
from daynight.nights.cycle import TOLERANCE, Cycle, Night
from daynight.support import seeding, threads
from daynight.training.preflight import Tried
from daynight.training.settings import Training

#: Most steps of schedulers that an agent tries before phases, all together, so that this stays short.
MOST_STEPS = 100_000


@attrs.frozen
class Phase:
    """A phase for which a scheduler is made.

    Attributes:
        name: Its name in errors.
        n_steps: Number of steps with which the scheduler is made.
        n_taken: Number of steps that the scheduler takes; 0 if the phase follows a rate of its cycle.
    """

    name: str
    n_steps: int
    n_taken: int


def of_wake(budget: Budget, steps_per_epoch: int) -> list[Phase]:
    """Return a wake as a list of one phase; an empty list if its number of steps is unknown."""
    n_steps = opened(budget, steps_per_epoch).n_steps
    return [Phase("a wake", n_steps, n_steps)] if n_steps else []


def of_night(plan: Sequence[Cycle] | None, night: Night, carries: bool) -> list[Phase]:
    """Return the REMs of a night, without those that take no step.

    If the night chooses its dawn density, the halves of its last cycle are among them (see `Planner`).

    Args:
        plan: The cycles; None if the policy reacts, so that nothing is known.
        night: The snapshot at dusk.
        carries: Whether one scheduler serves the whole night.
    """
    ledger, found, whole = opened(night.budget, night.steps_per_epoch), list[Phase](), 0
    cut = list[Phase]()
    if plan is None or ledger.n_steps is None or type(ledger).note_step is not Ledger.note_step:
        return []
    for cycle in plan:
        if cycle.resolved(night) < night.density:
            ledger.note_prune()
        end = night.spent + cycle.length
        n_steps = 0 if ledger.reached(end) else ledger.steps_until(end) or 0
        if n_steps:
            whole = whole or ledger.steps_until(1.0) or 0
            found.append(_rem(cycle, n_steps))
            if night.chooses and cycle.length >= night.left - TOLERANCE:
                half = ledger.steps_until(night.spent + cycle.length / 2) or 0
                cut += [_rem(cycle, n) for n in (half, n_steps - half) if n]
        ledger.spent_steps += n_steps
        night = night.after(cycle)
    if carries and found:
        return [Phase("a night", whole, sum(phase.n_taken for phase in found))]
    return found + cut


def _rem(cycle: Cycle, n_steps: int) -> Phase:
    return Phase("a REM", n_steps, 0 if cycle.rate is not None else n_steps)


def check(training: Training, network: MaskedNetwork, phases: Iterable[Phase], known: set[Phase]) -> None:
    """Raise SettingError unless schedulers can be made for some phases and take their steps.

    They take them on copies of the parameters. The shortest phases come first, and a phase is left out if more than
    `MOST_STEPS` would be taken with it and those before.

    Args:
        training: The settings.
        network: The network.
        phases: The phases.
        known: Phases that were tried before, to which these are added.
    """
    if training.scheduler is None:
        return
    named = {name: parameter for name, parameter in network.module.named_parameters() if parameter.requires_grad}
    left = MOST_STEPS - sum(phase.n_taken for phase in known)
    for phase in sorted(set(phases) - known, key=lambda phase: phase.n_steps):
        left -= max(1, phase.n_taken)
        if left < 0:
            return
        step = 0
        try:
            with seeding.forked(0, "schedule"), threads.quiet():
                tried = Tried.of(training, named, phase.n_steps)
                for step in range(1, phase.n_taken + 1):
                    # PyTorch wants a step of the optimizer before the first one of the scheduler.
                    (tried.step if step == 1 else tried.scheduler.step)()
        except Exception as error:
            when = f"at step {step} of {phase.n_steps}" if step else f"for {phase.n_steps} steps"
            raise SettingError(
                f"Training: scheduler fails in {phase.name}, {when}: {error!r}. It is called with the number of steps "
                "of each wake and each REM: let its parts follow from that, such as a warm-up of min(100, n_steps // "
                "10) steps; or give longer phases, or a night one scheduler with carry_optimizer=True.",
                page="optimizers",
            ) from error
        known.add(phase)
