"""What checkpoints cost: the main example with and without them, in turn, in one process.

Five tasks of split MNIST, MLP 784:256:256:2, p = 0.99, uniform cycles. The ratio of whole runs depends on what else the
machine does, so the share of the time that writing checkpoints takes is measured, too. Takes about ten minutes with all
images and the default number of epochs.

    DAYNIGHT_DATA=/data python benchmarks/checkpoints.py --out checkpoints.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import machine
import torch

import daynight as dn
from daynight.storage.checkpoints import Checkpoint
from daynight.support.atomic import replacing


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--every", type=float, nargs="+", default=[60.0, 10.0, 0.0], metavar="S", help="seconds between them (60 10 0)")
    add("--epochs", type=float, default=24.0, metavar="E", help="epochs of each wake and each night (24)")
    add("--pairs", type=int, default=3, metavar="N", help="pairs of runs, with and without checkpoints (3)")
    add("--out", metavar="FILE", help="write the raw numbers as JSON")
    return parser.parse_args()


def run(stream: dn.TaskStream, epochs: float, every: float | None) -> dict[str, Any]:
    """Measure a run; `every` is the number of seconds between checkpoints, or None for no checkpoints."""
    times: list[float] = []
    write = Checkpoint.write

    def timed(*args: Any) -> None:
        began = time.perf_counter()
        write(*args)
        times.append(time.perf_counter() - began)

    agent = dn.Agent(lambda: dn.models.MLP(784, 256, 256), capacity=dn.Capacity(free_at_end=0.99, days=len(stream)))
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Checkpoint, "write", timed):
        clock = dn.Clock(
            agent, stream, policy=dn.UniformCycles(8), wake=dn.Epochs(epochs), night=dn.Epochs(epochs),
            checkpoint=None if every is None else folder, every=60.0 if every is None else every,
        )  # fmt: skip
        began = time.perf_counter()
        clock.run()
        seconds = time.perf_counter() - began
        sizes = [path.stat().st_size for path in Path(folder).iterdir()]
    return {"seconds": seconds, "n_writes": len(times), "write_seconds": sum(times), "n_bytes": sum(sizes)}


def rows(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row of a table for each number of seconds between checkpoints."""
    table = []
    for every in dict.fromkeys(pair["every"] for pair in pairs):
        own = [pair for pair in pairs if pair["every"] == every]
        ratios = [pair["with"]["seconds"] / pair["without"]["seconds"] for pair in own]
        kept = [pair["with"] for pair in own]
        table.append({
            "seconds apart, at least": f"{every:g}", "run, s": statistics.median(one["seconds"] for one in kept),
            "checkpoints a run": statistics.median(one["n_writes"] for one in kept),
            "size, MB": kept[0]["n_bytes"] / 1e6,
            "share of the time, %": 100 * max(one["write_seconds"] / one["seconds"] for one in kept),
            "run with / without": statistics.median(ratios),
            "range": f"{min(ratios):.3f} to {max(ratios):.3f}",
        })  # fmt: skip
    return table


def main() -> None:
    """Measure all pairs, and print the table."""
    settings = parse()
    torch.set_num_threads(1)
    about = machine.describe()
    stream = dn.split_mnist()
    print(f"{machine.line(about)}\nData: {stream.source}.", flush=True)
    run(stream, 1.0, None)  # warm up
    pairs = []
    for _ in range(settings.pairs):
        for every in settings.every:
            without = run(stream, settings.epochs, None)
            pairs.append({"every": every, "without": without, "with": run(stream, settings.epochs, every)})
            print(json.dumps(pairs[-1]), flush=True)
    for row in rows(pairs):
        print(
            ", ".join(f"{name}: {value if isinstance(value, str) else f'{value:.3g}'}" for name, value in row.items())
        )
    if settings.out:
        with replacing(settings.out) as temporary:
            result = {"settings": vars(settings), "machine": about, "pairs": pairs}
            temporary.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
