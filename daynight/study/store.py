"""`Store`: a folder with one small text file for each run that is over."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daynight.errors import DataError
from daynight.storage.identity import digest
from daynight.support import atomic


class Store:
    """Keeps what came of runs: one JSON file a run, named by the run's key, written whole or not at all.

    Stores of several machines are merged by copying their files into one folder.

    Args:
        folder: Where they are; it is made with the first file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def __len__(self) -> int:
        return len(self._paths())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give all entries, in the order of their keys."""
        for path in self._paths():
            yield self._read(path)

    def read(self, key: str) -> dict[str, Any]:
        """Give the entry of a run.

        Raises:
            DataError: If the file is not of that form.
        """
        return self._read(self._path(key))

    def write(self, key: str, entry: dict[str, Any]) -> None:
        """Put an entry down.

        Raises:
            OutputError: If the folder cannot be written to.
        """
        with atomic.whole(self._path(key)) as path:
            path.write_text(json.dumps({"key": key, **entry}, sort_keys=True, allow_nan=False) + "\n")

    def _paths(self) -> list[Path]:
        # Names that begin with a dot are files that were cut short while they were written.
        return sorted(path for path in self.folder.glob("*.json") if not path.name.startswith("."))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = json.loads(path.read_text(), parse_constant=_refuse, parse_float=_finite)
            if not isinstance(entry, dict) or not isinstance(entry.get("result"), dict):
                raise ValueError("it has no result")
            run = entry.get("run")
            if not isinstance(run, dict) or not isinstance(run.get("settings"), dict) or "seed" not in run["settings"]:
                raise ValueError("it does not say what was run")
            if not path.stem == entry.get("key") == digest(run):
                raise ValueError(f"it is the entry of another run, {digest(run)}")
            return entry
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(
                f"{path} is not the entry of a run: {error}. Delete it, and the run is done again."
            ) from error


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no result")
