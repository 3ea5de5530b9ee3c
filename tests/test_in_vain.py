"""The benchmark of prunes that keep no weight in vain, on few images."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def in_vain(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("in_vain")


def test_rows_are_added_once_and_compared(in_vain, tmp_path, capsys, monkeypatch):
    path = tmp_path / "in_vain.csv"
    few = ["--p", "0.99", "--nights", "one", "--epochs", "0.25", "--data", "sample", "--out", str(path)]
    monkeypatch.setattr(sys, "argv", ["in_vain.py", "--seeds", "1", *few])
    in_vain.main()
    first = path.read_text()
    head, *table = first.splitlines()[1:]
    assert head == ",".join(in_vain.COLUMNS)
    assert [line.split(",")[:6] for line in table] == [
        ["0.99", "one", "zero", name, "0.25", "100"] for name in ("False", "True")
    ]
    before, after = (line.split(",")[9].split() for line in table)
    assert len(before) == len(after) == 5
    assert sum(map(int, before)) > 0
    assert sum(map(int, after)) == 0
    monkeypatch.setattr(sys, "argv", ["in_vain.py", "--seeds", "2", *few])
    in_vain.main()
    assert path.read_text().startswith(first)
    assert len(path.read_text().splitlines()) == 6
    assert "the first minus the second" in capsys.readouterr().out
