"""Files whose digest is right and whose values do not fit."""

import subprocess
import sys
from pathlib import Path


def test_files_whose_values_do_not_fit_are_refused_or_as_good():
    script = Path(__file__).parents[2] / "benchmarks" / "inconsistent_files.py"
    found = subprocess.run([sys.executable, script, "--files", "100"], capture_output=True, check=False, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "100 files, 0 neither refused nor as good" in found.stdout
