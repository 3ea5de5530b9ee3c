"""The end of commands: the exit status, and one line about an error."""

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
    """Run a command, print errors as one line, and return the exit status: 0 if the command succeeded.

    Args:
        do: Function that does the work. Figures go into files: unless MPLBACKEND is set, matplotlib opens no windows.
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
    """Print an error of the output or in the user's own code, and return the exit status; raise all other errors."""
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""  # errors of other files are not about the output
    if isinstance(error, OSError) and ("print(" in line or "flush(" in line):
        _mute()
        if isinstance(error, BrokenPipeError):  # the reader of the output has closed it
            return 128 + signal.SIGPIPE
        print(f"error: the output cannot be written: {error.strerror or error}.", file=sys.stderr)
        return 1
    place = _place(error)
    if not place:
        raise error
    print(f"error: {type(error).__name__}: {error}{place}\nMore: docs/command.rst of daynight.", file=sys.stderr)
    return 1


def _mute() -> None:
    """Discard the buffered standard output, so that Python does not fail to write it at the exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _place(error: BaseException) -> str:
    """Return the place in the user's code, below the current folder, where an error arose; empty text if elsewhere."""
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
