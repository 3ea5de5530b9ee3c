"""The command ``python -m daynight.study.tournament``."""

import sys

from daynight.study.tournament.tournament import main
from daynight.support.exits import status_of

if __name__ == "__main__":
    sys.exit(status_of(main))
