"""Where a number of a study comes from."""

from pathlib import Path

import pytest

from daynight import OneShot, UniformCycles
from daynight.cli.main import main
from daynight.errors import DataNotFoundError, SettingError
from daynight.study import Results, Store, Study, explaining, grid
from daynight.testing import toy_stream


def scored(stream, *, seed, policy, p=0.5):
    return {"score": p + seed / 100 + (0.1 if policy.n == 3 else 0), "n_steps": 1234, "name": "x"}


@pytest.fixture(name="store")
def _store(tmp_path):
    runs = grid(scored, toy_stream, seeds=range(3), policy=[UniformCycles(1), UniformCycles(3)], p=[0.5, 0.75])
    Study(tmp_path / "runs").run(runs)
    return tmp_path / "runs"


def test_a_number_is_explained_by_runs_files_and_settings(store, capsys):
    explaining.main([str(store), "0.61"])
    shown = capsys.readouterr().out
    assert shown.startswith("score, mean: 0.61 ± 0.0058")
    assert "    policy = UniformCycles(n=3)\n" in shown
    assert "    p = 0.5\n" in shown
    keys = {entry["run"]["settings"]["seed"]: entry["key"] for entry in
            explaining.filtered(Results(Store(store)), ["policy.n=3", "p=0.5"])}  # fmt: skip
    for seed, value in ((0, 0.6), (1, 0.61), (2, 0.62)):
        assert f"    seed {seed}: {value} in 0 s on " in shown
        assert str(store / f"{keys[seed]}.json") in shown
    Store(store).pack()
    explaining.main([str(store), "0.61"])
    lines = (store / "runs.jsonl").read_text().splitlines()
    line = next(number for number, line in enumerate(lines, start=1) if keys[1] in line)
    assert f"{store / 'runs.jsonl'}, line {line}\n" in capsys.readouterr().out


def test_a_mean_over_the_first_seeds_is_found_after_those_over_all(store, capsys):
    explaining.main([str(store), "0.505", "p=0.5", "policy.n=1"])
    shown = capsys.readouterr().out
    assert shown.startswith("score, mean of the first 2 of 3 runs by seed: 0.505")
    assert "    seed 1:" in shown
    assert "    seed 2:" not in shown
    explaining.main([str(store), "0.51"])  # p = 0.5 and N = 1: the mean, and a seed; of the first two seeds it is 0.505
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("score")] == [
        "score, mean: 0.51 ± 0.0058 (interval 0.4852 to 0.5348, n = 3)",
        "score, seed 1, one of runs with the mean: 0.51 ± 0.0058 (interval 0.4852 to 0.5348, n = 3)",
    ]


def test_runs_with_the_fewest_settings_come_first(store, capsys):
    def special(stream, *, seed, policy, a=0):
        return {"score": 0.5 + seed / 100}

    Study(store).run(grid(special, toy_stream, seeds=range(3), policy=OneShot(), a=[1]))
    Study(store).run(grid(special, toy_stream, seeds=range(3), policy=OneShot()))
    explaining.main([str(store), "0.51", "policy=OneShot()"])
    first, second = capsys.readouterr().out.split("score, mean:")[1:]
    assert "    a = 1\n" not in first
    assert "    a = 1\n" in second


@pytest.mark.parametrize("filters", [["seed=0,2"], ["seed=0", "seed=2"], ["seed=2,0", "seed=0"]])
def test_a_filter_may_have_several_values(store, filters):
    runs = explaining.filtered(Results(Store(store)), ["policy.n=3", "p=0.75", *filters])
    assert sorted(entry["run"]["settings"]["seed"] for entry in runs) == [0, 2]
    assert len(explaining.filtered(Results(Store(store)), ["policy=UniformCycles(n=3)", *filters])) == 4


def test_text_is_not_what_comes_after_the_point_of_a_number(tmp_path):
    Study(tmp_path).run(grid(scored, toy_stream, seeds=range(2), policy=UniformCycles(1), p=[0.1, 0.5, 1, 2.5]))
    results = Results(Store(tmp_path))
    assert {entry["run"]["settings"]["p"] for entry in results.select(p="1")} == {1}
    with pytest.raises(SettingError, match=r"no run has p=5\. Of p there are 0\.1, 0\.5, 1, 2\.5\."):
        results.select(p="5")


def test_a_negative_number_is_found_with_the_sign_that_tables_print(tmp_path, capsys):
    Study(tmp_path).run(grid(scored, toy_stream, seeds=range(2), policy=UniformCycles(1), p=-0.5))
    for sign in "-\N{MINUS SIGN}":
        explaining.main([str(tmp_path), "--", f"{sign}0.495"])
        assert capsys.readouterr().out.startswith("score, mean: -0.495 ")


