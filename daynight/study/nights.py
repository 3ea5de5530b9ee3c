"""Single nights of many policies that share the days before them: a cheap first comparison."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from torch import nn

from daynight.agent import Agent
from daynight.clock import Clock
from daynight.data.tasks import TaskStream
from daynight.nights.budgets import Budget
from daynight.nights.policy import SleepPolicy
from daynight.pruning.capacity import Capacity
from daynight.storage.identity import describe, digest
from daynight.study.methods import Outcome
from daynight.study.states import Remembering
from daynight.training.settings import Training


def held_out(stream: Callable[[], TaskStream], fraction: float) -> TaskStream:
    """Return a stream whose test data are held-out training data, for designs that must not see test data.

    Args:
        stream: A function that returns the stream.
        fraction: Share of the training data of each task that is held out, above 0 and below 1.
    """
    whole = stream()
    held = [(task, task.hold_out(fraction).splits()) for task in whole]
    return TaskStream(
        [attrs.evolve(task, train=splits["train"], test=splits["validation"]) for task, splits in held],
        f"{whole.source}, judged on {fraction:.3g} of the training data",
    )


def one_night(
    stream: TaskStream,
    *,
    seed: int,
    day: int,
    network: Callable[[], nn.Module],
    free_at_end: float,
    wake: Budget,
    night: Budget,
    policy: SleepPolicy,
    usual: SleepPolicy,
    training: Training,
    remember: tuple[float, ...] = (),
    device: str = "cpu",
) -> Outcome:
    """Run up to a day's dusk with one policy, and then one night with another: each comparison costs one night.

    Later days differ from the first: free weights start at zero, and frozen ones are seen. Nights of many policies
    share the days before them if their runs follow each other in one process, in the order of their days.

    Args:
        stream: The tasks.
        seed: The agent's seed.
        day: Index of the day of the night, from 0.
        network: Makes the network.
        free_at_end: p, the fraction of weights free after the last day of the stream.
        wake: Budget of each wake.
        night: Budget of each night.
        policy: Chooses the cycles of that night.
        usual: Chooses the cycles of the nights before.
        training: How the tasks are learnt.
        remember: Shares of each wake, 0 to 1, to whose weights nights may rewind.
        device: The agent's device: ``"cpu"`` or ``"cuda"``.

    Returns:
        The day's test ``accuracy``, the number of weights ``owned``, ``night_steps``, and ``prunes``: for each prune,
        the share of the night's steps before it, and the density after it.
    """
    name = digest(describe([seed, network, free_at_end, wake, night, usual, training, remember, device])), id(stream)
    if name not in _shared or _shared[name][1].agent.day > day:
        _shared.clear()
        capacity = Capacity(free_at_end=free_at_end, days=len(stream))
        agent = Agent(network, capacity=capacity, training=training, seed=seed, device=device)
        _shared[name] = stream, Clock(agent, stream, policy=Remembering(usual, remember), wake=wake, night=night)
    clock = _shared[name][1]
    while clock.agent.day < day:
        clock.step()
    clock.to_dusk()
    asleep = clock.fork(policy=policy)
    asleep.step()
    n_steps = asleep.agent.days[day].night_steps
    assert n_steps is not None  # known, since the day is over
    dusk = asleep.agent.n_steps - n_steps
    prunes = asleep.history.select(kind="prune", day=day)
    return {
        "accuracy": float(asleep.history.accuracy[day, day]),
        "owned": asleep.agent.owned[day],
        "night_steps": n_steps,
        "prunes": [
            [round((prune.step - dusk) / max(1, n_steps), 5), float(f"{prune.density:.5g}")] for prune in prunes
        ],
    }


#: The stream and the clock of the days that the last run of this process shared, by all that these depend on.
_shared: dict[tuple[str, int], tuple[TaskStream, Clock]] = {}
