"""Tables of results, as CSV and as text."""

from __future__ import annotations

import csv
import math
import os
from typing import Any

from daynight.support import atomic

#: A table: each row is a dict by the names of the columns.
Rows = list[dict[str, Any]]


def write(path: str | os.PathLike[str], rows: Rows) -> None:
    """Write rows as CSV, with six digits per number and an empty cell for NaN.

    Args:
        path: The file.
        rows: One or more, all with the same columns.

    Raises:
        OutputError: If the file cannot be written.
    """
    with atomic.replacing(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: _number(value, ".6g") for key, value in row.items()} for row in rows)


def text(rows: Rows) -> str:
    """Return rows as text in columns, with four digits per number and an empty cell for NaN.

    Args:
        rows: One or more, all with the same columns.
    """
    table = [list(rows[0]), *([str(_number(value, ".4g")) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table)


def _number(value: Any, style: str) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else format(value, style)
    return value
