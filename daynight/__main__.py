"""``python -m daynight`` is the command ``daynight``."""

import sys

from daynight.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
