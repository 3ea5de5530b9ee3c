"""Whether files whose digest is right, and whose values do not fit, are refused by name.

Agents' files, checkpoints, histories and entries of a study's store are written, and one to three of their values are
changed at random: to another type, out of range, to another shape, nested, very large, or taken away. The digest of
the changed file is right. Each must be refused with an error of daynight, or be as good as the unchanged one: an agent
predicts the same bits, owns the same weights and verifies; a run ends with a network that verifies and has exact
counts. Anything else, and a peak of memory twice that of reading the good files, makes the exit status 1.

    python benchmarks/inconsistent_files.py --files 2000
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import random
import resource
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import daynight as dn
from daynight.storage import checkpoints
from daynight.storage.identity import digest
from daynight.study.store import Store
from daynight.support import archive
from daynight.testing import FakeTimer, toy_network, toy_stream
from daynight.training import trainer

STREAM = toy_stream(3).hold_out(0.2)
#: Nights choose what they keep.
NEED = dn.Capacity(free_at_end=0.4, days=4, share="need", tolerance=0.5)
INPUTS = STREAM[0].test.inputs
Tensors = dict[str, Tensor]
#: A good file: writes it with changed values, and uses it. What the use returns must be what it is unchanged.
Use = Callable[[Any, Tensors], Any]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, metavar="N", help="number of files (2000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the changes (0)")
    parser.add_argument("--show", action="store_true", help="print each change that is not refused")
    return parser.parse_args()


# --- changes -----------------------------------------------------------------------------------------------------


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value within a nested one."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*at, key)
            yield from places(value[key], (*at, key))


def deep(n: int) -> Any:
    """Return n lists, each within the next."""
    found: Any = []
    for _ in range(n):
        found = [found]
    return found


STRANGE: list[Callable[[Any], Any]] = [
    lambda v: None, lambda v: "x", lambda v: "", lambda v: [], lambda v: {}, lambda v: True, lambda v: [v],
    lambda v: {"x": v}, lambda v: deep(900), lambda v: -1, lambda v: -3.5, lambda v: 0.5, lambda v: 10**7,
    lambda v: 10**18, lambda v: 10**30, lambda v: 2**63, lambda v: math.nan, lambda v: math.inf, lambda v: "1",
    lambda v: v + 1 if isinstance(v, int | float) else [v, v], lambda v: str(v)[:50], lambda v: 10**9,
    lambda v: v[:-1] if isinstance(v, list | str) else 3, lambda v: v * 2 if isinstance(v, list | str) else -(10**9),
]  # fmt: skip


def change_value(values: Any, generator: random.Random) -> str:
    """Change one of the values within a nested one, and say how."""
    # First a part at random, so that a long list does not get all changes.
    at: tuple[Any, ...] = ()
    part = values
    while isinstance(part, dict | list) and part and (not at or generator.random() < 0.85):
        key = generator.choice(list(part)) if isinstance(part, dict) else generator.randrange(len(part))
        at, part = (*at, key), part[key]
    *above, last = at
    holder = values
    for key in above:
        holder = holder[key]
    kind = generator.randrange(12)
    if kind == 0:
        del holder[last]
        return f"without {at}"
    if kind == 1 and isinstance(holder, dict):
        holder[f"{last}x"] = holder.pop(last)
        return f"renamed {at}"
    changed = generator.choice(STRANGE)(part)
    holder[last] = changed
    return f"{at}: {str(part)[:40]} is now {str(changed)[:40]}"


def change_tensor(tensors: Tensors, generator: random.Random, keeps_values: bool) -> str:
    """Change one of several tensors, and say how."""
    name = generator.choice(sorted(tensors))
    tensor = tensors[name].clone()
    kinds = ["type", "shape", "more", "less", "nothing", "renamed", "largest", "nan", "some"]
    kind = generator.choice(kinds[:-1] if keeps_values and tensor.is_floating_point() else kinds)
    if kind == "type":
        types = [torch.float64, torch.float16, torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool]
        tensors[name] = tensor.to(generator.choice([one for one in types if one != tensor.dtype]))
    elif kind == "shape":
        tensors[name] = tensor.reshape(1, -1) if tensor.dim() != 2 else tensor.t().contiguous()
    elif kind == "more":
        tensors[name] = torch.cat([tensor.reshape(-1)] * 2) if tensor.dim() != 1 else torch.cat([tensor, tensor])
    elif kind == "less":
        tensors[name] = tensor[:-1] if tensor.dim() else tensor.reshape(1)
    elif kind == "nothing":
        del tensors[name]
    elif kind == "renamed":
        tensors[f"{name}x"] = tensors.pop(name)
    elif tensor.numel():
        flat = tensor.reshape(-1)
        is_float = tensor.is_floating_point()
        at = generator.randrange(len(flat))
        if kind == "nan" and is_float:
            flat[at] = math.nan
        elif kind == "largest" or not is_float:
            flat[at] = math.inf if is_float else generator.choice([torch.iinfo(tensor.dtype).max, 0, 1, 5])
        else:
            flat[at] += 1
        tensors[name] = flat.reshape(tensor.shape)
    return f"{name}: {kind}"


# --- good files --------------------------------------------------------------------------------------------------


def normed() -> nn.Module:
    """Return a network that is not one of the library's."""
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 8), nn.Linear(8, 2)
    )


