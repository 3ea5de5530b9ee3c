"""How fast daynight is where people work: predictions of a few examples, and lives of many small days.

    git worktree add /tmp/before COMMIT
    python benchmarks/practice.py --against /tmp/before --pairs 7 --out practice.json

Without --against, only this build is measured. Each pair is one measurement of either build, in turns, each build in a
process of its own with one thread. Of predictions, the time is in units of the network's own forward on as many
examples. Of lives, it is the processor's time: of a day, evaluation and records included; of a day of the last tenth
of the life over one of the first tenth; of a day in each tenth; and of writing the history as JSON and as a report.
Lives are plain, or have a hook that does nothing, a `CSVLogger`, a checkpoint a day, a file of the agent a day, or a
new version of one task every second day (--kinds). Reported are medians, with the least and the largest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import builds
import machine
import torch
import torchvision
from torch import nn

import daynight as dn
from daynight.support.atomic import replacing

NETWORKS = {
    "MLP 784:256:256": (lambda: dn.models.MLP(784, 256, 256), (784,)),
    "resnet18 at 32x32": (lambda: torchvision.models.resnet18(num_classes=2), (3, 32, 32)),
}
#: Kinds of lives. In the last one, every second day has a new version of the first day's task, the others new tasks.
KINDS = ("plain", "hook", "CSVLogger", "checkpoint", "save", "versions")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--against", metavar="FOLDER", help="another checkout, to compare with")
    add("--pairs", type=int, default=7, metavar="N", help="measurements of each build (7)")
    add("--examples", type=int, nargs="*", default=[1, 16, 256], metavar="N", help="of a prediction (1 16 256)")
    add("--days", type=int, nargs="*", default=[3, 30], metavar="N", help="lives of so many days (3 30)")
    add("--kinds", nargs="*", default=["plain"], choices=KINDS, metavar="KIND", help=f"kinds of lives: {KINDS} (plain)")
    add("--out", metavar="FILE", help="write the raw numbers as JSON, after each pair")
    add("--work", action="store_true", help=argparse.SUPPRESS)  # measures what the lines of its input ask for
    return parser.parse_args()


def main() -> None:
    """Measure, and print the medians."""
    settings = parse()
    if settings.work:
        torch.set_num_threads(1)
        for line in sys.stdin:
            print(json.dumps(measured(**json.loads(line))), flush=True)
        return
    asked: list[dict[str, Any]] = [
        {"what": "predict", "network": name, "n": n} for name in NETWORKS for n in settings.examples
    ]
    asked += [{"what": "days", "n": n, "kind": kind} for kind in settings.kinds for n in settings.days]
    folders = {"here": Path(__file__).parents[1]}
    folders |= {"other": Path(settings.against).resolve()} if settings.against else {}
    # Both builds are measured by this file.
    workers = {
        name: builds.started(folder, str(Path(__file__).resolve()), "--work") for name, folder in folders.items()
    }
    result: dict[str, Any] = {"machine": machine.describe(), "settings": vars(settings), "pairs": []}
    for pair in range(-1, settings.pairs):
        # Which of the two comes first changes from pair to pair. The first pair only warms up.
        order = sorted(folders, reverse=bool(pair % 2))
        some = asked if pair >= 0 else [{"what": "days", "n": 3, "kind": "plain"}]
        done = [{**each, **{name: builds.answer(workers[name], each) for name in order}} for each in some]
        result["pairs"] += [done] if pair >= 0 else []
        if pair >= 0 and settings.out:
            with replacing(settings.out) as path:
                path.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(lines_of(result["pairs"])))
    for worker in workers.values():
        worker.terminate()


def measured(what: str, n: int, network: str = "", kind: str = "plain") -> dict[str, Any]:
    """Measure predictions of n examples, or a life of n days."""
    return of_predictions(network, n) if what == "predict" else of_days(n, kind)


def of_predictions(network: str, n: int) -> dict[str, float]:
    """Return the time of a prediction over that of the network's forward."""
    make, shape = NETWORKS[network]
    drawn = torch.Generator().manual_seed(0)
    inputs = torch.rand(64, *shape, generator=drawn)
    agent = dn.Agent(make, capacity=dn.Capacity(keep_per_night=0.05), training=dn.Training(batch_size=16))
    pair = inputs, torch.arange(64) % 2
    agent.wake(dn.TaskStream([(pair, pair)])[0], dn.Steps(4))
    agent.sleep(dn.OneShot(), dn.Steps(2))
    module, some = make().eval(), torch.rand(n, *shape, generator=drawn)
    with torch.no_grad():
        own = seconds_of(lambda: module(some))
    return {"over the forward": seconds_of(lambda: agent.predict(some, 0)) / own}


