"""How many optimizer steps a short night in seconds has with policies of many cycles, compared with one prune.

A small convolutional network on the first task of split MNIST (the sample). The task is used twice: without a
validation split, and with half of it held out, so that each prune is followed by a measurement. All nights begin at the
same dusk; in brackets are the optimizer steps divided by those with one prune. Takes 4 minutes.

    python benchmarks/short_nights.py
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import nn

import daynight as dn

POLICIES = {"one prune": dn.OneShot(), "uniform 8": dn.UniformCycles(8), "recommended": dn.recommended_policy()}


def network() -> nn.Module:
    """Return a network with two convolutions and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 32), nn.ReLU(), nn.Linear(32, 2),
    )  # fmt: skip


def main() -> None:
    """Run nights of each length with each policy, and print their steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[2.0, 5.0], metavar="S", help="lengths (2 5)")
    parser.add_argument("--nights", type=int, default=5, metavar="N", help="nights of each length and policy (5)")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    stream = dn.split_mnist(data="sample")
    for held_out in (False, True):
        agent = dn.Agent(network, capacity=dn.Capacity(keep_per_night=0.05), training=dn.Training(batch_size=32))
        task = (stream.hold_out(0.5) if held_out else stream)[0]
        agent.wake(task, dn.Steps(20))
        for seconds in settings.seconds:
            taken: dict[str, list[int]] = {name: [] for name in POLICIES}
            for _ in range(settings.nights):
                for name, policy in POLICIES.items():
                    sleeper = agent.fork()
                    sleeper.sleep(policy, dn.Seconds(seconds))
                    taken[name].append(sleeper.days[0].night_steps or 0)
            n_steps = {name: statistics.median(values) for name, values in taken.items()}
            told = ", ".join(f"{name} {n:g} ({n / n_steps['one prune']:.2f})" for name, n in n_steps.items())
            print(f"{seconds:g} s, {'half held out' if held_out else 'nothing held out'}: {told}", flush=True)


if __name__ == "__main__":
    main()
