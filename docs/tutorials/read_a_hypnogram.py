"""
Read a hypnogram
================

A hypnogram shows the phases of a night over time. This tutorial runs the same night with four policies. Each figure
shows what happens to a network that is pruned and retrained.
"""

# %%
# One dusk, four nights
# ---------------------
#
# ``to_dusk`` runs the clock up to the end of a wake. From there, one fork for each policy runs its own night: the forks
# differ in nothing else. Only few weights may be kept here, so that the effects are visible.

import daynight as dn
import matplotlib.pyplot as plt

stream = dn.split_mnist(data="sample").hold_out(0.3)
agent = dn.Agent(
    lambda: dn.models.MLP(784, 128, 128),
    capacity=dn.Capacity(free_at_end=0.995, days=len(stream)),
    training=dn.Training(batch_size=32),
    seed=0,
)
clock = dn.Clock(
    agent, stream, policy=dn.OneShot(), wake=dn.Epochs(8), night=dn.Epochs(24)
)
clock.run(until=1)
clock.to_dusk()


def slept(policy):
    fork = clock.fork(policy=policy)
    fork.step()
    return fork.history


# %%
# One prune
# ---------
#
# The upper axes show the phases: the wake, and in the shaded night a single NREM at dusk, followed by one long REM. The
# lower axes show the accuracy on the held-out data. It drops to that of a coin toss, because nearly all that was learnt
# in the wake is gone, and recovers to less than what it was. The stairs are the density, on the right axis: here one
# step, from all weights to a thousandth.

once = slept(dn.OneShot())
dn.plots.hypnogram(once, day=1)

# %%
# Eight equal cycles
# ------------------
#
# The same night, in eight cycles. The first prunes cost nothing: the weights that they remove were not needed. The last
# ones cost a little each, and that is recovered at once, as far as time allows.

eight = slept(dn.UniformCycles(8))
dn.plots.hypnogram(eight, day=1)

# %%
# Many short ones, and time at the end
# ------------------------------------
#
# Here the cycles are short, and the last REM takes half of the night. Each prune is a small step, but the steps come
# faster than the network recovers. What they cost is recovered at the end, as far as possible, when nothing more is
# pruned.

many = slept(dn.GradualPruning(24, last=0.5))
dn.plots.hypnogram(many, day=1)

# %%
# One that looks
# --------------
#
# :class:`daynight.Controlled` prunes as long as the loss stays within a tolerance, and waits otherwise: NREMs are
# close together where they cost nothing, and further apart where they do.

looks = slept(dn.Controlled(0.02, length=1 / 24))
dn.plots.hypnogram(looks, day=1)

# %%
# Loss against density
# --------------------
#
# The same four nights as paths. A prune moves to the right, and up by what it costs; a REM moves down. Only the end of
# a path matters at dawn: the lower, the better. One night of one seed says little about which policy is best;
# :doc:`/choosing` asks that question with many nights and seeds.

figure, axes = plt.subplots(
    2, 2, figsize=(8, 6), sharex=True, sharey=True, layout="constrained"
)
nights = {
    "one prune": once,
    "eight cycles": eight,
    "many short": many,
    "looks": looks,
}
for ax, (name, history) in zip(axes.flat, nights.items(), strict=True):
    dn.plots.descent(history, day=1, ax=ax)
    ax.set_title(name)

# %%
# In numbers
# ----------

for name, history in nights.items():
    (dawn,) = (
        one
        for one in history.select(kind="evaluation", phase="dawn", day=1)
        if one.task == 1
    )
    print(
        f"{name}: {len(history.select(kind='prune', day=1))} prunes, test accuracy {dawn.score:.3f}"
    )
