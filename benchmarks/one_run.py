"""One run of one method in its own process, started by `speed.py`; the result goes to standard output.

``python benchmarks/one_run.py '{"method": "plain", "data": "full", "p": 0.99, "rounds": 1, "epochs": 1,
"budget": 1, "seed": 0, "engine": "auto"}'`` prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

import avalanche_packnet
import floor
import machine
import plain_loop
import torch

import daynight as dn

METHODS = ("daynight", "plain", "avalanche", "avalanche-tensors", "floor")


def main() -> None:
    """Do the run that the first argument describes, and print what was measured."""
    setting = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    stream = dn.split_mnist(data=setting["data"])
    _warm_up()
    before = machine.resident_bytes()
    measured = measure(setting["method"], stream, setting)
    peak = machine.peak_bytes()
    about = machine.describe()
    print(json.dumps({**measured, "peak_bytes": peak, "bytes_before": before, "machine": about}))


def measure(
    method: Literal["daynight", "plain", "avalanche", "avalanche-tensors", "floor"],
    stream: dn.TaskStream,
    setting: Mapping[str, Any],
) -> dict[str, object]:
    """Run a method.

    Args:
        method: One of `METHODS`.
        stream: The tasks.
        setting: Values of p, rounds, epochs, budget, seed and engine.

    Returns:
        ``wakes`` and ``rems``, the seconds and epochs of each stretch of training; ``seconds`` of the whole
        run; ``accuracy`` on each task's test data at the end; ``free_fraction``.
    """
    p, rounds, epochs, budget, seed = (setting[name] for name in ("p", "rounds", "epochs", "budget", "seed"))
    capacity = dn.Capacity(free_at_end=p, days=len(stream))
    if method == "daynight":
        return _daynight(stream, capacity, setting)
    if method == "plain":
        return plain_loop.run(stream, capacity, rounds, epochs, budget, seed)
    if method == "avalanche":
        return avalanche_packnet.run(os.environ["DAYNIGHT_DATA"], p, round(epochs), round(budget), seed)
    if method == "avalanche-tensors":
        tasks = [(plain_loop.load(task.train), plain_loop.load(task.test)) for task in stream]
        return avalanche_packnet.run(tasks, p, round(epochs), round(budget), seed)
    return floor.run(task.train.load()[0].flatten(1) for task in stream)


def _daynight(stream: dn.TaskStream, capacity: dn.Capacity, setting: Mapping[str, Any]) -> dict[str, object]:
    """Run daynight without a `Clock`, which would evaluate twice a day: all methods evaluate once, at the end."""
    records: list[dn.Record] = []

    def remember(event: dn.Record | dn.Progress) -> None:
        if isinstance(event, dn.Record):
            records.append(event)

    began = time.perf_counter()
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256),
        capacity=capacity,
        training=dn.Training(batch_size=plain_loop.BATCH_SIZE, engine=setting["engine"]),
        seed=setting["seed"],
    )
    for task in stream:
        agent.wake(task, dn.Epochs(setting["epochs"]), remember)
        agent.sleep(dn.UniformCycles(setting["rounds"]), dn.Epochs(setting["budget"]), remember)
    accuracy = [agent.evaluate(task, index)[1] for index, task in enumerate(stream)]
    seconds = time.perf_counter() - began
    steps_per_epoch = [agent.training.steps_per_epoch(task) for task in stream]
    return {
        "seconds": seconds,
        "wakes": _stretches(records, "wake", steps_per_epoch),
        "rems": _stretches(records, "rem", steps_per_epoch),
        "accuracy": accuracy,
        "free_fraction": agent.n_free / agent.n_weights,
    }


def _stretches(records: list[dn.Record], phase: str, steps_per_epoch: list[int]) -> list[tuple[float, float]]:
    """Return (seconds, epochs) between the ends of epochs; records count seconds from the start of their phase."""
    found = []
    before, last_step = None, 0
    for record in records:
        if record.kind == "epoch" and record.phase == phase:
            goes_on = before is not None and (before.day, before.cycle) == (record.day, record.cycle)
            elapsed = record.elapsed_seconds or 0.0
            since = (before.elapsed_seconds or 0.0) if goes_on and before is not None else 0.0
            found.append((elapsed - since, (record.step - last_step) / steps_per_epoch[record.day]))
            before = record
        last_step = record.step
    return found


def _warm_up() -> None:
    """Let PyTorch load and choose its kernels before the time is taken, for all methods."""
    layer = torch.nn.Linear(784, 256)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3, fused=True)
    for _ in range(20):
        torch.nn.functional.cross_entropy(layer(torch.rand(128, 784)), torch.zeros(128, dtype=torch.int64)).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