def seconds_of(call: Any, least: float = 0.05) -> float:
    """Return the median seconds of a call, of 7 rounds that take at least `least` seconds each."""
    call()
    began = time.perf_counter()
    call()
    times = max(1, int(least / (time.perf_counter() - began)))
    rounds = []
    for _ in range(7):
        began = time.perf_counter()
        for _ in range(times):
            call()
        rounds.append((time.perf_counter() - began) / times)
    return statistics.median(rounds)


def of_days(n: int, kind: str) -> dict[str, Any]:
    """Return the milliseconds of a day of a life of n small days, and what else the top of this file says."""
    with tempfile.TemporaryDirectory() as folder:
        clock, out = life_of(n, kind, Path(folder)), Path(folder)
        began, ends = time.process_time(), list[float]()
        clock.check()
        ends.append(time.process_time())
        for _ in range(n):
            clock.step()
            if kind == "save":
                clock.agent.save(out / "agent.dn")
            ends.append(time.process_time())
        clock.history.to_json(out / "history.json")
        clock.history.report(out / "report.html")
        written = time.process_time() - ends[-1]
    days, some = [1000 * (b - a) for a, b in itertools.pairwise(ends)][1:], max(1, n // 10)
    curve = [statistics.median(days[place * len(days) // 10 :][:some]) for place in range(10)]
    return {
        "ms a day": 1000 * (ends[-1] - began) / n,
        "late over early": statistics.median(days[-some:]) / statistics.median(days[:some]),
        "curve": curve,
        "seconds of history and report": written,
    }


def life_of(n: int, kind: str, folder: Path) -> dn.Clock:
    """Return the clock of a life of n small days."""
    drawn = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    pairs = [(torch.randn(60, 6, generator=drawn) + 2.0 * nn.functional.one_hot(labels, 6), labels) for _ in range(n)]
    capacity = dn.Capacity(keep_per_night=1 / (n + 1), min_per_layer=1)
    days: Any = [(pair, pair) for pair in pairs]
    if kind == "versions":
        capacity = dn.Capacity(keep_per_task=1 / (n // 2 + 2), min_per_layer=1)
        days = [
            dn.Task(train=pair, test=pair, name="model" if day % 2 or not day else f"task {day}",
                    succeeds="model" if day % 2 else None)
            for day, pair in enumerate(pairs)
        ]  # fmt: skip
    agent = dn.Agent(lambda: dn.models.MLP(6, 64, 64), capacity=capacity, training=dn.Training(batch_size=20))
    more: dict[str, Any] = {}
    if kind == "hook":
        more["on_event"] = lambda event: None
    if kind == "CSVLogger":
        more["on_event"] = dn.loggers.CSVLogger(folder / "run.csv")
    if kind == "checkpoint":
        more["checkpoint"] = folder / "run"
    return dn.Clock(
        agent, dn.TaskStream(days), policy=dn.OneShot(), wake=dn.Epochs(3), night=dn.Epochs(2), **more
    )  # fmt: skip


def lines_of(pairs: list[list[dict[str, Any]]]) -> list[str]:
    """Return the medians as lines of text."""
    lines = []
    for same in zip(*pairs, strict=True):
        title = f"{same[0]['what']} {same[0].get('network', same[0].get('kind'))}, {same[0]['n']}"
        for name in same[0]["here"]:
            if name == "curve":
                for build in ("here", "other") if "other" in same[0] else ("here",):
                    medians = map(statistics.median, zip(*(each[build][name] for each in same), strict=True))
                    lines.append(f"{title}: ms a day, by tenths, {build}: {' '.join(f'{ms:.1f}' for ms in medians)}")
                continue
            here = [each["here"][name] for each in same]
            line = f"{title}: {name} {builds.shown(here)}"
            if "other" in same[0]:
                other = [each["other"][name] for each in same]
                ratios = [a / b for a, b in zip(here, other, strict=True)]
                line += f"; other {statistics.median(other):.3f}; here over other {builds.shown(ratios)}"
            lines.append(line)
    return lines


if __name__ == "__main__":
    main()
