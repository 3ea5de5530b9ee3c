"""`log_night` and `log_failure`: one line for each night in a file that all nights share."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from daynight.errors import DataNotFoundError, OutputError, SettingError, StateError
from daynight.history import Record
from daynight.loggers.mlflow import Driver
from daynight.support import atomic, checks

_WHEN, _SIZE = ("date", "time"), "file_bytes"
#: Columns that say which night it was, and what has happened. A line with the same values there is of the same night.
_OWN = ("name", "day", "task", "n_train", "score_before", "score_dusk", "score_dawn", "verdict", "reason", "wake_steps",
        "night_steps", "seconds", "free")  # fmt: skip
NIGHT_COLUMNS = (*_WHEN, *_OWN, _SIZE)


def log_night(
    path: str | os.PathLike[str], clock: Driver, file: str | os.PathLike[str] | None = None, *, name: object = ""
) -> None:  # fmt: skip
    """Add a line about a clock's last night to a CSV file, unless the file has it.

    The file is written whole or not at all, so a job may be killed at any moment and call this again. Two processes
    that write to one log at the same moment need a lock of yours, or one of the lines is lost. Its columns:

    - ``date`` and ``time``: when the line was written, in local time;
    - ``name``: as given, such as the date of the night's data;
    - ``day`` and ``task``: index of the day, from 0, and name of its task;
    - ``n_train``: number of training examples of the day, without those held out;
    - ``score_before``: score, on the training data of the day before they were learnt, of the version that the task
      succeeds; empty if there is none;
    - ``score_dusk`` and ``score_dawn``: score of the task on its test data, before and after the night; after a night
      that was refused there is none;
    - ``verdict`` and ``reason``: ``"accepted"`` or ``"refused"``, and why, if a gate has compared two versions; or
      ``"failed"``, and the error (see `log_failure`);
    - ``wake_steps`` and ``night_steps``: optimizer steps;
    - ``seconds``: duration of wake and night;
    - ``free``: number of maskable weights that no task owns;
    - ``file_bytes``: size of `file`; empty without one.

    ``score_dusk`` and ``score_dawn`` of a line compare, since data and task are the same: their difference is what the
    night has cost or gained. ``score_before`` is of another version on other data, so it compares with that of other
    lines alone: it says how well each version has served the day after it. Which of two versions is better is the
    gate's to say, on the same held-out examples.

    Args:
        path: The log, such as ``"nights.csv"``, which is made if there is none.
        clock: The `Clock` whose night is over. With a checkpoint, call this while its folder is there.
        file: The file to which the agent was saved after the night.
        name: What the night is called: a text, a date or a number.

    Raises:
        SettingError: If `clock` is not a clock, or `path` is another file than a log of nights.
        StateError: If no night of the clock is over.
        DataNotFoundError: If there is no `file`.
        OutputError: If the log cannot be read or written.
    """
    log = atomic.file_named(path)
    _add(log, {**_line_of(clock), "name": str(name), _SIZE: "" if file is None else _size_of(Path(file))})


@contextlib.contextmanager
def log_failure(path: str | os.PathLike[str], name: object = "") -> Iterator[None]:
    """Add a line to a log of nights if an error ends the ``with`` block, and let the error go on.

    For a whole nightly job, from the reading of its data on: ``with log_failure("nights.csv", date): ...``. The line
    has the columns of `log_night`: the name, the verdict ``"failed"``, and the first line of the error as the reason. A
    night that fails again with the same error has one line. Ctrl-C, signals and `SystemExit` are no failures: the job
    resumes from its checkpoint.

    If the line cannot be written then, there is a warning.

    Args:
        path: The log, such as ``"nights.csv"``, which is made if there is none. It is looked at before the block.
        name: What the night is called: a text, a date or a number.

    Raises:
        SettingError: If `path` is another file than a log of nights.
        OutputError: If the log cannot be read.
    """
    log = atomic.file_named(path)
    _text_of(log)
    try:
        yield
    except Exception as error:
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        said = "".join(sign if sign.isprintable() else "?" for sign in first)  # any file and reader takes it
        try:
            _add(log, {**dict.fromkeys(NIGHT_COLUMNS, ""), "name": str(name), "verdict": "failed", "reason": said})
        except (OutputError, SettingError) as failed:
            warnings.warn(f"the night {name} failed, and the log of nights does not say so: {failed}", stacklevel=3)
        raise


def _add(log: Path, line: Mapping[str, str]) -> None:
    """Add a line to a log, with date and time, unless the log has a line of the same night."""
    text, now = _text_of(log), datetime.datetime.now()
    rows: list[dict[str, str]] = list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    if any(all(row.get(name, "") == line[name] for name in _OWN) for row in rows):
        return
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, NIGHT_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, {**line, "date": now.date().isoformat(), "time": now.time().isoformat("seconds")}])
    with atomic.replacing(log) as temporary:
        temporary.write_text(written.getvalue(), encoding="utf-8", newline="")


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
    found = {
        "day": night.day, "task": clock.stream[night.day - clock.first_day].name, "n_train": night.n_train,
        "verdict": verdict, "reason": night.gate_reason,
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
        text = log.read_bytes().decode("utf-8-sig")  # with or without the mark that spreadsheets write
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise OutputError(f"cannot read {log}: {error.strerror or error}.") from error
    except UnicodeDecodeError:
        text = "\0"
    header = text.splitlines()[0].split(",") if text else list(NIGHT_COLUMNS)
    if header[: len(_WHEN)] != list(_WHEN) or not set(header) <= set(NIGHT_COLUMNS):  # an older log has fewer columns
        unknown = [name for name in header if name not in NIGHT_COLUMNS][:3]
        why = f"it has other columns ({', '.join(map(checks.shown, unknown))})" if unknown else "its columns are moved"
        raise SettingError(
            f"{log} exists and is not a log of nights: {why}. Name another file, or take out what was added.",
            page="nightly",
        )
    return text
