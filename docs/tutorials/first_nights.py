"""
First nights on MNIST
=====================

Five days, two digits a day. Each day an agent learns to tell two digits apart, with all weights that are free. Each
night it prunes most of them away again, and what is left is the day's task's for good. Here we live these days, and look
at what has been learnt, what it has cost, and whether anything is forgotten.
"""

# %%
# A stream of tasks, and an agent
# -------------------------------
#
# ``split_mnist`` gives five tasks. Without ``data="sample"`` it takes all of MNIST. ``hold_out`` keeps a part of the
# training images to look at in between, so that no picture is drawn from test data.

import daynight as dn

stream = dn.split_mnist(data="sample").hold_out(0.2)
for task in stream:
    print(f"{task.name}: {len(task.train)} images to learn, {len(task.test)} to test")

# %%
# An agent owns a network and a capacity: here, 95 % of all weights must still be free after the fifth night. It trains
# with the study's optimizer (Adam, 1e-3) unless :class:`daynight.Training` says otherwise.

agent = dn.Agent(
    lambda: dn.models.MLP(784, 64, 64),
    capacity=dn.Capacity(free_at_end=0.95, days=len(stream)),
    training=dn.Training(batch_size=32),
    seed=0,
)
print(f"{agent.n_weights:,} weights, of which each night may keep about 1 %")

# %%
# One day
# -------
#
# A clock drives the days. A wake of 6 epochs, then a night of 12 that is laid out in four equal cycles: prune, retrain,
# prune, retrain, ... ``step`` is one day.

clock = dn.Clock(
    agent, stream, policy=dn.UniformCycles(4), wake=dn.Epochs(6), night=dn.Epochs(12)
)
clock.step()
for record in clock.history.select(kind="prune", day=0):
    print(
        f"cycle {record.cycle}: kept {record.owned:,} weights ({record.density:.2%})"
    )

# %%
# The picture of it is a hypnogram: awake on top, REM (retraining) below, NREM (a prune) at the bottom, and under it the
# score on what was held out. It falls when too much is taken at once, and comes back as what is left is retrained. The
# stairs are the density, the fraction of the weights that is left.

dn.plots.hypnogram(clock.history)

# %%
# The other four
# --------------

before = agent.predict(stream[0].test.inputs, task=0)
history = clock.run()
dn.plots.capacity(history)

# %%
# Is anything forgotten?
# ----------------------
#
# Each row of this matrix is a dawn, each column a task. A column never changes: what a task owns is frozen, and what comes
# later is not seen by it. Not even a bit of its predictions moves.

dn.plots.accuracy(history)

# %%

same = (agent.predict(stream[0].test.inputs, task=0) == before).all()
print(f"The first task's outputs are bit for bit what they were: {bool(same)}")
agent.verify()  # compares all that the tasks use with their seals, and raises if something moved

# %%
# Keep it
# -------
#
# One file holds the agent. It lives on from there, elsewhere or another day. :doc:`/files` has more on it, and
# :doc:`/quickstart` on what else can be said.

import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
agent.save(folder / "agent.dn")
history.report(folder / "report.html", title="First nights")
print(sorted(path.name for path in folder.iterdir()))
print(dn.Agent.load(folder / "agent.dn").owned)
