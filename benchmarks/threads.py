"""Whether agents that live in several threads of one process give what they give alone.

Lives of two short days, of several kinds of networks (with dropout, batch normalisation, convolutions, noise drawn from
the generators of PyTorch, NumPy and Python, and rehearsal), run in many threads at a time. Meanwhile, agents that have
lived already are asked for predictions, and so are agents that are being trained by another thread. Each life must end
with the weights, history and predictions of the same life alone, and each prediction must be that of its agent at rest,
or be refused with StateError. The process's random numbers must not change. The exit status is 1 if anything differs.

    python benchmarks/threads.py --threads 12 --lives 200 --predictions 2000
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

import daynight as dn
from daynight.support import seeding
from daynight.testing import toy_network, toy_stream


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--threads", type=int, default=12, metavar="T", help="threads that run lives (12)")
    add("--lives", type=int, default=200, metavar="N", help="lives (200)")
    add("--predictions", type=int, default=2000, metavar="P", help="predictions beside them (2000)")
    add("--seeds", type=int, default=3, metavar="S", help="different seeds of each kind of life (3)")
    add("--steps", type=int, default=8, metavar="K", help="optimizer steps of each wake and each night (8)")
    return parser.parse_args()


def noisy(inputs: Tensor) -> Tensor:
    """Add noise from three global generators."""
    return inputs + 0.1 * torch.randn_like(inputs) + 0.1 * random.random() + 0.1 * float(np.random.rand())  # noqa: NPY002


def normed() -> nn.Module:
    """Return a network with batch normalisation and dropout."""
    body = (nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 12), nn.ReLU())
    return nn.Sequential(*body, nn.Linear(12, 2))


def convolved() -> nn.Module:
    """Return a network with convolutions and dropout."""
    body = (nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 6, 3, padding=1), nn.ReLU(), nn.Dropout(0.2), nn.Conv1d(6, 6, 3))
    return nn.Sequential(*body, nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))


class Untraced(nn.Module):
    """A network that cannot be cut into parts, and draws random numbers in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, 6) to outputs (batch, 2)."""
        hidden = self.first(inputs).relu()
        if self.training and float(torch.rand(())) < 0.5:
            hidden = hidden * 1.1
        outputs: Tensor = self.head(self.second(hidden).relu() + hidden)
        return outputs


KINDS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "plain": (toy_network, {}, {}),
    "dropout and batch normalisation": (normed, {}, {}),
    "convolutions": (convolved, {"engine": "module"}, {"biases": "freeze-after-first"}),
    "not traced": (Untraced, {}, {}),
    "noise": (toy_network, {"augment": noisy}, {"restart": "redraw"}),
    "sparse": (toy_network, {"engine": "sparse"}, {}),
    "rehearsal": (normed, {"augment": noisy}, {"consolidation": "rehearse"}),
}
STREAM = toy_stream(2, n_train=36)
INPUTS = STREAM[0].test.inputs


def new_agent(kind: str, seed: int) -> dn.Agent:
    """Return the agent of a life."""
    network, training, settings = KINDS[kind]
    return dn.Agent(
        network, capacity=dn.Capacity(free_at_end=0.4, days=2), seed=seed,
        training=dn.Training(batch_size=10, **training), **settings,
    )  # fmt: skip


def live(agent: dn.Agent, n_steps: int) -> tuple[Any, ...]:
    """Run a life, and return all that it ends with, seconds excepted."""
    clock = dn.Clock(agent, STREAM, policy=dn.UniformCycles(2), wake=dn.Steps(n_steps), night=dn.Steps(n_steps))
    records = [attrs.evolve(record, elapsed_seconds=None) for record in clock.run()]
    state = agent.fork().network.state()  # a prediction in another thread puts its weights into the network meanwhile
    numbers = tuple(state[name].numpy().tobytes() for name in sorted(state))
    return records, numbers, agent.predict(INPUTS, 0).numpy().tobytes(), agent.predict(INPUTS, 1).numpy().tobytes()


def main() -> int:
    """Run the lives and the predictions, print the counts, and return the exit status."""
    given = parse()
    torch.set_num_threads(1)
    sys.setswitchinterval(1e-4)  # seconds: threads interrupt each other much more often than usual
    lives = list(itertools.product(KINDS, range(given.seeds)))
    agents = {life: new_agent(*life) for life in lives}
    alone = {life: live(agents[life], given.steps) for life in lives}
    before = seeding.state()["cpu"], random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    training, counts, odd = list[dn.Agent](), Counter[str](), list[str]()
    is_over, lock = threading.Event(), threading.Lock()

    def count(what: str) -> None:
        with lock:
            counts[what] += 1

    def one(number: int) -> None:
        life = lives[number % len(lives)]
        agent = new_agent(*life)
        training.append(agent)
        try:
            is_same = live(agent, given.steps) == alone[life]
            count("lives as alone" if is_same else f"lives other than alone: {life[0]}")
        except Exception as error:
            count(f"lives that failed: {type(error).__name__}")
            odd.append(traceback.format_exc())
        training.remove(agent)

    def ask(number: int) -> None:
        for life in itertools.islice(itertools.cycle(lives), number, None, 2):
            for index in range(2):
                is_right = agents[life].predict(INPUTS, index).numpy().tobytes() == alone[life][2 + index]
                count("predictions at rest, right" if is_right else "predictions at rest, wrong")
            for agent in training[-1:]:
                try:
                    agent.predict(INPUTS, 0)
                    count("predictions beside training, answered between two phases")
                except dn.errors.StateError:
                    count("predictions beside training, refused")
            n_right = counts["predictions at rest, right"] + counts["predictions at rest, wrong"]
            if is_over.is_set() and n_right >= given.predictions:
                return
            time.sleep(0.002)  # so that the lives get on, too

    began = time.perf_counter()
    with ThreadPoolExecutor(given.threads) as livers, ThreadPoolExecutor(2) as askers:
        asked = [askers.submit(ask, number) for number in range(2)]
        for future in [livers.submit(one, number) for number in range(given.lives)]:
            future.result()
        is_over.set()
        for future in asked:
            future.result()
    for agent in agents.values():
        if agent.consolidation.freezes:
            agent.verify()
    after = seeding.state()["cpu"], random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    counts["random numbers of the process changed"] += not torch.equal(before[0], after[0]) or before[1:] != after[1:]
    good = {"lives as alone", *(name for name in counts if name.startswith("predictions beside") or "right" in name)}
    n_bad = sum(n for name, n in counts.items() if name not in good)
    print(*odd[:1], sep="\n", end="")
    print(json.dumps({**dict(sorted(counts.items())), "seconds": round(time.perf_counter() - began, 1)}, indent=1))
    return int(n_bad > 0 or counts["lives as alone"] != given.lives)


if __name__ == "__main__":
    sys.exit(main())