def test_a_default_that_is_written_out_does_not_part_runs(tmp_path, capsys):
    study = Study(tmp_path)
    study.run(grid(scored, toy_stream, seeds=range(2), policy=UniformCycles(1)))
    study.run(grid(scored, toy_stream, seeds=range(2, 4), policy=UniformCycles(1), p=[0.5]))
    explaining.main([str(tmp_path), "0.515"])
    assert capsys.readouterr().out.startswith("score, mean: 0.515 ")


def test_runs_without_a_number_are_said_to_have_none(tmp_path):
    def named(stream, *, seed, policy):
        return {"name": "x"}

    Study(tmp_path).run(grid(named, toy_stream, seeds=range(2), policy=OneShot()))
    with pytest.raises(SettingError, match="2 runs have these settings, and no result that is a number"):
        explaining.main([str(tmp_path), "seed=0,1"])


def test_differences_are_from_one_value(store):
    with pytest.raises(SettingError, match=r"no run has p=0\.5,0\.75\."):
        explaining.found_as(Results(Store(store)), "p=0.5,0.75")


def test_each_of_several_values_must_be_there(store):
    with pytest.raises(SettingError, match=r"no run has seed=7\. Of seed there are 0, 1, 2\."):
        explaining.filtered(Results(Store(store)), ["seed=0,7"])


@pytest.mark.parametrize(
    ("value", "text", "is_shown"),
    [
        (0.98912, "0.989", True),
        (0.98912, "0.9891", True),
        (0.98912, "0.9892", False),
        (0.98912, "98.9%", True),
        (0.98912, "1.09", True),
        (0.98912, "1.09 %", True),
        (0.98912, "0.0109", True),
        (0.98912, "1.1%", True),
        (0.98912, "1.2%", False),
        (0.99159, "0.84", True),
        (0.99159, "0.84%", True),
        (0.99159, "0.85", False),
        (0.0084, "0.84", True),
        (84.0, "0.84", False),
        (1.84, "84", False),
        (1234.0, "1234", True),
        (1234.0, "12", False),
        (-0.0123, "-0.012", True),
        (0.00012, "1.2e-4", True),
    ],
)
def test_numbers_are_found_as_they_are_printed(value, text, is_shown):
    assert explaining.is_shown_as(value, text) == is_shown


def test_filters_choose_runs_and_single_runs_are_found(store, capsys):
    explaining.main([str(store), "0.52", "policy.n=1"])
    shown = capsys.readouterr().out
    assert shown.startswith("score, seed 2, one of runs with the mean: 0.51")
    assert "seed 1:" not in shown
    explaining.main([str(store), "policy=UniformCycles(n=3)", "p=0.75"])
    assert capsys.readouterr().out.startswith("n_steps, mean: 1234")
    assert main(["study", "explain", str(store), "1234"]) == 0
    assert capsys.readouterr().out.count("n_steps, mean") == 4


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (["0.1234"], "no mean and no run is 0.1234, of 12 runs"),
        (["policy.n=5"], "no run has policy.n=5. Of policy.n there are 1, 3."),
        (["altitude=3"], "no run has a setting 'altitude'"),
        (["soon"], "'soon' is not a number, such as 0.9891"),
        (["0.5", "0.6"], "explain one number at a time, not 0.5 and 0.6"),
        (["=3"], "a filter must be NAME=VALUE"),
    ],
)
def test_what_explains_nothing_is_said(store, what, message):
    with pytest.raises(SettingError) as caught:
        explaining.main([str(store), *what])
    assert message in str(caught.value)


def test_a_folder_without_runs_is_said(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataNotFoundError, match="there are no runs in"):
            explaining.main([str(folder), "1"])


def test_the_documented_report_works_on_the_committed_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    committed = str(Path(__file__).parents[2] / "docs" / "results" / "study" / "mnist")
    line = ["--by", "method", "policy.n", "free_at_end", "--values", "mean_accuracy", "--out", "study.html"]
    assert main(["report", committed, *line]) == 0
    assert "The runs also differ in policy, training, restart" in capsys.readouterr().out
    text = Path("study.html").read_text()
    assert "recommended_policy()" in text
    assert "are too many to tell apart. Select some of them." in text
    where = ["--where", "method=packnet", "free_at_end=0.99", "policy.n=1", "training=Training()", "ranking=layer"]
    assert main(["report", committed, *where, "--by", "restart", "biases", "--values", "mean_accuracy",
                 "--against", "restart=zero"]) == 0  # fmt: skip
    assert "differences" in Path("report.html").read_text()


def test_a_described_value_is_what_against_takes(store):
    assert explaining.found_as(Results(Store(store)), "policy=UniformCycles(n=3)")[0] == "policy"
    name, value = explaining.found_as(Results(Store(store)), "policy.n=3")
    assert (name, value) == ("policy.n", 3)
    assert not Results(Store(store)).select(policy=OneShot())
