"""Whether split MNIST from Avalanche and from Continuum equals that of daynight: its examples, and a run on them.

Both libraries make streams of five tasks, which the adapters turn into streams of daynight. Avalanche sorts examples by
class, so those of all streams are sorted in this way. Inputs and labels must then be bitwise equal, and so must the
agents that learn them. An agent that starts from a network trained by Avalanche must have the weights of that network.
Needs ``pip install ".[benchmarks]"`` and MNIST.

    DAYNIGHT_DATA=/data python benchmarks/adapters.py --out adapters.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import machine
import torch

import daynight as dn
from daynight.data import adapters
from daynight.data.images import cache_folder
from daynight.support.atomic import replacing

GROUPS = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--folder", metavar="FOLDER", help="where MNIST is, as torchvision lays it out (DAYNIGHT_DATA)")
    add("--epochs", type=float, default=1.0, metavar="E", help="epochs of each wake and night (1)")
    add("--out", metavar="FILE", help="write the result as JSON")
    return parser.parse_args()


def of_avalanche(folder: str) -> Any:
    """Return Avalanche's benchmark."""
    from avalanche.benchmarks.classic import SplitMNIST

    return SplitMNIST(
        n_experiences=5, fixed_class_order=[label for group in GROUPS for label in group], dataset_root=folder,
        train_transform=None, eval_transform=None,
    )  # fmt: skip


def of_continuum(folder: str) -> list[Any]:
    """Return Continuum's scenarios."""
    from continuum import ClassIncremental
    from continuum.datasets import MNIST

    return [ClassIncremental(MNIST(folder, train=train, download=False), increment=2) for train in (True, False)]


def ordered(stream: dn.TaskStream) -> dn.TaskStream:
    """Return the stream with the examples of each task sorted by label."""
    tasks = []
    for task in stream:
        splits = []
        for split in (task.train, task.test):
            inputs, targets = split.load()
            order = targets.argsort(stable=True)
            splits.append((inputs[order], targets[order]))
        tasks.append(dn.Task(train=splits[0], test=splits[1], n_outputs=task.n_outputs, name=task.name))
    return dn.TaskStream(tasks)


def digest(stream: dn.TaskStream) -> str:
    """Return a digest of all inputs and labels."""
    found = hashlib.sha256()
    for task in stream:
        for split in (task.train, task.test):
            for tensor in split.load():
                found.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def lived(stream: dn.TaskStream, epochs: float) -> tuple[list[float], str]:
    """Run an agent on a stream; return its scores at the end and a digest of it."""
    agent = dn.Agent(lambda: dn.models.MLP(784, 64, 64), capacity=dn.Capacity(free_at_end=0.95, days=len(stream)))
    clock = dn.Clock(agent, stream, policy=dn.UniformCycles(2), wake=dn.Epochs(epochs), night=dn.Epochs(epochs))
    scores = clock.run().accuracy[-1].tolist()
    agent.verify()
    found = hashlib.sha256()
    for name, tensor in sorted(agent.network.state().items()):
        found.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return scores, found.hexdigest()


def starts_from_avalanche(benchmark: Any, stream: dn.TaskStream) -> bool:
    """Train a network with Avalanche; return whether an agent made from it has its weights, and can learn."""
    from avalanche.models import SimpleMLP
    from avalanche.training.supervised import Naive

    network = SimpleMLP(num_classes=10)
    optimizer = torch.optim.Adam(network.parameters())
    strategy = Naive(model=network, optimizer=optimizer, train_mb_size=128, train_epochs=1, evaluator=None)
    strategy.train(benchmark.train_stream[0])
    agent = dn.Agent(network, capacity=dn.Capacity(free_at_end=0.95, days=1))
    trained = network.state_dict()
    taken = all(
        torch.equal(weight, trained[agent.network.anatomy.masked[name]])
        for name, weight in agent.network.weights.items()
    )
    dn.Clock(agent, stream[:1], policy=dn.OneShot(), wake=dn.Epochs(1), night=dn.Epochs(1)).run()
    return taken


def main() -> None:
    """Compare the streams, and run an agent on each."""
    warnings.filterwarnings("ignore")  # both libraries warn about their own code
    settings = parse()
    torch.set_num_threads(1)
    own = dn.split_mnist(data="full", folder=settings.folder)
    folder = str(Path(settings.folder or os.environ.get("DAYNIGHT_DATA") or cache_folder()))
    benchmark = of_avalanche(folder)
    streams = {
        "daynight": own, "Avalanche": adapters.from_avalanche(benchmark),
        "Continuum": adapters.from_continuum(*of_continuum(folder)),
    }  # fmt: skip
    found: dict[str, Any] = {"machine": machine.describe(), "streams": {}}
    for name, given in streams.items():
        stream = ordered(given)
        scores, agent = lived(stream, settings.epochs)
        found["streams"][name] = {"examples": digest(stream), "scores": scores, "agent": agent}
        print(f"{name}: {sum(scores) / len(scores):.4f} over {len(scores)} tasks", flush=True)
    results = list(found["streams"].values())
    equal = all(result == results[0] for result in results)
    found["equal"], found["starts"] = equal, starts_from_avalanche(benchmark, own)
    print(f"Equal examples, scores and agents: {'yes' if equal else 'NO'}.")
    print(f"An agent starts from a network that Avalanche has trained: {'yes' if found['starts'] else 'NO'}.")
    if settings.out:
        with replacing(settings.out) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(0 if equal and found["starts"] else 1)


if __name__ == "__main__":
    main()