def momentum(parameters: Any) -> torch.optim.Optimizer:
    """Return an optimizer with a state."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def cosine(optimizer: torch.optim.Optimizer, n_steps: int) -> Any:
    """Return a scheduler."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, n_steps))


def new_agent(network: Any, training: dn.Training, settings: dict[str, Any]) -> dn.Agent:
    """Return an agent without days."""
    settings = {"capacity": dn.Capacity(free_at_end=0.4, days=4), **settings}
    return dn.Agent(network, training=training, **settings)


def answers(agent: dn.Agent) -> tuple[Any, ...]:
    """Return what must be the same for two agents that are the same."""
    if agent.consolidation.freezes:
        agent.verify()
    predictions = [agent.predict(INPUTS, task).numpy().tobytes() for task in range(agent.day)]
    return agent.owned, agent.n_free, agent.day, predictions


def agents(folder: Path) -> Iterator[tuple[str, Any, Tensors, Use, bool]]:
    """Yield good files of agents: name, values, tensors, use, and whether other numbers are as good."""
    usual = dn.Training(batch_size=10)
    for name, network, given, settings in (
        ("agent", toy_network, {}, {}),
        ("agent, a user's network", normed, {"network": normed}, {"restart": "keep", "biases": "freeze-after-first"}),
        ("agent, rehearsal", toy_network, {"kept": list(STREAM)[:2]}, {"consolidation": "rehearse"}),
        ("agent, fine-tuning", toy_network, {}, {"consolidation": "fine-tune"}),
        ("agent, shares by need", toy_network, {}, {"capacity": NEED}),
        ("agent, replay", toy_network, {}, {"consolidation": "rehearse", "replay": dn.Replay(20)}),
    ):
        agent, path = new_agent(network, usual, settings), folder / "agent.dn"
        dn.Clock(agent, STREAM, policy=dn.UniformCycles(2), wake=dn.Steps(6), night=dn.Steps(8)).run(until=2)
        agent.save(path)

        def use(values: Any, tensors: Tensors, path: Path = path, given: dict[str, Any] = given) -> Any:
            archive.write(path, "agent", values, tensors)
            loaded = dn.Agent.load(path, **given)
            found = answers(loaded)
            loaded.fork().wake(STREAM[2], dn.Steps(2))
            return found

        yield name, *archive.read(path, "agent"), use, bool(settings.get("consolidation"))


class Stopped(Exception):
    """A run was stopped."""


def runs(folder: Path) -> Iterator[tuple[str, Any, Tensors, Use, bool]]:
    """Yield good checkpoints, in the same way."""
    usual = dn.Training(batch_size=10)
    scheduled = dn.Training(batch_size=10, optimizer=momentum, scheduler=cosine, carry_optimizer=True)
    steps = {"wake": dn.Steps(10), "night": dn.Steps(12)}
    timed = {"wake": dn.Steps(10), "night": dn.Seconds(12, timer=FakeTimer(1, 1))}
    for number, (name, stop, network, training, budgets, settings) in enumerate((
        ("checkpoint in a wake", (1, "wake", 4), toy_network, usual, steps, {}),
        ("checkpoint in a REM", (1, "rem", 5), normed, scheduled, steps, {}),
        ("checkpoint in a night in seconds", (0, "rem", 8), toy_network, usual, timed, {}),
        ("checkpoint at dusk", (1, "dusk", 0), toy_network, usual, steps, {}),
        ("checkpoint in a night that chooses", (1, "rem", 2), normed, usual, steps, {"capacity": NEED}),
        ("checkpoint in a night that has chosen", (0, "rem", 11), toy_network, usual, steps, {"capacity": NEED}),
    )):  # fmt: skip
        place = folder / str(number)

        def new_clock(
            place: Path = place,
            network: Any = network,
            training: Any = training,
            budgets: Any = budgets,
            settings: Any = settings,
            hook: Any = (),
        ) -> dn.Clock:
            timed = dict(budgets)
            if isinstance(timed["night"], dn.Seconds):
                timed["night"] = dn.Seconds(12, timer=FakeTimer(1, 1))
            return dn.Clock(
                new_agent(network, training, settings), list(STREAM)[:2], policy=dn.UniformCycles(2), checkpoint=place,
                every=0, on_event=hook, **timed,
            )  # fmt: skip

        count = [0]

        def halt(event: Any, stop: tuple[int, str, int] = stop, count: list[int] = count) -> None:
            count[0] += (event.day, event.phase) == stop[:2]
            if count[0] > stop[2] + 1:
                raise Stopped

        with contextlib.suppress(Stopped):
            new_clock(hook=halt).run()

        def use(
            values: Any, tensors: Tensors, new_clock: Callable[..., dn.Clock] = new_clock, place: Path = place
        ) -> Any:
            archive.write(place / "clock.dn", "clock", values, tensors)
            clock = new_clock()
            history = clock.run()
            clock.agent.verify()
            network = clock.agent.network
            owned = [tuple(network.count(day).values()) for day in range(2)]
            is_exact = clock.agent.capacity.allows(tuple(network.sizes.values()), owned)
            return clock.agent.day, is_exact, history.accuracy.shape

        yield name, *archive.read(place / "clock.dn", "clock"), use, True


