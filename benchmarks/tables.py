"""Tables of the results of `speed.py`, as text and as reStructuredText."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import machine

Run = Mapping[str, Any]

HEADER = (
    "p", "N", "method", "n", "s/wake epoch", "s/REM epoch", "s/run", "peak MiB", "own MiB", "accuracy", "free",
    "wake x", "REM x", "run x",
)  # fmt: skip
TITLES = {
    "floor": "bare products", "daynight": "daynight", "plain": "plain PyTorch loop", "avalanche": "Avalanche",
    "avalanche-tensors": "Avalanche, tensors",
}  # fmt: skip


def rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of the table, one for each setting and method: medians over the repeats."""
    runs = result["runs"]
    settings = sorted({(run["p"], run["rounds"]) for run in runs})
    return [
        _row(method, [run for run in runs if (run["p"], run["rounds"]) == setting])
        for setting in settings
        for method in TITLES
        if any(run["method"] == method and (run["p"], run["rounds"]) == setting for run in runs)
    ]


def per_epoch(stretches: Sequence[tuple[float, float]]) -> float:
    """Return the mean seconds of an epoch, from stretches of (seconds, epochs)."""
    return sum(seconds for seconds, _ in stretches) / sum(epochs for _, epochs in stretches)


def text(result: Mapping[str, Any]) -> str:
    """Return the table in aligned columns, and the notes below it."""
    table = [list(HEADER), *rows(result)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(["", *lines, "", *notes(result)])


def rst(result: Mapping[str, Any]) -> str:
    """Return two csv-tables, of what each method takes and of its times over daynight's, and the notes below them."""
    parts = HEADER[4:-3], HEADER[-3:]
    return "\n".join(_csv_table(result, [*HEADER[:4], *part]) for part in parts) + "\n\n".join(notes(result)) + "\n"


def _csv_table(result: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return a csv-table of some columns, with those rows that have any of them besides the first four."""
    cells = io.StringIO()
    chosen = [HEADER.index(name) for name in names if name not in ("peak MiB", "free")]
    for row in [list(HEADER), *rows(result)]:
        if any(row[index] != "-" for index in chosen[4:]):
            # A single dash would be a bullet.
            csv.writer(cells, lineterminator="\n").writerow([row[index].replace("-", " ") for index in chosen])
    body = "".join(f"   {line}\n" for line in cells.getvalue().splitlines())
    return f".. csv-table::\n   :header-rows: 1\n\n{body}\n"


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return notes on how and where the numbers were measured."""
    settings, runs = result["settings"], result["runs"]
    found = [
        f"Machine: {machine.line(result['machine'])}.",
        f"Data: {result['data']}. Epochs a wake {settings['epochs']:g}, a night {settings['budget']:g}; "
        f"medians of n repeats; engine {settings['engine']!r}.",
        "Own MiB is the memory that a run adds, at its peak, to a process with PyTorch and the data as bytes. That of "
        "Avalanche includes Avalanche, and all tasks as floats; the others hold one task at a time as floats.",
        "wake x, REM x and run x are times divided by that of daynight in the run beside it: median (least to most, if "
        "there are several).",
    ]
    if cycle := _seconds_a_cycle(runs):
        found.append(f"In daynight, one more cycle a night takes {cycle * 1e3:.0f} ms besides its optimizer steps.")
    rates = [run["gflop_per_second"] for run in runs if run["method"] == "floor"]
    if rates:
        widths = next(run["live_inputs"] for run in runs if run["method"] == "floor")
        found.append(
            f"The bare matrix products of a wake step run at {statistics.median(rates):.1f} GFLOP/s here. "
            f"The five tasks have {', '.join(map(str, widths))} inputs; the others are zero in all images."
        )
    return found


def _seconds_a_cycle(runs: Sequence[Run]) -> float | None:
    """Return the seconds of one more cycle a night besides its steps: the median of runs with N > 1 minus N = 1."""

    def rest(run: Run) -> float:
        return run["seconds"] - sum(seconds for seconds, _ in [*run["wakes"], *run["rems"]])

    own = {(run["p"], run["seed"], run["rounds"]): run for run in runs if run["method"] == "daynight"}
    found = [
        (rest(run) - rest(own[p, seed, 1])) / ((rounds - 1) * len(run["accuracy"]))
        for (p, seed, rounds), run in own.items()
        if rounds > 1 and (p, seed, 1) in own
    ]
    return statistics.median(found) if found else None


def _row(method: str, runs: Sequence[Run]) -> list[str]:
    """Return one row; `runs` are those of all methods at one setting."""
    own = [run for run in runs if run["method"] == method]
    peers = {run["seed"]: run for run in runs if run["method"] == "daynight"}

    def median(value: Callable[[Run], float | None], style: str) -> str:
        values = [number for run in own if (number := value(run)) is not None]
        return format(statistics.median(values), style) if values else "-"

    def ratio(value: Callable[[Run], float | None]) -> str:
        pairs = [(value(run), value(peers[run["seed"]])) for run in own if run["seed"] in peers]
        ratios = [mine / peer for mine, peer in pairs if mine is not None and peer]
        if not ratios or method == "daynight":
            return "-"
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
        return f"{statistics.median(ratios):.2f}{spread}"

    first = own[0]
    return [
        f"{first['p']:g}",
        str(first["rounds"]),
        TITLES[method],
        str(len(own)),
        median(_wake, ".4f"),
        median(_rem, ".4f"),
        median(_seconds, ".1f"),
        median(lambda run: run["peak_bytes"] / machine.MIB if "seconds" in run else None, ".0f"),
        median(_own_mib, ".0f"),
        median(_accuracy, ".4f"),
        median(lambda run: run.get("free_fraction"), ".4f"),
        ratio(_wake),
        ratio(_rem),
        ratio(_seconds),
    ]


def _wake(run: Run) -> float | None:
    return per_epoch(run["wakes"]) if run["wakes"] else None


def _rem(run: Run) -> float | None:
    return per_epoch(run["rems"]) if run["rems"] else None


def _own_mib(run: Run) -> float | None:
    """Return the memory that a run adds, at its peak, to a process with PyTorch and the data."""
    return (run["peak_bytes"] - run["bytes_before"]) / machine.MIB if "seconds" in run else None


def _seconds(run: Run) -> float | None:
    return run.get("seconds")


def _accuracy(run: Run) -> float | None:
    return sum(run["accuracy"]) / len(run["accuracy"]) if "accuracy" in run else None
