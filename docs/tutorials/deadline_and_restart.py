"""
A night with a deadline, and a restart
======================================

A machine that works by day is free to train at night, until it is needed again. Here is a job for it: woken by a timer such
as cron each evening, it learns what the day has brought, sleeps until a deadline, and has a valid agent in time, whatever
happens: a machine that is slower than usual, a crash, a reboot.
"""

# %%
# The job
# -------
#
# One function, which a timer calls once a night. What there is to learn grows day by day; the agent is a file. A real job
# would say ``night=dn.Until("06:30", reserve=60)``; here a night is half a second.

import tempfile
from pathlib import Path

import daynight as dn

folder = Path(tempfile.mkdtemp())
digits = dn.split_mnist(data="sample")


HALF_A_SECOND = dn.Seconds(0.5)


def tonight(n_days, night=HALF_A_SECOND, on_event=()):
    """Learn the last of the tasks that there are by now."""
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
        every=0.05,  # seconds; a real job keeps the usual minute
    )
    clock.run()
    agent.save(path)
    return agent


# %%
# The first evening. How long the night was, and how long its longest step and prune, is in the record of the day.

agent = tonight(1)
day = agent.days[-1]
print(
    f"{day.night_steps} steps in {day.night_seconds:.3f} of {day.budget_seconds:g} s"
)

# %%
# The power fails
# ---------------
#
# The second night is cut off in the midst of a REM. What stands for the failure here is an exception that nobody handles, so
# that nothing is put in order: the next process finds the folder as the last checkpoint has left it.


class PowerFailure(BaseException):
    """Nobody catches this."""


def fail(event):
    if isinstance(event, dn.Progress) and event.phase == "rem" and event.cycle == 7:
        raise PowerFailure


try:
    tonight(2, night=dn.Epochs(12), on_event=fail)
except PowerFailure:
    print("dark.", sorted(path.name for path in (folder / "night_2").iterdir()))

# %%
# The timer calls the job again, and it goes on where the checkpoint was written: not from dusk, and not without what it had
# done. With a budget in epochs, as here, the night ends bit for bit as it would have; a night with a deadline sleeps on for as
# long as there is.

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
# with another at half past one, for a machine that was down: a job that is done finds that out and ends at once. ``flock`` keeps
# two of them from working in one folder.
#
# A slow machine
# --------------
#
# What would a night be on a machine that is ten times as slow, and slower with each step? ``FakeTimer`` simulates one. The
# night is over in time, at the density that is due.

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
# A loss that is not a number, an error in your own code, no memory: the night goes back to the end of its last good cycle and
# is open there. The error says so, the checkpoint is of that state, and there are two ways on.


def broken(event):
    if getattr(event, "kind", "") == "epoch" and event.cycle == 5:
        raise RuntimeError("the disk of the logs is full")


try:
    tonight(4, night=dn.Epochs(12), on_event=broken)
except RuntimeError as error:
    print(error, *getattr(error, "__notes__", []), sep="\n")

agent = tonight(4, night=dn.Epochs(12))  # sleeps on within what is left of the night
agent.verify()
print([f"{n:,}" for n in agent.owned])
