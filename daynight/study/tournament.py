"""The tournament of sleep policies."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import attrs
from torch import nn

from daynight.agent import Agent
from daynight.capacity import Capacity
from daynight.clock import Clock
from daynight.policies import SleepPolicy
from daynight.schedule import Budget
from daynight.study.methods import Outcome, at_dusk
from daynight.tasks import TaskStream
from daynight.training import Training


def held_out(stream: Callable[[], TaskStream], fraction: float) -> TaskStream:
    """Give a stream whose test data are a part of its training data, so that what is designed sees no others.

    Args:
        stream: Gives the stream.
        fraction: Share of the training data of each task that is held out, above 0 and below 1.
    """
    whole = stream()
    held = [(task, task.hold_out(fraction).splits()) for task in whole]
    return TaskStream(
        [attrs.evolve(task, train=splits["train"], test=splits["validation"]) for task, splits in held],
        f"{whole.source}, judged on {fraction:.3g} of the training data",
    )


def first_night(
    stream: TaskStream,
    *,
    seed: int,
    task: int,
    network: Callable[[], nn.Module],
    free_at_end: float,
    wake: Budget,
    night: Budget,
    policy: SleepPolicy,
    training: Training,
    state: Path | None = None,
) -> Outcome:
    """Learn one task of a stream as if it were its first, and sleep once: the night of `packnet`'s day 0.

    Nights of many policies share the wake, so that a look at one of them costs no more than the night.

    Args:
        stream: The tasks.
        seed: The agent's.
        task: Index of the task, from 0.
        network: Makes the network.
        free_at_end: p of a life with all tasks, which says what this night must keep.
        wake: Budget of the wake.
        night: Budget of the night.
        policy: Lays it out.
        training: How the task is learnt.
        state: A file beside which the dusk is put by.
    """
    capacity = Capacity(free_at_end=free_at_end, days=len(stream))
    new_clock = functools.partial(Clock, stream=stream[task : task + 1], policy=policy, wake=wake, night=night)
    new_agent = functools.partial(Agent, network, capacity=capacity, training=training, seed=seed)
    dusk = at_dusk(new_agent, new_clock, stream, ["first night", task, network, wake, training, seed], state)
    clock = dusk.fork(policy=policy, night=night, capacity=capacity)
    history = clock.run()
    return {"accuracy": float(history.accuracy[0, 0]), "owned": sum(clock.agent.owned), "n_steps": clock.agent.n_steps}
