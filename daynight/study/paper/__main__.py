"""The command ``python -m daynight.study.paper``."""

import sys

from daynight.study.paper.experiments import main
from daynight.support.exits import status_of

if __name__ == "__main__":
    sys.exit(status_of(main))
