"""
A study with many seeds
=======================

One run is an anecdote. A study is a grid of settings and seeds. Its runs are done in parallel, stored one by one, and
compared seed by seed. The questions here: does it cost accuracy to leave more weights free at the end, and do more
cycles help?
"""

# %%
# A grid
# ------
#
# A method is a function of a stream, a seed and settings; ``packnet`` runs a whole stream with an agent and a clock.
# The grid varies the settings that are given as lists.

import functools
import tempfile

import daynight as dn
from daynight import study

digits = functools.partial(dn.split_mnist, data="sample")
runs = study.grid(
    study.packnet,
    digits,
    seeds=range(4),
    network=functools.partial(dn.models.MLP, 784, 64, 64),
    training=dn.Training(batch_size=32),
    wake=dn.Epochs(2),
    night=dn.Epochs(4),
    free_at_end=[0.98, 0.995],
    policy=[dn.OneShot(), dn.UniformCycles(4)],
)
print(len(runs), "runs")

# %%
# Do it
# -----
#
# Each run is a small text file in the store, named by a digest of everything that determines it: settings, code, data,
# version. You can stop the study anywhere, and the same lines continue it. If you change a policy's code, its runs are
# done again. ``jobs=2`` uses two processes.

store = tempfile.mkdtemp()
results = study.Study(store, jobs=2).run(runs)
for row in results.table(["free_at_end", "policy"], ["mean_accuracy"]):
    print(
        f"{row['free_at_end']}, {row['policy']}: "
        f"{row['mean_accuracy']:.4f} ± {row['mean_accuracy standard error']:.4f}"
    )

# %%
# Compare
# -------
#
# The same seed means the same initial weights, the same order of examples and the same first wake. Differences seed by
# seed are much more certain than differences of means. The interval uses Student's t.

for p in (0.98, 0.995):
    four = results.select(free_at_end=p, policy=dn.UniformCycles(4))
    one = results.select(free_at_end=p, policy=dn.OneShot())
    gain = four.compare(one, "mean_accuracy")
    print(f"{p}: {gain.mean:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f}")

# %%
# Draw
# ----

ax = None
for policy, colour in ((dn.OneShot(), "#c8791b"), (dn.UniformCycles(4), "#3a78b5")):
    own = results.select(policy=policy)
    samples = {
        p: list(group.values("mean_accuracy").values())
        for (p,), group in own.groups("free_at_end").items()
    }
    ax = dn.plots.means(samples, repr(policy), ax=ax, colour=colour)
ax.set_xlabel("free at the end")
ax.set_ylabel("mean accuracy")
ax.legend()

# %%
# ``results.report("study.html", by=["policy", "free_at_end"], values=["mean_accuracy"])`` writes table and figure into
# one file.
#
# On a cluster
# ------------
#
# To run the same study on a Dask cluster, put a context around it. Here the cluster is one thread of this process;
# yours is the address of a scheduler, ``Client("scheduler:8786")``. All runs are in the store already, and none is done
# twice. In the same way, a study that was stopped can continue elsewhere, and results from several machines are merged
# by copying files.

import joblib
from distributed import Client

with (
    Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
    ),
    joblib.parallel_config("dask"),
):
    again = study.Study(store).run(runs)
print(len(again), "runs, none of them done again")
