"""Tables of lives: CSV files to which each life adds a row as it ends, so that a command that was cut off goes on."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import machine

Row = Mapping[str, Any]


def complete(
    path: Path, source: str, columns: Sequence[str], wanted: Iterable[Row], live: Callable[[Any], Row]
) -> list[dict[str, str]]:
    """Live the lives that a table does not have yet, and return all its rows.

    Args:
        path: The table. The first line of a new one names the machine, the versions and the data.
        source: The data.
        columns: All columns.
        wanted: The settings of each life, by column.
        live: Function of the settings of a life to its other columns.
    """
    if not path.exists():
        with path.open("w", newline="") as file:
            file.write(f"# {machine.line(machine.describe())}; {machine.named(source)}\n")
            csv.DictWriter(file, columns, lineterminator="\n").writeheader()
    for settings in wanted:
        texts = {name: str(value) for name, value in settings.items()}
        if any(texts.items() <= row.items() for row in read(path)):
            continue
        row = texts | dict(live(settings))
        with path.open("a", newline="") as file:
            csv.DictWriter(file, columns, lineterminator="\n").writerow(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return read(path)


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))
