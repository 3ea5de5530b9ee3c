"""How the study's commands begin and end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from daynight.errors import DaynightError


def command(main: Callable[[], None]) -> None:
    """Do the work of a command: an error of the library, or Ctrl-C, is said in a line and is no traceback.

    Args:
        main: Does it.
    """
    os.environ.setdefault("MPLBACKEND", "agg")
    try:
        main()
    except DaynightError as error:
        sys.exit(f"error: {error}\n{error.more}")
    except KeyboardInterrupt:
        print("stopped. The same command goes on.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
