"""Methods to compare: functions of a stream, a seed and settings that return the results of a run in JSON.

To add a method of your own, write such a function; `outcome` makes the results that most methods have.
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
from daynight.data.tasks import Task, TaskStream
from daynight.data.unions import union, within_union
from daynight.nights.budgets import Budget
from daynight.nights.policy import SleepPolicy
from daynight.nights.schedules import OneShot
from daynight.pruning.capacity import Capacity
from daynight.study import measures, states
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
    """PackNet with iterative pruning: Algorithm 1 of the paper. Owned weights are frozen.

    Args:
        stream: The tasks.
        seed: The agent's seed.
        network: Makes the network.
        free_at_end: p, the fraction of maskable weights still free after the last task.
        wake: Budget of each wake.
        night: Budget of each night.
        policy: Chooses the cycles of each night; None prunes once.
        training: How a task is learnt.
        ranking: ``"layer"`` or ``"global"``; see `daynight.Capacity`.
        consolidation: See `daynight.Agent`.
        device: The agent's device: ``"cpu"`` or ``"cuda"``.
        state: A folder for the run's checkpoints, from which it resumes. The first dusk is stored next to this folder,
            and runs that differ only after it start from that dusk.
        settings: Further arguments of `daynight.Agent`.
    """
    capacity = Capacity(free_at_end=free_at_end, days=len(stream), ranking=ranking)  # type: ignore[arg-type]
    settings = {"training": training, "consolidation": consolidation, "seed": seed, **settings, **_placed(device)}
    clock = _lived(stream, stream, network, capacity, wake, night, policy, state, settings)
    return outcome(clock.history.accuracy, clock.agent)


def memory(stream: TaskStream, *, device: str = "cpu", state: Path | None = None, **settings: Any) -> Outcome:
    """Full rehearsal: owned weights keep learning from all examples seen so far, at the cost of `packnet`.

    Args:
        stream: The tasks.
        device: See `packnet`.
        state: See `packnet`.
        settings: The other settings of `packnet`.
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
    """Plain fine-tuning of the whole network on one task after another: nothing is pruned or protected."""
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
    """All tasks at once, in mixed batches, with one night; the epochs are those of one day of `packnet`.

    Args:
        stream: The tasks; one network learns their union.
        seed: The agent's seed.
        network: Makes the network.
        free_at_end: The fraction of maskable weights that the night frees.
        wake: Budget of the wake.
        night: Budget of the night.
        policy: Chooses the cycles of the night; None prunes once.
        training: How the union is learnt.
        ranking: See `daynight.Capacity`.
        device: See `packnet`.
        state: See `packnet`; runs that differ only in their night start from the same dusk.
        settings: Further arguments of `daynight.Agent`.
    """
    capacity = Capacity(free_at_end=free_at_end, days=1, ranking=ranking)  # type: ignore[arg-type]
    settings = {"training": training, "seed": seed, **settings, **_placed(device)}
    tasks = list(stream)
    clock = _lived([union(tasks)], stream, network, capacity, wake, night, policy, state, settings)
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
    """A whole network for each task, trained on that task alone for as long as a day of `packnet`, and not pruned."""
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
    """Return the result of a run, in JSON.

    Args:
        matrix: Accuracy (day, task); NaN where nothing was measured.
        agent: The agent after its last day.

    Returns:
        ``accuracy`` (day, task) with None for NaN; ``mean_accuracy`` over all tasks at the end; ``forgetting`` and
        ``backward_transfer``, if each task was measured at each dawn; ``owned`` weights and ``private`` numbers of
        each task; ``n_weights`` of the network; and ``n_steps``.
    """
    return {
        **_accuracies(matrix),
        "owned": list(agent.owned),
        "private": [record.private for record in agent.days],
        "n_weights": agent.n_weights,
        "n_steps": agent.n_steps,
    }


def _placed(device: str) -> dict[str, str]:
    """Return the setting for a device other than the default. It is part of the names of shared dusks."""
    return {} if device == "cpu" else {"device": device}


def _lived(
    days: TaskStream | list[Task],
    stream: TaskStream,
    network: Network,
    capacity: Capacity,
    wake: Budget,
    night: Budget,
    policy: SleepPolicy | None,
    state: Path | None,
    settings: dict[str, Any],
) -> Clock:
    """Run all days, and return the clock.

    Args:
        days: The tasks of the days: `stream`, or the union of its tasks.
        stream: The tasks.
        network: Makes the network.
        capacity: Capacity of the agent.
        wake: Budget of each wake.
        night: Budget of each night.
        policy: Chooses the cycles of each night; None prunes once.
        state: The folder of the run's state.
        settings: Further arguments of `daynight.Agent`.
    """
    clock = states.begin(
        functools.partial(Agent, network, capacity=capacity, **settings), days,
        policy=OneShot() if policy is None else policy, wake=wake, night=night,
        stream=stream, about=[days is stream, network, wake, settings], state=state,
    )  # fmt: skip
    clock.run()
    return clock


def _accuracies(matrix: np.ndarray) -> Outcome:
    table = [[None if math.isnan(value) else float(value) for value in row] for row in np.asarray(matrix)]
    last = [value for value in table[-1] if value is not None]
    found: Outcome = {"accuracy": table, "mean_accuracy": float(np.mean(last))}
    if all(value is not None for index, row in enumerate(table) for value in row[: index + 1]):
        found |= {"forgetting": measures.forgetting(matrix), "backward_transfer": measures.backward_transfer(matrix)}
    return found


def _last_row(scores: Sequence[float]) -> np.ndarray:
    """Return the matrix of accuracies that were measured only at the end."""
    matrix = np.full((len(scores), len(scores)), np.nan)
    matrix[-1] = scores
    return matrix
