"""
A night with a deadline, and a restart
======================================

A machine that works by day is free to train at night, until it is needed again. This tutorial is a job for such a
machine. A timer such as cron starts it each evening. It learns the data of the day, sleeps until a deadline, and has
a valid agent in time, whatever happens: a machine that is slower than usual, a crash, a reboot.
"""

# %%
# The job
# -------
#
# The job is one function, which a timer calls once a night. The number of tasks grows day by day; the agent is a file.
# A real job would use ``night=dn.Until("06:30", reserve=60)``; here a night is half a second.

import tempfile
from pathlib import Path

import daynight as dn
from daynight.loggers import log_night

folder = Path(tempfile.mkdtemp())
digits = dn.split_mnist(data="sample")


HALF_A_SECOND = dn.Seconds(0.5)


def tonight(n_days, night=HALF_A_SECOND, on_event=()):
    """Learn the newest of the first `n_days` tasks."""
    path = folder / "agent.dn"
    if path.exists():
        agent = dn.Agent.load(path)
    else:
        agent = dn.Agent(
            lambda: dn.models.MLP(784, 64, 64),
            capacity=dn.Capacity(keep_per_night=0.02),
            training=dn.Training(batch_size=32),
        )
    clock = dn.Clock(
        agent,
        digits[:n_days],
        policy=dn.GradualPruning(12, last=0.4),
        wake=dn.Epochs(4),
        night=night,
        on_event=on_event,
        checkpoint=folder / f"night_{n_days}",
        every=0.05,  # seconds; a real job keeps the default, a minute
    )
    clock.run()
    log_night(folder / "nights.csv", clock)
    agent.save(path)
    return agent


# %%
# The first evening. The record of the day has the duration of the night, and of its longest step and prune.

agent = tonight(1)
day = agent.days[-1]
print(
    f"{day.night_steps} steps in {day.night_seconds:.3f} of {day.budget_seconds:g} s"
)

# %%
# The power fails
# ---------------
#
# The second night is cut off during a REM. An exception that is not caught simulates the power failure. It leaves no
# time to clean up: the next process finds the folder as the last checkpoint left it.


class PowerFailure(BaseException):
    """An exception that is not caught."""


def fail(event):
    if isinstance(event, dn.Progress) and event.phase == "rem" and event.cycle == 7:
        raise PowerFailure


try:
    tonight(2, night=dn.Epochs(12), on_event=fail)
except PowerFailure:
    print("dark.", sorted(path.name for path in (folder / "night_2").iterdir()))

# %%
# The timer calls the job again, and it resumes where the checkpoint was written: not from dusk, and without losing the
# work up to then. With a budget in epochs, as here, the night ends bit for bit as it would have; a night with a
# deadline continues for as long as there is time.

agent = tonight(2, night=dn.Epochs(12))
print(
    f"day 1: {agent.days[1].night_steps} steps of the night, {agent.owned} weights owned"
)

# %%
# In a crontab, this is a line such as
#
# .. code-block:: sh
#
#    30 22 * * *  cd /srv/agent && flock -n job.lock python tonight.py
#
# with another one at half past one, for a machine that was down. A job that is done notices this and ends at once.
# ``flock`` prevents two jobs from working in one folder.
#
# A slow machine
# --------------
#
# How would a night go on a machine that is ten times as slow, and gets slower with each step? ``FakeTimer`` simulates
# one. The night ends on time, at the required density.

from daynight.testing import FakeTimer

slow = FakeTimer(step_seconds=lambda n: 0.02 + 0.001 * n, prune_seconds=0.2)
agent = tonight(3, night=dn.Seconds(5, timer=slow))
day = agent.days[-1]
print(
    f"{day.night_steps} steps in {day.night_seconds:.2f} of {day.budget_seconds:g} simulated s"
)

# %%
# Something goes wrong
# --------------------
#
# After an error (a loss that is not a number, an error in your own code, out of memory), the night returns to the end
# of its last good cycle and stays open there. The error says so, the checkpoint has that state, and there are two ways
# to continue.


def broken(event):
    if getattr(event, "kind", "") == "epoch" and event.cycle == 5:
        raise RuntimeError("the disk of the logs is full")


try:
    tonight(4, night=dn.Epochs(12), on_event=broken)
except RuntimeError as error:
    print(error, *getattr(error, "__notes__", []), sep="\n")

agent = tonight(4, night=dn.Epochs(12))  # continues with what is left of the night
agent.verify()
print([f"{n:,}" for n in agent.owned])

# %%
# The log has one line for each night, also for those that were cut off.

print((folder / "nights.csv").read_text())
