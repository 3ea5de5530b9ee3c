"""
Retrain a forecaster every night
================================

A forecaster that is retrained only on the newest data forgets what it knew. One that is retrained on all data takes
longer every night. In this tutorial, an agent learns a real series period by period, in nights of a fixed length, and
keeps every earlier forecaster as it was: what was reported can be computed again, bit for bit.
"""

# %%
# The series
# ----------
#
# Weekly carbon dioxide at Mauna Loa in ppm, 1958 to 2001, as the package statsmodels ships it. Gaps are filled
# linearly.

import daynight as dn
import numpy as np
import torch
from statsmodels.datasets import co2

series = co2.load_pandas().data["co2"].interpolate().to_numpy()
print(f"{len(series)} weeks, from {series.min():.0f} to {series.max():.0f} ppm")

# %%
# Tasks
# -----
#
# The task is to predict the next 4 weeks from the last 52, all measured from the last known value. Each period of eight
# years is the task of one day: its first seven years are for training, the last one for testing. The training data
# contain nothing of the future.

WEEKS, AHEAD, PERIOD = 52, 4, 8 * 52


def windows(values):
    rows = np.lib.stride_tricks.sliding_window_view(values, WEEKS + AHEAD)
    known, next_ones = rows[:, :WEEKS], rows[:, WEEKS:]
    last = known[:, -1:]
    return (
        torch.tensor(known - last, dtype=torch.float32),
        torch.tensor(next_ones - last, dtype=torch.float32),
    )


tasks = []
for begin in range(0, len(series) - PERIOD + 1, PERIOD):
    period = series[begin : begin + PERIOD]
    learn, test = period[: -WEEKS - AHEAD], period[-2 * WEEKS :]
    tasks.append(
        dn.Task(
            train=windows(learn),
            test=windows(test),
            n_outputs=AHEAD,
            name=f"{begin // PERIOD}",
        )
    )
stream = dn.TaskStream(tasks)
print(
    f"{len(stream)} periods: {len(stream[0].train)} to learn, {len(stream[0].test)} to test in each"
)

# %%
# The forecaster
# --------------
#
# Its metric is the root mean squared error in ppm. The policy has many short cycles, and each night has 600 steps.


def error(outputs, targets):
    return float((outputs - targets).square().mean().sqrt())


class Forecaster(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(WEEKS, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 64),
            torch.nn.ReLU(),
        )
        self.head = torch.nn.Linear(64, AHEAD)

    def forward(self, inputs):
        return self.head(self.body(inputs))


def agent(**settings):
    return dn.Agent(
        Forecaster,
        capacity=dn.Capacity(free_at_end=0.5, days=len(stream)),
        training=dn.Training(batch_size=32, metric=error),
        **settings,
    )


def lived(one):
    clock = dn.Clock(
        one,
        stream,
        policy=dn.GradualPruning(12, last=0.4),
        wake=dn.Steps(600),
        night=dn.Steps(600),
    )
    return clock.run()


# %%
# Five nights, three ways
# -----------------------
#
# The three ways are the agent; an agent whose weights are all trained further on the newest period alone, as in plain
# retraining; and a rule without a network, by which the next weeks rise and fall as they did a year ago.

kept, newest = agent(), agent(consolidation="fine-tune")
history, retrained = lived(kept), lived(newest)


def a_year_ago(task):
    known, next_ones = task.test.load()
    guess = known[:, :AHEAD] - known[:, :1]
    return error(guess, next_ones)


print("period    agent  newest  a year ago   (error at the period's own dawn, ppm)")
for index, task in enumerate(stream):
    print(
        f"{index:>6} {history.accuracy[index, index]:8.3f} {retrained.accuracy[index, index]:7.3f} "
        f"{a_year_ago(task):11.3f}"
    )

# %%
# What becomes of the old ones
# ----------------------------
#
# The figures show the error of each period's forecaster at each dawn. A column of the agent's does not change.
# Retraining on the newest data changes all earlier forecasters.

dn.plots.accuracy(history).set_title("agent: error, ppm", fontsize="medium")

# %%

dn.plots.accuracy(retrained).set_title(
    "newest data alone: error, ppm", fontsize="medium"
)

# %%
# Which of them to ask
# --------------------
#
# On the newest period, each of the agent's forecasters can be tried. That is what they were kept for.

latest = stream[len(stream) - 1]
inputs, targets = latest.test.load()
for index in range(len(stream)):
    print(
        f"forecaster of period {index}: {error(kept.predict(inputs, index), targets):.3f} ppm"
    )
kept.verify()
print(
    f"{kept.n_free / kept.n_weights:.0%} of the weights are free for the years to come"
)
