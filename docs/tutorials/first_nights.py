"""
First nights on MNIST
=====================

Five days, two digits a day. Each day an agent learns to tell two digits apart, with all weights that are free. Each
night it prunes most of these weights; the remaining ones belong to the day's task for good. This tutorial runs these
days and shows what was learnt, how many weights it took, and whether anything is forgotten.
"""

# %%
# A stream of tasks, and an agent
# -------------------------------
#
# ``split_mnist`` returns five tasks. Without ``data="sample"`` it uses all of MNIST. ``hold_out`` sets a part of the
# training images aside as validation data, so that no figure is drawn from test data.

import daynight as dn

stream = dn.split_mnist(data="sample").hold_out(0.2)
for task in stream:
    print(f"{task.name}: {len(task.train)} images to learn, {len(task.test)} to test")

# %%
# An agent owns a network and a capacity: here, 95 % of all weights must still be free after the fifth night. It trains
# with the paper's optimizer (Adam, 1e-3) unless :class:`daynight.Training` says otherwise.

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
# A clock runs the days. Each day has a wake of 6 epochs, and then a night of 12 epochs in four equal cycles: prune,
# retrain, prune, retrain, ... ``step`` runs one day.

clock = dn.Clock(
    agent, stream, policy=dn.UniformCycles(4), wake=dn.Epochs(6), night=dn.Epochs(12)
)
clock.step()
for record in clock.history.select(kind="prune", day=0):
    print(
        f"cycle {record.cycle}: kept {record.owned:,} weights ({record.density:.2%})"
    )

# %%
# This figure is a hypnogram. At the top is the wake, below it REM (retraining), and at the bottom NREM (a prune). The
# lower axes show the score on the held-out data. It falls when too much is pruned at once, and recovers as the
# remaining weights are retrained. The stairs are the density, the fraction of the weights that is left.

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
# Each row of this matrix is a dawn, each column a task. A column never changes: the weights of a task are frozen, and
# it does not see weights that are added later. Not even a bit of its predictions changes.

dn.plots.accuracy(history)

# %%

same = (agent.predict(stream[0].test.inputs, task=0) == before).all()
print(f"The first task's outputs are bit for bit what they were: {bool(same)}")
agent.verify()  # raises if anything that the tasks use differs from their seals

# %%
# Keep it
# -------
#
# One file holds the agent. It can continue from there, on another machine or another day. :doc:`/files` explains files,
# and :doc:`/quickstart` has more on the rest.

import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
agent.save(folder / "agent.dn")
history.report(folder / "report.html", title="First nights")
print(sorted(path.name for path in folder.iterdir()))
print(dn.Agent.load(folder / "agent.dn").owned)
