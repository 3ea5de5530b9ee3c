"""Tables of trials: each row in a process of its own with limits, appended to a CSV file as it is done.

The first line of the file names the versions. A run that was cut off continues where it stopped, as long as the
versions are the same. `works_optimizers.py` and `works_networks.py` are made of this.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import importlib.metadata
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import machine

Row = dict[str, Any]
Note = Callable[..., None]
Trial = Callable[[Note], None]

#: What a verdict begins with, from best to worst.
VERDICTS = ("works", "works, with", "refused", "script failed", "over the limit", "raw error", "wrong in silence")
#: Longest text of an error in a row.
N_LETTERS = 120


def one_line(error: BaseException, n: int = N_LETTERS) -> str:
    """Return the class of an error and the first `n` characters of its message, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:n]}".strip()


def arguments(description: str | None, seconds: float) -> argparse.ArgumentParser:
    """Return a parser of the options that all tables have; `seconds` is the limit of a row."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="CSV", help="the table; a run that was cut off continues it")
    add("--new", action="store_true", help="begin the table anew; --against may name the same file")
    add("--only", default="", metavar="TEXT", help="only rows whose names contain this")
    add("--seconds", type=float, default=seconds, metavar="S", help=f"limit of a row in seconds ({seconds:g})")
    add("--gib", type=float, default=10.0, metavar="G", help="limit of a row's address space in GiB (10)")
    add("--against", type=Path, metavar="CSV", help="list the rows that are worse than in this table")
    return parser


def fill(
    trials: Mapping[str, Trial], columns: Sequence[str], packages: Sequence[str], settings: argparse.Namespace
) -> None:
    """Run all trials that the table does not have yet, and compare it with another table if that was asked for.

    Args:
        trials: By the name of a row, a function that finds out its columns. It hands each to the function that it
            is called with, by name, as soon as it knows it.
        columns: All columns but ``name`` and ``seconds``; ``verdict`` is one of them.
        packages: Distributions whose versions stand in the first line.
        settings: What `arguments` parsed. The exit status is 1 if a row is worse than in the table of ``--against``.
    """
    names = ["name", *columns, "seconds"]
    about = versions(packages)
    before = read(settings.against)[1] if settings.against else []
    if settings.new:
        settings.out.unlink(missing_ok=True)
    if not settings.out.exists():
        settings.out.write_text(f"# {about}\n" + ",".join(names) + "\n")
    known_about, known = read(settings.out)
    if known_about != about:
        raise SystemExit(f"{settings.out} was begun with other versions:\n{known_about}\nnow: {about}")
    done = {row["name"] for row in known}
    for name, trial in trials.items():
        if name in done or settings.only not in name:
            continue
        row = {"name": name, **tried(trial, settings.seconds, settings.gib)}
        with settings.out.open("a", newline="") as stream:
            csv.DictWriter(stream, names, lineterminator="\n", extrasaction="ignore").writerow(row)
        print(f"{name}: {row['verdict']} ({row['seconds']} s)", flush=True)
    if settings.against:
        sys.exit(1 if compare(before, read(settings.out)[1]) else 0)


def tried(trial: Trial, seconds: float, gib: float) -> Row:
    """Return what a trial finds out in a process of its own; its verdict says so if that ends at a limit."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(trial, sender, int(gib * 2**30)))
    began, row = time.perf_counter(), Row()
    process.start()
    sender.close()
    with contextlib.suppress(EOFError):
        while receiver.poll(max(0.0, began + seconds - time.perf_counter())):
            row |= receiver.recv()
    is_late = process.is_alive() and time.perf_counter() - began >= seconds
    if is_late:
        process.kill()
    process.join()
    doing = row.pop("doing", "nothing")
    if is_late:
        row["verdict"] = f"over the limit: {seconds:g} s, while {doing}"
    elif process.exitcode:
        row["verdict"] = f"script failed: exit status {process.exitcode}, while {doing}"
    row.setdefault("verdict", "script failed: no verdict")
    row["seconds"] = f"{time.perf_counter() - began:.1f}"
    return {name: _shown(value) for name, value in row.items()}


def read(path: Path) -> tuple[str, list[dict[str, str]]]:
    """Return the versions of a table, and its rows."""
    with path.open(newline="") as stream:
        about = stream.readline().removeprefix("#").strip()
        return about, list(csv.DictReader(stream))


def rank(verdict: str) -> int:
    """Return the place of a verdict from best, 0, to worst."""
    return max(place for place, text in enumerate(VERDICTS) if verdict.startswith(text))


def compare(before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]) -> int:
    """Print the rows whose verdict has changed; return how many are worse."""
    old, new = ({row["name"]: row["verdict"] for row in found} for found in (before, after))
    n_worse = 0
    for name, then in old.items():
        now = new.get(name, "script failed: no such row")
        is_worse = rank(now) > rank(then) and not (now.startswith("refused") and not then.startswith("works"))
        n_worse += is_worse
        if then != now:
            print(f"{'WORSE ' if is_worse else ''}{name}\n    before: {then}\n    now:    {now}")
    print(f"{n_worse} of {len(old)} rows are worse.")
    return n_worse


def versions(packages: Iterable[str]) -> str:
    """Return the versions of the library and of packages, on one line."""
    import daynight

    folder = Path(daynight.__file__).parent
    git = ["git", "-C", str(folder)]
    last = ["log", "-1", "--format=%h", "--", "."]  # the last commit that has changed the library
    commit = subprocess.run([*git, *last], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, check=False)
    dirty = " and changes" if changed.stdout.strip() else ""
    others = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", *packages))
    return (
        f"daynight {daynight.__version__} at {commit.stdout.strip() or 'no commit'}{dirty}; {others}; "
        f"Python {sys.version.split()[0]}; {machine.cpu_model()}"
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _work(trial: Trial, sender: Connection, n_bytes: int) -> None:
    """Run a trial, and send what it notes."""
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
    quiet = os.open(os.devnull, os.O_WRONLY)
    if not os.environ.get("ROWS_LOUD"):
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)

    def note(**found: Any) -> None:
        sender.send(found)

    try:
        trial(note)
    except MemoryError:
        note(verdict=f"over the limit: {n_bytes / 2**30:g} GiB")
    except BaseException as error:
        traceback.print_exc()
        is_memory = "alloc" in str(error) and "memory" in str(error)
        note(verdict=f"over the limit: {n_bytes / 2**30:g} GiB" if is_memory else f"script failed: {one_line(error)}")
    finally:
        sender.close()
