"""Tables of results, as CSV and as text."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from daynight.support import atomic

#: A table: each row is a dict by the names of the columns.
Rows = list[dict[str, Any]]


class Table(Rows):
    """Rows of results, which print as text in columns.

    Args:
        rows: The rows, as `daynight.study.Results.table` makes them.
        by: The settings among the columns.
        values: The results.
    """

    def __init__(self, rows: Rows, by: Sequence[str], values: Sequence[str]) -> None:
        super().__init__(rows)
        self._by, self._common = tuple(by), f"{values[0]} " if len(values) == 1 else ""

    def __str__(self) -> str:
        if not self:
            return "no runs"
        n = self[0].get("comparisons", 0)
        return text(self.for_page()) + (f"\n{n} differences, each with its own interval" if n > 1 else "")

    def for_page(self) -> Rows:
        """Return rows to be read: with both ends of an interval in a column, and three digits of its width.

        If there is one result, only its mean has its name. The number of comparisons is left out.
        """
        return [self._for_page(row) for row in self]

    def _for_page(self, row: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {name: _exact(row[name]) for name in self._by}
        for name, value in row.items():
            what = name.rpartition(" ")[2]
            if name in found or name == "comparisons" or what == "high":
                continue
            n_digits = _n_digits(row, name)
            texts = [] if n_digits is None else [f"{value:.{n_digits}f}"]
            if what == "low":
                whole = name.removesuffix("low")
                texts += [f"{row[f'{whole}high']:.{n_digits}f}"] if texts else []
                name, value = f"{whole}interval", None
            shown = " to ".join(texts).replace("-", "\N{MINUS SIGN}") or value
            found[name.removeprefix(self._common)] = shown
        return found


def _exact(value: Any) -> Any:
    """Return a setting with all digits that tell it from others."""
    return f"{value:.12g}" if isinstance(value, float) and math.isfinite(value) else value


def _n_digits(row: Mapping[str, Any], name: str) -> int | None:
    """Return how many decimal places show three digits of the width of a number's interval; None if it has none."""
    whole = name.removesuffix(" low").removesuffix(" standard error")
    low, high = row.get(f"{whole} low", math.nan), row.get(f"{whole} high", math.nan)
    if math.isnan(low) or math.isnan(high):
        return None
    return 4 if high <= low else min(12, max(0, 2 - math.floor(math.log10(high - low))))


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
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else format(value, style)
    return value
