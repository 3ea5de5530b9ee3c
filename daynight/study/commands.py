"""What ``python -m daynight.study.paper`` and ``... .tournament`` share: options, the study, and the written files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daynight.data.tasks import TaskStream
from daynight.study import tables
from daynight.study.paper import drawing, setups
from daynight.study.paper.setups import Fetch
from daynight.study.runner import Study
from daynight.study.tables import Rows
from daynight.support import atomic, checks


def new_parser(name: str, about: str | None, out: str, runs: str) -> argparse.ArgumentParser:
    """Return a parser with the options that both commands have.

    Args:
        name: Name of the command's module, and of the folder of its results.
        about: The description of the command.
        out: What is written into the folder of results.
        runs: How the runs are stored.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m daynight.study.{name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--jobs", type=int, default=1, metavar="J", help="number of processes at a time (1)")
    add("--device", default="cpu", metavar="D", help="device of the runs, such as cuda; jobs share it (cpu)")
    add("--quick", action="store_true", help="few images, epochs and seeds: ends in minutes, and only shows that "
        "everything runs")  # fmt: skip
    add("--data", choices=("full", "sample", "auto"), help="all images (default), or MNIST's sample of 5,000")
    add("--out", default=name, metavar="FOLDER", help=f"folder for {out} ({name})")
    add("--store", metavar="FOLDER", help=f"folder for the results of runs{runs} (OUT/runs)")
    add("--done", action="store_true", help="draw from the runs that are in the store, and do none")
    add("--states", metavar="FOLDER", help="folder for checkpoints of unfinished runs, and for first dusks that runs "
        "share; delete it at the end (none)")  # fmt: skip
    return parser


def check(settings: argparse.Namespace) -> None:
    """Check the common options, and make the folder of results.

    Raises:
        SettingError: If a value is not valid.
        OutputError: If the folder cannot be written to.
    """
    checks.integer("--jobs", settings.jobs, least=1)
    checks.usable_device(settings.device)
    atomic.check_folder(settings.out)
    if settings.store is not None and not settings.done and not Path(settings.store).exists():
        print(
            f"{settings.store} does not exist: none of the runs are done yet, and their results go there.", flush=True
        )


def data_of(settings: argparse.Namespace) -> str | None:
    """Return where the images come from (see `daynight.split_mnist`); None requires all of them."""
    return settings.data or ("auto" if settings.quick else None)


def store_of(settings: argparse.Namespace) -> Path:
    """Return the folder of the runs."""
    return Path(settings.store or Path(settings.out) / "runs")


def study_of(settings: argparse.Namespace, part: str = "") -> Study:
    """Return the study that does the runs.

    Args:
        settings: The options.
        part: Name of the folders within the store's and the states' folder; with ``""``, these two are used directly.
    """
    states = None if settings.states is None else Path(settings.states) / part
    return Study(store_of(settings) / part, jobs=settings.jobs, progress=True, states=states, device=settings.device)


def fetch_of(settings: argparse.Namespace, stream: Callable[[], TaskStream], data: str | None, part: str = "") -> Fetch:
    """Return what does the missing runs, or, with ``--done``, only reads those that are there.

    Args:
        settings: The options.
        stream: A function that returns the tasks.
        data: Digest of their data, if it is known.
        part: As in `study_of`.
    """
    study = study_of(settings, part)
    return setups.reading(setups.of_data(study.store, data)) if settings.done else setups.doing(stream, study, data)


def write(settings: argparse.Namespace, name: str, figure: Any, rows: Rows) -> None:
    """Write a figure (PDF and PNG) and a table (CSV), and print the table.

    Args:
        settings: The options.
        name: Name of the files, without an ending.
        figure: The figure, which is closed afterwards.
        rows: The table.

    Raises:
        OutputError: If a file cannot be written.
    """
    path = Path(settings.out) / (name + ("_quick" if settings.quick else ""))
    drawing.save(figure, path.parent, path.name)
    tables.write(path.with_name(f"{path.name}.csv"), rows)
    print(tables.text(rows))
    print(f"Written: {path}.pdf, .png and .csv; the runs are in {store_of(settings)}.")