def texts(folder: Path) -> Iterator[tuple[str, Any, Tensors, Use, bool]]:
    """Yield a good history, and a good entry of a store, in the same way."""
    agent = new_agent(toy_network, dn.Training(batch_size=10), {})
    history = dn.Clock(agent, STREAM, policy=dn.UniformCycles(2), wake=dn.Steps(6), night=dn.Steps(8)).run(until=2)
    history.to_json(folder / "history.json")

    def use_history(values: Any, tensors: Tensors) -> Any:
        (folder / "history.json").write_text(json.dumps(values))
        found = dn.History.from_json(folder / "history.json")
        _ = found.accuracy, found.scores("dusk"), found.n_days, repr(found)
        found.to_csv(folder / "again.csv")
        # Records that are missing, or that differ within their ranges, are another history, and not a wrong one.
        return dn.History.from_csv(folder / "again.csv") == found or "nan" in (folder / "again.csv").read_text()

    yield "history", json.loads((folder / "history.json").read_text()), {}, use_history, True
    run = {
        "data": "31a4502deb6a7ae62672", "method": {"function": "daynight.study.methods.packnet"}, "version": "1",
        "settings": {"seed": 0, "free_at_end": 0.95}, "views": [],
    }  # fmt: skip
    result = {
        "accuracy": [[0.5, None], [0.75, 0.5]], "mean_accuracy": 0.625, "backward_transfer": 0.25, "forgetting": -0.25,
        "n_steps": 20, "n_weights": 112, "owned": [20, 20], "private": [34, 34],
    }  # fmt: skip
    entry = {
        "key": digest(run),
        "run": run,
        "result": result,
        "seconds": 1.5,
        "machine": {"torch": "2", "platform": "x"},
    }

    def use_entry(values: Any, tensors: Tensors) -> Any:
        store = Store(folder / "store")
        store.folder.mkdir(exist_ok=True)
        (store.folder / f"{digest(run)}.json").write_text(json.dumps(values))
        found = store.read(digest(run))
        known = found["result"].get("accuracy")
        return known is None or isinstance(known, float | int) or len(known) == len(known[-1] if known else [])

    yield "entry", entry, {}, use_entry, True


def peak() -> int:
    """Return the largest memory of the process so far, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> int:
    """Try the files, print the counts, and return the exit status."""
    given, counts = parse(), Counter[str]()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    trainer.PROGRESS_STEPS, checkpoints.APART, checkpoints.MARGIN = 1, 0, 0  # a checkpoint at every step
    with tempfile.TemporaryDirectory() as place:
        good = [*agents(Path(place)), *runs(Path(place)), *texts(Path(place))]
        wanted = [use(copy.deepcopy(values), dict(tensors)) for _, values, tensors, use, _ in good]
        before = peak()
        for number in range(given.files):
            generator = random.Random(f"{given.seed} {number}")
            which = generator.randrange(len(good))
            name, values, tensors, use, keeps = good[which]
            values, tensors, changes = copy.deepcopy(values), dict(tensors), list[str]()
            for _ in range(generator.choice((1, 1, 1, 2, 3))):
                if tensors and generator.random() < 0.4:
                    changes.append(change_tensor(tensors, generator, keeps))
                elif values:
                    changes.append(change_value(values, generator))
            try:
                found = use(values, tensors)
                outcome = "as good" if found == wanted[which] else "WRONG"
            except dn.errors.DaynightError as error:
                outcome = f"refused: {type(error).__name__}"
            except Exception as error:
                outcome = f"RAW {type(error).__name__}"
                print(f"{number}, {name}: {changes}", traceback.format_exc(limit=-3), flush=True)
            if outcome == "WRONG" or (given.show and outcome == "as good"):
                print(f"{number}, {name}: {outcome}: {changes}", flush=True)
            counts[f"{name}: {outcome}"] += 1
    is_lean = peak() < 2 * before
    print(json.dumps(dict(sorted(counts.items())), indent=1))
    print(f"memory: at most {peak() >> 10} MB, and {before >> 10} MB with good files")
    n_bad = sum(n for name, n in counts.items() if "WRONG" in name or "RAW" in name)
    print(f"{given.files} files, {n_bad} neither refused nor as good")
    return int(n_bad > 0 or not is_lean)


if __name__ == "__main__":
    sys.exit(main())
