"""How commands end: with an exit status, and a line on what is wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from daynight.errors import DaynightError


def status_of(do: Callable[[], None]) -> int:
    """Do the work of a command, and give its exit status: 0, or another if something is wrong, after a line on it.

    Args:
        do: Does it. Its figures go into files: where nothing else is said, matplotlib opens no windows.
    """
    os.environ.setdefault("MPLBACKEND", "agg")
    try:
        do()
        sys.stdout.flush()
    except DaynightError as error:
        print(f"error: {error}{_place(error)}\n{error.more}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        return _failed(error)
    return 0


def _failed(error: Exception) -> int:
    """Say what went wrong with the output or in the user's own code, and give the exit status; the rest is raised."""
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""  # other errors of files are none of the output
    if isinstance(error, OSError) and ("print(" in line or "flush(" in line):
        _mute()
        if isinstance(error, BrokenPipeError):  # whoever reads the output has enough of it
            return 128 + signal.SIGPIPE
        print(f"error: the output cannot be written: {error.strerror or error}.", file=sys.stderr)
        return 1
    place = _place(error)
    if not place:
        raise error
    print(f"error: {type(error).__name__}: {error}{place}\nMore: docs/command.rst of daynight.", file=sys.stderr)
    return 1


def _mute() -> None:
    """Let what is still held back for the standard output go nowhere, so that Python does not fail on it at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _place(error: BaseException) -> str:
    """Name the last line of the user's own code, in the folder where they are, in which an error arose."""
    here = Path.cwd()
    cause: BaseException | None = error if error.__cause__ is None else error.__cause__
    while cause is not None:
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            path = Path(frame.filename)
            is_own = path.is_relative_to(here) and not {"daynight", "site-packages"} & set(path.relative_to(here).parts)
            if is_own:
                return f" ({path.relative_to(here)}, line {frame.lineno})"
        cause = cause.__cause__
    return ""
