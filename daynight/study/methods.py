"""Methods to compare: functions of a stream, a seed and settings that live a life and say what came of it.

A method of your own is one such function. What it gives must be JSON; `outcome` makes it of what most have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from daynight.agent import Agent
from daynight.clock import Clock
from daynight.data.tasks import TaskStream
from daynight.data.unions import union, within_union
from daynight.nights.budgets import Budget
from daynight.nights.policy import SleepPolicy
from daynight.nights.schedules import OneShot
from daynight.pruning.capacity import Capacity
from daynight.study import measures
from daynight.study.states import _at_dusk, _put_by, _restored
from daynight.support import seeding
from daynight.training.consolidation import Consolidation
from daynight.training.settings import Training

Network = Callable[[], nn.Module]
Outcome = dict[str, Any]


def packnet(
    stream: TaskStream,
    *,
    seed: int,
    network: Network,
    free_at_end: float,
    wake: Budget,
    night: Budget,
    policy: SleepPolicy | None = None,
    training: Training | None = None,
    ranking: str = "layer",
    consolidation: Consolidation | str = "freeze",
    device: str = "cpu",
    state: Path | None = None,
    **settings: Any,
) -> Outcome:
    """PackNet with iterative pruning: Algorithm 1 of the study. What a task owns is frozen.

    Args:
        stream: The tasks.
        seed: The agent's.
        network: Makes the network.
        free_at_end: p, the fraction of maskable weights still free after the last task.
        wake: Budget of each wake.
        night: Budget of each night.
        policy: Lays out the nights; None prunes once.
        training: How a task is learnt.
        ranking: ``"layer"`` or ``"global"``; see `daynight.Capacity`.
        consolidation: See `daynight.Agent`.
        device: Where the life is lived: ``"cpu"`` or ``"cuda"``.
        state: A file to put the state by after each day; if it is there, the run goes on from it. Beside it the first
            dusk is put by: runs that differ only in what follows take it up.
        settings: Further arguments of `daynight.Agent`.
    """
    capacity = Capacity(free_at_end=free_at_end, days=len(stream), ranking=ranking)  # type: ignore[arg-type]
    policy = OneShot() if policy is None else policy
    settings = {"training": training, "consolidation": consolidation, "seed": seed, **settings, **_placed(device)}
    new_clock = functools.partial(Clock, stream=stream, policy=policy, wake=wake, night=night)
    clock = None if state is None else _restored(new_clock, state)
    if clock is not None:
        return _outlived(clock, state)
    new_agent = functools.partial(Agent, network, capacity=capacity, **settings)
    dusk = _at_dusk(new_agent, new_clock, stream, [network, wake, settings], state)
    clock = dusk.fork(policy=policy, night=night, capacity=capacity)
    clock.check()
    return _outlived(clock, state)


def memory(stream: TaskStream, *, device: str = "cpu", state: Path | None = None, **settings: Any) -> Outcome:
    """Full rehearsal: owned weights go on learning from all examples seen so far, at the same cost.

    Args:
        stream: The tasks.
        device: See `packnet`.
        state: See `packnet`.
        settings: Those of `packnet`.
    """
    return packnet(stream, consolidation="rehearse", device=device, state=state, **settings)


def fine_tuning(
    stream: TaskStream,
    *,
    seed: int,
    network: Network,
    wake: Budget,
    night: Budget,
    training: Training | None = None,
    device: str = "cpu",
    **settings: Any,
) -> Outcome:
    """Plain fine-tuning of the whole network on one task after another: nothing is pruned, and nothing protected."""
    agent = Agent(
        network,
        capacity=Capacity(keep_per_night=1.0),
        training=training,
        seed=seed,
        consolidation="fine-tune",
        device=device,
        **settings,
    )
    history = Clock(agent, stream, policy=OneShot(), wake=wake, night=night).run()
    return outcome(history.accuracy, agent)


def multinet(
    stream: TaskStream,
    *,
    seed: int,
    network: Network,
    free_at_end: float,
    wake: Budget,
    night: Budget,
    policy: SleepPolicy | None = None,
    training: Training | None = None,
    ranking: str = "layer",
    device: str = "cpu",
    state: Path | None = None,
    **settings: Any,
) -> Outcome:
    """All tasks at once, in mixed batches, with one night: as many epochs as each day of `packnet` has.

    Args:
        stream: The tasks; one network learns their union.
        seed: The agent's.
        network: Makes the network.
        free_at_end: The fraction of maskable weights that the night frees.
        wake: Budget of the wake.
        night: Budget of the night.
        policy: Lays out the night; None prunes once.
        training: How the union is learnt.
        ranking: See `daynight.Capacity`.
        device: See `packnet`.
        state: A file beside which the dusk is put by: runs that differ in their night alone take it up.
        settings: Further arguments of `daynight.Agent`.
    """
    capacity = Capacity(free_at_end=free_at_end, days=1, ranking=ranking)  # type: ignore[arg-type]
    policy = OneShot() if policy is None else policy
    settings = {"training": training, "seed": seed, **settings, **_placed(device)}
    new_clock = functools.partial(Clock, stream=[union(list(stream))], policy=policy, wake=wake, night=night)
    new_agent = functools.partial(Agent, network, capacity=capacity, **settings)
    dusk = _at_dusk(new_agent, new_clock, stream, ["union", network, wake, settings], state)
    clock = dusk.fork(policy=policy, night=night, capacity=capacity)
    clock.run()
    tasks = list(stream)
    scores = [clock.agent.evaluate(within_union(tasks, index), 0)[1] for index in range(len(tasks))]
    return outcome(_last_row(scores), clock.agent)


def from_scratch(
    stream: TaskStream,
    *,
    seed: int,
    network: Network,
    wake: Budget,
    night: Budget,
    training: Training | None = None,
    device: str = "cpu",
    **settings: Any,
) -> Outcome:
    """A whole network for each task, trained on it alone for as long as a day of `packnet` has, and not pruned."""
    scores, owned, private, n_steps = [], [], [], 0
    for index, task in enumerate(stream):
        own_seed = seeding.derive(seed, "from scratch", index)
        agent = Agent(
            network, capacity=Capacity(keep_per_night=1.0), training=training, seed=own_seed, device=device, **settings
        )  # fmt: skip
        history = Clock(agent, [task], policy=OneShot(), wake=wake, night=night).run()
        scores.append(float(history.accuracy[-1, -1]))
        owned.append(sum(agent.owned))
        private += [record.private for record in agent.days]
        n_steps += agent.n_steps
    return {
        **_accuracies(_last_row(scores)),
        "owned": owned,
        "private": private,
        "n_weights": sum(owned),
        "n_steps": n_steps,
    }


def outcome(matrix: np.ndarray, agent: Agent) -> Outcome:
    """Say what came of a life.

    Args:
        matrix: Accuracy (day, task); NaN where nothing was measured.
        agent: Whose life it was.

    Returns:
        ``accuracy`` (day, task) with None for NaN, ``mean_accuracy`` over all tasks at the end, and where each
        task was measured at each dawn ``forgetting`` and ``backward_transfer``; ``owned`` weights and ``private``
        numbers of each task, ``n_weights`` of the network, and ``n_steps``.
    """
    return {
        **_accuracies(matrix),
        "owned": list(agent.owned),
        "private": [record.private for record in agent.days],
        "n_weights": agent.n_weights,
        "n_steps": agent.n_steps,
    }


def _placed(device: str) -> dict[str, str]:
    """Give an agent's setting of where it lives, if that is not where all do; dusks are named by settings."""
    return {} if device == "cpu" else {"device": device}


def _outlived(clock: Clock, state: Path | None) -> Outcome:
    """Live the days that are left, and put the state by after each if there is a file to put it in."""
    while not clock.is_over:
        clock.step()
        if state is not None:
            _put_by(clock, state)
    return outcome(clock.history.accuracy, clock.agent)


def _accuracies(matrix: np.ndarray) -> Outcome:
    table = [[None if math.isnan(value) else float(value) for value in row] for row in np.asarray(matrix)]
    last = [value for value in table[-1] if value is not None]
    found: Outcome = {"accuracy": table, "mean_accuracy": float(np.mean(last))}
    if all(value is not None for index, row in enumerate(table) for value in row[: index + 1]):
        found |= {"forgetting": measures.forgetting(matrix), "backward_transfer": measures.backward_transfer(matrix)}
    return found


def _last_row(scores: Sequence[float]) -> np.ndarray:
    """Give the matrix of tasks that were all measured at the end, and not before."""
    matrix = np.full((len(scores), len(scores)), np.nan)
    matrix[-1] = scores
    return matrix
