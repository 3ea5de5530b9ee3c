"""
Read a hypnogram
================

A hypnogram shows the phases of a night over time. Here we sleep the same night in four ways, and see in one picture each
what happens to a network that is pruned and retrained.
"""

# %%
# One dusk, four nights
# ---------------------
#
# ``to_dusk`` lives up to the end of a wake. From there a fork for each policy sleeps its own night: they differ in nothing
# else. Little may be kept here, so that it shows.

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
    return dn.History(fork.history.select(day=1))


# %%
# One prune
# ---------
#
# On top are the phases: the wake, and in the shaded night a single NREM at dusk, after which one long REM follows. Below is the
# score on what was held out. It drops to that of a coin, for nearly all that the wake has learnt is gone, and comes back to
# less than what it was. The stairs are the density, on the axis to the right: here one step, from all to a thousandth.

once = slept(dn.OneShot())
dn.plots.hypnogram(once)

# %%
# Eight equal cycles
# ------------------
#
# The same night, in eight cycles. The first prunes cost nothing: what they take was not needed. The last ones do, each a
# little, and are made good at once, as far as time allows.

eight = slept(dn.UniformCycles(8))
dn.plots.hypnogram(eight)

# %%
# Many short ones, and time at the end
# ------------------------------------
#
# Here cycles are short, and the last REM has half of the night. Each prune is a small step, but the steps come faster than the
# network recovers; what they cost is won back at the end, as far as it is, when nothing is taken any more.

many = slept(dn.GradualPruning(24, last=0.5))
dn.plots.hypnogram(many)

# %%
# One that looks
# --------------
#
# :class:`daynight.Controlled` prunes as long as the loss holds, and waits when it does not: NREMs stand close where
# they cost nothing, and further apart where they do.

looks = slept(dn.Controlled(0.02, length=1 / 24))
dn.plots.hypnogram(looks)

# %%
# Loss against density
# --------------------
#
# The same four nights as paths. A prune goes to the right, and up by what it costs; a REM goes down. Where a path ends is all
# that matters at dawn: the lower, the better. One night of one seed says little about which policy is best; :doc:`/choosing`
# asks that of many.

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
        for one in history.select(kind="evaluation", phase="dawn")
        if one.task == 1
    )
    print(
        f"{name}: {len(history.select(kind='prune'))} prunes, test score {dawn.score:.3f}"
    )
