"""`Tryout`: short trials that choose whose weights a new task sees (``sees="best"``)."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch

from daynight.data.tasks import Task, titled
from daynight.errors import DataError, SettingError, TrainingError
from daynight.history import Event, Hook, Progress, Record
from daynight.networks.masked import MaskedNetwork
from daynight.networks.sight import Owners
from daynight.nights.budgets import Budget, Ledger, opened
from daynight.support import seeding
from daynight.training import schedules
from daynight.training.preflight import copy_of
from daynight.training.settings import Training
from daynight.training.trainer import Trainer

#: All trials together take at most one of so many equal parts of the wake.
N_PARTS = 5


@attrs.frozen
class Candidate:
    """A set of earlier tasks whose weights a new task may see.

    Attributes:
        label: ``"none"``, ``"all"``, or the tasks' indices, such as ``"0 2"``.
        owners: The owners of these weights.
    """

    label: str
    owners: frozenset[int]

    @property
    def asked(self) -> Owners | None:
        """The owners as `MaskedNetwork.begin_day` takes them: None is all earlier tasks."""
        return None if self.label == "all" else self.owners


@attrs.frozen(eq=False)
class Choice:
    """What trials have found.

    Attributes:
        label: The chosen set of earlier tasks (see `Candidate`).
        ledger: The account of the wake's budget, in which the trials are entered.
        seconds: Seconds that the trials took.
    """

    label: str
    ledger: Ledger
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """Return the choice as plain values, without the seconds; `restore` takes them."""
        return {"label": self.label, "ledger": self.ledger.state()}

    @classmethod
    def restore(cls, state: Mapping[str, Any], ledger: Ledger) -> Choice:
        """Make a choice from what `state` returned, and a new ledger of the same budget."""
        ledger.restore(state["ledger"])
        return cls(state["label"], ledger)


class Tryout:
    """The trials of one task, on one network between days. Nothing of the network changes.

    Candidates are all earlier tasks, none, and each living task with what it sees. Candidates that see the same
    weights count once. Each gets the same number of optimizer steps (or seconds) from the same initial values, on the
    same batches, and is measured by the loss on the validation data. Then single tasks are added to the best single
    one, in the order of their losses, as long as the loss falls (forward selection). The candidate with the lowest loss
    is chosen, of equal ones the first. A trial that fails, as with a rate that is too high, has the loss NaN and is not
    chosen unless all fail.

    Args:
        task: The task of the next day.
        network: The network.
        training: How the task is learnt.
        budget: The budget of the wake, of which the trials take a fifth.

    Attributes:
        candidates: Those with which the trials begin.
        n_most: The largest number of trials. It is 0 if there is only one candidate.

    Raises:
        DataError: If the task has no validation data.
        SettingError: If the budget has no step for each trial.
    """

    def __init__(self, task: Task, network: MaskedNetwork, training: Training, budget: Budget) -> None:
        self._task, self._network, self._training = task, network, training
        self.candidates = _candidates_of(network)
        singles = [candidate for candidate in self.candidates if candidate.label.isdecimal()]
        self.n_most = 0
        if len(self.candidates) > 1:
            self.n_most = len(self.candidates) + (0 if _are_nested(singles) else len(singles) - 1)
        self._ledger = check(task, training, budget, self.n_most)

    @property
    def phases(self) -> list[schedules.Phase]:
        """The trials, and the wakes that may be left after them; an empty list if numbers of steps are unknown."""
        n_steps, n = self._ledger.n_steps, self._n_steps
        if n_steps is None or n is None:
            return []
        left = [n_steps - n * n_trials for n_trials in range(len(self.candidates), self.n_most + 1)] or [n_steps]
        tried = [schedules.Phase("a trial of sees='best'", n, n)] if self.n_most else []
        return tried + [schedules.Phase("a wake", rest, rest) for rest in left if rest]

    def run(self, trainer: Trainer, seed: int, device: torch.device, on_event: Hook) -> tuple[Owners | None, Choice]:
        """Run the trials, and return the owners whose weights the task is to see (None is all), and what was chosen.

        Args:
            trainer: Trains the task, without an optimizer. It does not change.
            seed: Names the random streams.
            device: The network's device.
            on_event: Called with a record after each trial, and with progress events.
        """
        began, has_gradients = time.perf_counter(), torch.is_grad_enabled()
        losses = dict[Candidate, float]()

        def tell(event: Event) -> None:
            with seeding.shielded(device):
                on_event(event)

        try:
            for candidate in self._to_try(losses) if self.n_most else ():
                self._ledger.resume()
                record = self._tried(candidate, len(losses), trainer, seed, device, tell)
                loss = record.validation_loss
                losses[candidate] = math.inf if loss is None or math.isnan(loss) else loss
                tell(record)
                self._ledger.pause()
        finally:
            torch.set_grad_enabled(has_gradients)  # Ctrl-C within PyTorch's code may leave them off
        chosen = min(losses, key=losses.__getitem__) if losses else self.candidates[0]
        return chosen.asked, Choice(chosen.label, self._ledger, time.perf_counter() - began)

    @property
    def _n_steps(self) -> int | None:
        """Number of optimizer steps of each trial; None for a budget of time."""
        n_steps = self._ledger.n_steps
        return None if n_steps is None else n_steps // N_PARTS // max(1, self.n_most)

    def _to_try(self, losses: dict[Candidate, float]) -> Iterator[Candidate]:
        """Yield what to try, while the losses so far, by candidate in the order of trials, are entered in `losses`."""
        yield from self.candidates
        singles = [candidate for candidate in self.candidates if candidate.label.isdecimal()]
        singles.sort(key=losses.__getitem__)
        known, best = {candidate.owners for candidate in self.candidates}, singles[0] if singles else self.candidates[0]
        for single in singles[1:]:
            tasks = sorted(map(int, (*best.label.split(), single.label)))
            more = Candidate(" ".join(map(str, tasks)), best.owners | single.owners)
            if more.owners in known:
                continue
            yield more
            if not losses[more] < losses[best]:
                return
            best = more

    def _tried(
        self, candidate: Candidate, n_before: int, trainer: Trainer, seed: int, device: torch.device, on_event: Hook
    ) -> Record:  # fmt: skip
        """Try a candidate on a copy of the network, and return the record of the trial."""
        began, ledger, day, n = time.perf_counter(), self._ledger, self._network.n_tasks, self._n_steps
        n_steps = ledger.spent_steps
        if n is None:
            end = (n_before + 1) / (N_PARTS * self.n_most)
        else:
            assert ledger.n_steps is not None
            end = (n_steps + n) / ledger.n_steps
        network = copy.deepcopy(self._network)
        with seeding.forked(seed, "head", day, device=device):
            network.begin_day(self._task.n_outputs, candidate.asked)
        training = attrs.evolve(
            self._training, loss=copy_of(self._training.loss), metric=copy_of(self._training.metric)
        )  # fmt: skip
        trial, last = trainer.fork(network, training), list[Record]()

        def hear(event: Event) -> None:
            if isinstance(event, Progress):
                on_event(event)
            else:
                last[:] = [event]

        trial.optimize(n, n)
        loss = score = math.nan
        try:
            trial.train(Progress(day=day, phase="wake"), trial.new_batches("wake"), ledger, end, hear)
            if last and last[0].validation_loss is not None and last[0].validation_score is not None:
                loss, score = last[0].validation_loss, last[0].validation_score
            else:  # no time for a step, or for a measurement after it
                found = trial.measure()
                loss, score = found.loss, found.score
        except TrainingError:  # such as of a rate that is too high: if all trials fail, the wake will say so
            pass
        return Record(
            kind="trial", day=day, phase="wake", step=trial.step, sees=candidate.label, validation_loss=loss,
            validation_score=score, trial_steps=ledger.spent_steps - n_steps,
            elapsed_seconds=time.perf_counter() - began,
        )  # fmt: skip


def check(task: Task, training: Training, budget: Budget, n_trials: int) -> Ledger:
    """Return an account of the budget of a wake that begins with trials.

    Args:
        task: The task.
        training: How it is learnt.
        budget: The budget.
        n_trials: The largest number of trials.

    Raises:
        DataError: If the task has no validation data.
        SettingError: If the budget has no step for each trial.
    """
    check_held_out(task)
    ledger = opened(budget, training.steps_per_epoch(task))
    ledger.rest()  # raises an error for a ledger of a user that has no such method
    if n_trials and ledger.n_steps is not None and ledger.n_steps // N_PARTS < n_trials:
        raise SettingError(
            f"{titled(task.name)}: sees='best' may need {n_trials} trials, of a step or more each, and takes at most a "
            f"fifth of the wake, which has {ledger.n_steps:,} steps. Give the wake {N_PARTS * n_trials:,} steps or "
            "more; or say what the task sees, such as sees='all'."
        )
    return ledger


def check_held_out(task: Task) -> None:
    """Raise DataError if a task has no validation data, by which trials are compared."""
    if task.validation is None:
        raise DataError(
            f"{titled(task.name)} has no validation split, on which sees='best' compares which earlier tasks it may "
            "see. Hold out some of its training data: task.hold_out(0.2)."
        )


def _candidates_of(network: MaskedNetwork) -> list[Candidate]:
    """Return the candidates that see different weights: none, all, and each living task with what it sees."""
    candidates = [Candidate("all", frozenset(network.sight.needed)), Candidate("none", frozenset())]
    candidates += [Candidate(str(task), frozenset(network.sight.of[task])) for task in network.living]
    found = dict[frozenset[int], Candidate]()
    for candidate in candidates:
        found.setdefault(candidate.owners, candidate)
    return list(found.values())


def _are_nested(candidates: list[Candidate]) -> bool:
    """Return whether of each two candidates one shows all that the other shows, so that no two together show more."""
    sets = sorted((candidate.owners for candidate in candidates), key=len)
    return all(one <= other for one, other in itertools.pairwise(sets))
