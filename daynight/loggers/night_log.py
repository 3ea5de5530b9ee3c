"""`log_night`: one line for each night in a file that all nights share."""

from __future__ import annotations

import csv
import datetime
import io
import os
from pathlib import Path
from typing import Any

from daynight.errors import DataNotFoundError, OutputError, SettingError, StateError
from daynight.history import Record
from daynight.loggers.mlflow import Driver
from daynight.support import atomic

_WHEN, _SIZE = ("date", "time"), "file_bytes"
#: Columns that follow from the history. A line with the same values there is of the same night.
_OWN = ("day", "task", "score_before", "score_dusk", "score_dawn", "verdict", "reason", "wake_steps", "night_steps",
        "seconds", "free")  # fmt: skip
NIGHT_COLUMNS = (*_WHEN, *_OWN, _SIZE)


def log_night(path: str | os.PathLike[str], clock: Driver, file: str | os.PathLike[str] | None = None) -> None:
    """Add a line about a clock's last night to a CSV file, unless the file has it.

    The file is written whole or not at all, so a job may be killed at any moment and call this again. Its columns:

    - ``date`` and ``time``: when the line was written, in local time;
    - ``day`` and ``task``: index of the day, from 0, and name of its task;
    - ``score_before``: score, on the training data of the day before they were learnt, of the version that the task
      succeeds; empty if there is none;
    - ``score_dusk`` and ``score_dawn``: score of the task on its test data, before and after the night; after a night
      that was refused there is none;
    - ``verdict`` and ``reason``: ``"accepted"`` or ``"refused"``, and why, if a gate has compared two versions;
    - ``wake_steps`` and ``night_steps``: optimizer steps;
    - ``seconds``: duration of wake and night;
    - ``free``: number of maskable weights that no task owns;
    - ``file_bytes``: size of `file`; empty without one.

    Args:
        path: The log, such as ``"nights.csv"``, which is made if there is none.
        clock: The `Clock` whose night is over. With a checkpoint, call this while its folder is there.
        file: The file to which the agent was saved after the night.

    Raises:
        SettingError: If `clock` is not a clock, or `path` is another file than a log of nights.
        StateError: If no night of the clock is over.
        DataNotFoundError: If there is no `file`.
        OutputError: If the log cannot be read or written.
    """
    log = atomic.file_named(path)
    line = {**_line_of(clock), _SIZE: "" if file is None else _size_of(Path(file))}
    text = _text_of(log)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if any(all(row[name] == line[name] for name in _OWN) for row in rows):
        return
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, NIGHT_COLUMNS, lineterminator="\n")
    if not text:
        writer.writeheader()
    writer.writerow(line)
    text += "" if not text or text.endswith("\n") else "\n"  # as an editor may leave it
    with atomic.replacing(log) as temporary:
        temporary.write_text(text + written.getvalue(), encoding="utf-8", newline="")


def _line_of(clock: Any) -> dict[str, str]:
    """Return the line of a clock's last night, without the size of a file."""
    if not all(hasattr(clock, name) for name in ("history", "stream", "first_day")):
        raise SettingError(f"log_night: clock must be a Clock, not {clock!r}.")
    nights = clock.history.select(kind="day")
    if not nights:
        raise StateError("log_night: no night of the clock is over. Call it after clock.run() or clock.step().")
    night: Record = nights[-1]
    tests = {r.phase: r for r in clock.history.select(kind="evaluation", day=night.day) if _is_of_night(r)}
    verdict = "" if night.accepted is None else "accepted" if night.accepted else "refused"
    now = datetime.datetime.now()
    found = {
        "date": now.date().isoformat(), "time": now.time().isoformat("seconds"), "day": night.day,
        "task": clock.stream[night.day - clock.first_day].name, "verdict": verdict, "reason": night.gate_reason,
        **{f"score_{phase}": _short(tests[phase].score) if phase in tests else None
           for phase in ("before", "dusk", "dawn")},
        "wake_steps": night.wake_steps, "night_steps": night.night_steps,
        "seconds": f"{night.elapsed_seconds or 0.0:.6f}", "free": night.free,
    }  # fmt: skip
    return {name: "" if value is None else str(value) for name, value in found.items()}


def _is_of_night(record: Record) -> bool:
    """Return whether an evaluation is of the night's own task, or of the version that it succeeds."""
    return record.phase == "before" or record.task == record.day


def _short(score: float | None) -> str:
    return "" if score is None else f"{score:.6g}"


def _size_of(file: Path) -> str:
    try:
        return str(file.stat().st_size)
    except OSError as error:
        raise DataNotFoundError(
            f"log_night: there is no file {file}. Save the agent before its night is logged, or leave file= out.",
            page="nightly",
        ) from error


def _text_of(log: Path) -> str:
    """Return what a log has so far; nothing if there is none."""
    try:
        text = log.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise OutputError(f"cannot read {log}: {error.strerror or error}.") from error
    except UnicodeDecodeError:
        text = "\0"
    if text and text.splitlines()[0] != ",".join(NIGHT_COLUMNS):
        raise SettingError(f"log_night: {log} exists and is not a log of nights. Name another file.", page="nightly")
    return text
