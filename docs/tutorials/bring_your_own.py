"""
Bring your own network and data
===============================

Nothing in daynight is specific to digits. A network is any PyTorch module, and a task is any pair of training and
test examples. This tutorial uses a small convolutional network with batch normalisation and three tasks of our own:
two of them are classification, and one is regression. It also uses a loss and a metric of our own.
"""

# %%
# Data: pairs of tensors, or torch datasets
# -----------------------------------------
#
# The inputs are signals of two channels, with a wave in each. The first task is which wave is faster, the second is
# whether they run together or against each other, and the third is the frequency of the first wave.

import math

import daynight as dn
import torch


def signals(n, seed):
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, 64)
    frequency = 2 + 6 * torch.rand(n, 2, generator=generator)
    sign = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    waves = torch.sin(2 * math.pi * frequency[:, :, None] * time)
    waves[:, 1] *= sign[:, None]
    return (
        waves + 0.1 * torch.randn(waves.shape, generator=generator),
        frequency,
        sign,
    )


inputs, frequency, sign = signals(1200, seed=0)
train, test = slice(0, 1000), slice(1000, None)


def task(name, targets, n_outputs):
    return dn.Task(
        train=(inputs[train], targets[train]),
        test=(inputs[test], targets[test]),
        n_outputs=n_outputs,
        name=name,
    )


faster = (frequency[:, 0] > frequency[:, 1]).long()
stream = dn.TaskStream(
    [
        task("which is faster", faster, 2),
        task("together or against", (sign > 0).long(), 2),
        task("frequency", frequency[:, :1], 1),
    ]
).hold_out(0.2)

# %%
# Whole numbers are class labels, and floating-point targets of shape (n, outputs) are regression. For a task that is
# larger than memory, use a :class:`daynight.LazyDataset`.
#
# A network: your module, as it is
# --------------------------------
#
# The last linear layer is the head; each task gets its own. Weights of linear and convolution layers are masked.
# Everything else is kept per task: here the parameters and statistics of the batch norm layers. :doc:`/networks` has
# the full table.


class Waves(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv1d(2, 24, 9, stride=2), torch.nn.BatchNorm1d(24), torch.nn.ReLU(),
            torch.nn.Conv1d(24, 48, 7, stride=2), torch.nn.BatchNorm1d(48), torch.nn.ReLU(),
        )  # fmt: skip
        self.head = torch.nn.Linear(48 * 11, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs).flatten(1))


# %%
# Training: your optimizer, loss and metric
# -----------------------------------------
#
# Factories create a new optimizer and scheduler for each phase. Your own loss and metric receive (outputs, targets);
# here they are called for both kinds of task.


def loss(outputs, targets):
    if targets.is_floating_point():
        return torch.nn.functional.smooth_l1_loss(outputs, targets)
    return torch.nn.functional.cross_entropy(outputs, targets)


def closeness(outputs, targets):
    if targets.is_floating_point():
        return float(((outputs - targets).abs() < 0.5).float().mean())
    return float((outputs.argmax(1) == targets).float().mean())


training = dn.Training(
    batch_size=50,
    optimizer=lambda parameters: torch.optim.AdamW(
        parameters, lr=3e-3, weight_decay=1e-3
    ),
    scheduler=torch.optim.lr_scheduler.CosineAnnealingLR,
    loss=loss,
    metric=closeness,
    clip_norm=1.0,
)

# %%
# Before training starts, every task is tried with network, loss, metric and optimizer, and all nights are planned.
# Anything that does not fit is reported at once.

wrong = dn.Agent(
    dn.models.MLP(100, 32), capacity=dn.Capacity(free_at_end=0.7, days=3)
)
try:
    wrong.check(stream[0])
except dn.errors.NetworkError as error:
    print(error)

# %%
# Live
# ----

agent = dn.Agent(
    Waves, capacity=dn.Capacity(free_at_end=0.7, days=3), training=training, seed=1
)
clock = dn.Clock(
    agent, stream, policy=dn.UniformCycles(4), wake=dn.Epochs(8), night=dn.Epochs(12)
)
history = clock.run()
for index, one in enumerate(stream):
    dusk, dawn = (
        history.scores("dusk")[index, index],
        history.scores("dawn")[-1, index],
    )
    print(f"{one.name}: {dusk:.3f} at its dusk, {dawn:.3f} at the end")
dn.plots.ownership(agent)

# %%
# One task for other programs
# ---------------------------
#
# The network of one task can be taken out as a plain module, and as a smaller one if it is a chain of layers.

module = agent.subnetwork(2)
print(module(inputs[test][:3]).detach().squeeze(), frequency[test][:3, 0])
print([f"{size.part}: {size.n_bytes:,} bytes" for size in agent.sizes()])
