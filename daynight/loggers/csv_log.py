"""`CSVLogger`: the records of a run in a CSV file, a line at a time."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from daynight.errors import OutputError, SettingError
from daynight.history import COLUMNS, Event, History, Record, cells_of, columns_of


class CSVLogger:
    """Writes each record into a CSV file, a line at a time, in the form of `History.to_csv`.

    With each record the file has the same content as the clock's history, also after a checkpoint was restored, a day
    was abandoned, or a line could not be written. If the file is the log of another run, that log is renamed at the
    first record: ``run.csv`` to the first free name of ``run-1.csv``, ``run-2.csv`` and so on.

    Args:
        path: The file. It must be new, or a log of daynight.

    Raises:
        SettingError: If `path` is not valid, or the file exists and is not a daynight log.
        OutputError: If the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not Path(path).name:
            raise SettingError(f"CSVLogger: path must be the path of a file, such as 'run.csv', not {path!r}.")
        self.path = Path(path).absolute()  # the program may change its folder
        self._history, self._is_begun = History(), False
        self._n, self._size = -1, -1  # records and bytes that the file should have
        self._columns: tuple[str, ...] = ()  # of the file

    def begin(self, history: History) -> None:
        """Begin to log a history.

        Args:
            history: The clock's history, to which records are added.
        """
        has_log = self.path.is_file()
        if has_log and not _is_header(self._start()):
            raise SettingError(f"CSVLogger: {self.path} exists and is not a daynight log. Name another file.")
        self._history, self._is_begun, self._n = history, True, -1
        if len(history) or not has_log:  # a file that cannot be written is noticed now
            self._rewrite()

    def __call__(self, event: Event) -> None:
        """Write a record."""
        if not isinstance(event, Record):
            return
        if not self._is_begun:
            self.begin(self._history)
        if self._history.last != event:  # no clock has added the event
            self._history.append(event)
        self.several([event])

    def several(self, records: Sequence[Record]) -> None:
        """Write the last records of the history, at once.

        Args:
            records: The records.
        """
        is_next = self._is_begun and len(self._history) == self._n + len(records) and self._is_whole()
        if not is_next or not set(columns_of(records)) <= set(self._columns):
            self._rewrite()
            return
        try:
            with self.path.open("a", newline="") as stream:
                csv.writer(stream).writerows(cells_of(record, self._columns) for record in records)
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror or error}.") from error
        self._note()

    def _is_whole(self) -> bool:
        """Return whether the file is as this logger left it."""
        try:
            return self.path.stat().st_size == self._size
        except OSError:
            return False

    def _rewrite(self) -> None:
        if self._n < 0 and self.path.is_file():
            self._rename_other()
        self._history.to_csv(self.path)
        self._columns = columns_of(self._history)
        self._note()

    def _rename_other(self) -> None:
        """Rename the file if it is the log of another run, which begins with another record."""
        try:
            with self.path.open(newline="") as stream:
                header, *first = [*itertools.islice(csv.reader(stream), 2)] or [[]]
            cells = [str(value) for value in cells_of(next(iter(self._history)), [n for n in header if n in COLUMNS])]
            if first and first[0] != cells:
                names = (self.path.with_name(f"{self.path.stem}-{n}{self.path.suffix}") for n in itertools.count(1))
                self.path.rename(next(name for name in names if not name.exists()))
        except OSError as error:
            raise OutputError(f"cannot rename {self.path}: {error.strerror or error}.") from error

    def _note(self) -> None:
        self._n, self._size = len(self._history), self.path.stat().st_size

    def _start(self) -> str:
        with self.path.open(errors="replace") as stream:
            return stream.readline(10_000).rstrip("\n")


def _is_header(line: str) -> bool:
    """Return whether a line is the first one of a log."""
    names = line.split(",")
    least = columns_of(())
    return not line or (names[: len(least)] == list(least) and set(names) <= set(COLUMNS))
