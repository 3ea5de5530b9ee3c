"""
Write your own policy
=====================

A night is a sequence of cycles: an NREM prunes, and a REM retrains the remaining weights. A policy decides how far
each prune goes and how long each REM lasts. This tutorial writes a policy, looks at its plan, compares it with others
over several seeds, makes one that reacts to measurements, and checks that policies keep the rules.
"""

# %%
# A policy in a few lines
# -----------------------
#
# A policy is a class with one generator method. ``keep`` is the density after a cycle's prune: the fraction of what was
# available at dusk that is left. ``length`` is the cycle's share of the whole night. This one resembles human sleep,
# with REMs that get longer toward morning, and prunes the same share of what is left each time.

import daynight as dn


class TowardMorning(dn.SleepPolicy):
    """N cycles, each of which lasts twice as long as the one before it."""

    def __init__(self, n):
        self.n = n

    def cycles(self, night):
        for i in range(self.n):
            keep = night.dawn_density ** ((i + 1) / self.n)
            yield dn.Cycle(keep=keep, length=2**i / (2**self.n - 1))


# %%
# Look at the night before you train
# ----------------------------------
#
# An agent knows what a night has to reach. ``plan`` asks the policy for all its cycles and checks them. It would raise
# an error here if lengths summed to more than 1, if the density rose, or if the last cycle missed the dawn density.

stream = dn.split_mnist(data="sample").hold_out(0.2)
agent = dn.Agent(
    lambda: dn.models.MLP(784, 64, 64),
    capacity=dn.Capacity(free_at_end=0.95, days=len(stream)),
    training=dn.Training(batch_size=32),
    seed=0,
)
night = agent.night(stream[0], dn.Epochs(12))
plan = TowardMorning(4).plan(night)
for cycle in plan:
    print(f"prune down to {cycle.keep:.4f}, then {12 * cycle.length:.1f} epochs")
dn.plots.plan(plan)

# %%
# Run it
# ------

clock = dn.Clock(
    agent, stream, policy=TowardMorning(4), wake=dn.Epochs(6), night=dn.Epochs(12)
)
history = clock.run(until=2)
print(history.accuracy.round(3))
dn.plots.hypnogram(history)

# %%
# Is it any good?
# ---------------
#
# One run says little: seeds differ by more than policies do. :mod:`daynight.study` does the same runs with several
# seeds and compares seed by seed. While you design a policy, do not judge it by test data: ``held_out`` returns a
# stream whose test data are a part of its training data.

import functools
import tempfile

from daynight import study
from daynight.study.nights import held_out
from daynight.testing import check_policy

digits = functools.partial(dn.split_mnist, data="sample")
practice = functools.partial(held_out, digits, 0.3)
policies = {
    "one prune": dn.OneShot(),
    "four equal cycles": dn.UniformCycles(4),
    "toward morning": TowardMorning(4),
}
results = study.Study(tempfile.mkdtemp()).run(
    study.grid(
        study.packnet,
        practice,
        seeds=range(3),
        network=functools.partial(dn.models.MLP, 784, 64, 64),
        training=dn.Training(batch_size=32),
        free_at_end=0.98,
        wake=dn.Epochs(6),
        night=dn.Epochs(12),
        policy=list(policies.values()),
    )
)
once = results.select(policy=policies["one prune"])
for name, policy in policies.items():
    own = results.select(policy=policy)
    accuracy, gain = own.summary("mean_accuracy"), own.compare(once, "mean_accuracy")
    interval = f"[{gain.low:+.3f}, {gain.high:+.3f}]"
    print(f"{name}: {accuracy.mean:.3f}, {gain.mean:+.3f} {interval} over one prune")

# %%
# Three seeds on 5,000 digits give wide intervals. :doc:`/choosing` asks the same question with ten seeds, on all of
# MNIST.
#
# React to what you see
# ---------------------
#
# ``night = yield Cycle(...)`` returns the state of the night after that cycle: its density, what is left of the budget,
# and the loss and score on the validation split. This policy halves the density for as long as the score holds.


class Careful(dn.SleepPolicy):
    """Halves the density until the score falls too far below the score at dusk."""

    def __init__(self, tolerance):
        self.tolerance = tolerance

    def cycles(self, night):
        least = night.score - self.tolerance
        while night.score > least and night.density / 2 > night.dawn_density:
            night = yield dn.Cycle(keep=night.density / 2, length=night.left / 4)
        yield dn.Cycle(keep="dawn", length=night.left)


careful = dn.Agent(
    lambda: dn.models.MLP(784, 64, 64),
    capacity=dn.Capacity(free_at_end=0.95, days=len(stream)),
    training=dn.Training(batch_size=32),
    seed=0,
)
clock = dn.Clock(
    careful, stream, policy=Careful(0.02), wake=dn.Epochs(6), night=dn.Epochs(12)
)
for record in clock.run(until=2).select(kind="prune"):
    score = record.validation_score
    print(
        f"day {record.day}, step {record.step}: {record.density:.4f} kept, score {score:.3f}"
    )

# %%
# Change one that there is
# ------------------------
#
# Wrappers change the cycles of another policy, whatever they are. Here the learning rate falls over each REM. To write
# your own wrapper, subclass :class:`daynight.Around`.

falling = dn.Rated(TowardMorning(4), dn.rates.Linear(1.0, 0.0))
dn.plots.plan(falling.plan(night))

# %%
# Does it keep the rules?
# -----------------------
#
# ``check_policy`` asks for nights of all kinds: shorter than the policy has cycles, in seconds on a machine that gets
# slower, with losses that never recover. It names the first rule that is broken. Put it in your tests.


for policy in (TowardMorning(4), Careful(0.02), falling):
    check_policy(policy)


class Wasteful(TowardMorning):
    """Forgets that lengths are shares of the whole night."""

    def cycles(self, night):
        for cycle in super().cycles(night):
            yield dn.Cycle(keep=cycle.keep, length=0.5)


try:
    check_policy(Wasteful(4))
except dn.errors.PolicyError as error:
    print(error)
