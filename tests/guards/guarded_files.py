"""An agent's file and a checkpoint in the middle of a REM, as the code of version 0.1.0.dev0 wrote them.

    python tests/guards/guarded_files.py

wrote them, before the package was laid out anew. They stay as they are: later code must be able to read them.
"""

import shutil
import sys
import time
from pathlib import Path

import daynight as dn
from daynight.testing import toy_stream

AGENT = Path(__file__).with_name("agent.dn")
CHECKPOINT = Path(__file__).with_name("checkpoint")
DAYS = 3


class Killed(BaseException):
    """Stands for the end of the process: nobody catches it."""


def stream():
    """Make the tasks of both files."""
    return toy_stream(DAYS, n_train=200).hold_out(0.2)


def agent():
    """Make the agent of both files."""
    return dn.Agent(
        lambda: dn.models.MLP(6, 8, 8), capacity=dn.Capacity(free_at_end=0.6, days=DAYS),
        training=dn.Training(batch_size=16, carry_optimizer=True), restart="keep", criterion=dn.criteria.movement,
        seed=3,
    )  # fmt: skip


def clock(own, folder=None, hook=()):
    """Make the clock of both files."""
    policy = dn.Rated(dn.Rewound(dn.UniformCycles(3), 0.5), dn.rates.Cosine(1.0, 0.1))
    return dn.Clock(
        own, stream(), policy=policy, wake=dn.Epochs(2), night=dn.Epochs(9), on_event=hook, checkpoint=folder, every=0
    )


def write():
    """Write both files."""
    whole = clock(agent())
    whole.run(until=2)
    whole.agent.save(AGENT)

    heard = []

    def kill(event):
        # At each progress event there is a checkpoint, before hooks hear of it, if the last one is long enough ago.
        if isinstance(event, dn.Progress) and (event.day, event.phase, event.cycle) == (1, "rem", 1):
            time.sleep(2)
            heard.append(event)
            if len(heard) == 2:
                raise Killed

    shutil.rmtree(CHECKPOINT, ignore_errors=True)
    try:
        clock(agent(), CHECKPOINT, kill).run()
    except Killed:
        return
    raise AssertionError("it was not killed")


if __name__ == "__main__":
    sys.exit(write())
