"""How long `Agent.check` takes for a chain of PyTorch's own modules, with all trials and without those it is spared."""

import argparse
import json
import statistics
import time
from unittest import mock

import torch

from daynight import Agent, Capacity
from daynight.testing import toy_network, toy_stream


def seconds_of(is_plain: bool) -> float:
    """Return the seconds of one check of a new agent, in which `is_plain` says whether its network is such a chain."""
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2))
    task = toy_stream(2)[0]
    with mock.patch("daynight.networks.sequences.is_plain", return_value=is_plain):
        began = time.perf_counter()
        agent.check(task)
        return time.perf_counter() - began


def main() -> None:
    """Take turns, and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30, help="number of checks of each kind")
    n = parser.parse_args().repeats
    torch.set_num_threads(1)
    seconds_of(False), seconds_of(True)  # the first ones import what they need
    pairs = [(seconds_of(False), seconds_of(True)) for _ in range(n)]
    tried, spared = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(json.dumps({"tried_ms": 1e3 * tried, "spared_ms": 1e3 * spared, "ratio": tried / spared, "repeats": n}))


if __name__ == "__main__":
    main()
