"""The paper's figures and tables, from toy runs."""

import csv
import math
import re
import runpy
import shlex
import sys
from pathlib import Path

import attrs
import matplotlib.pyplot as plt
import pytest

from daynight import Training
from daynight.errors import DataError, DataNotFoundError, SettingError
from daynight.study import Store, Study, Summary, grid, packnet, tables
from daynight.study.matching import match
from daynight.study.paper import drawing, setups
from daynight.study.paper import experiments as paper_module
from daynight.study.paper.open_questions import CHOICES
from daynight.study.paper.setups import Setup, doing, full, quick, reading, source
from daynight.study.tournament import tournament
from daynight.testing import toy_network, toy_stream


@pytest.fixture(name="setup")
def toy_setup():
    return Setup(
        dataset="mnist", stream=toy_stream, network=toy_network, training=Training(batch_size=10), epochs=2.0,
        budget=2.0, prunings=(0.4, 0.6), curve=(0.3, 0.6), cycles=(1, 2, 3), unbudgeted=(1, 2), n_seeds=2,
        n_cycle_seeds=3, tasks=("a", "b", "c"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a folder for the runs of all figures, which share many of them."""
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize("what", sorted(paper_module.FIGURES))
def test_each_figure_is_the_same_from_runs_and_from_the_store(setup, what, store, tmp_path):
    study = Study(store)
    _, rows = paper_module.FIGURES[what](setup, source(setup, doing(setup.stream, study)))
    n_runs = len(study.store)
    _, again = paper_module.FIGURES[what](setup, source(setup, reading(study.store)))
    assert rows == again
    assert n_runs == len(study.store)
    tables.write(tmp_path / "t.csv", rows)
    with (tmp_path / "t.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == len(rows)
    n_rows = {"figure1": 6, "figure2": 6, "figure3": 6, "figure4": 4, "table1": 4, "choices": 2 * len(CHOICES),
              "dips": 4, "optimizer": 6, "baselines": 8}  # fmt: skip
    assert len(rows) == n_rows[what]


def test_runs_that_are_not_in_a_store_are_missed(setup):
    with pytest.raises(DataError, match="the store has no runs of packnet"):
        paper_module.figure2(setup, source(setup, reading([])))


def test_a_part_of_the_runs_is_refused_where_it_must_be_whole(setup, tmp_path):
    study = Study(tmp_path)
    doing(setup.stream, study)(packnet, [0], **setup.choices([0.4], [1]))
    assert len(reading(study.store)(packnet, [0, 1], **setup.choices([0.4], [1, 2]))) == 1
    with pytest.raises(DataError, match="the store has 1 runs of packnet"):
        reading(study.store, is_whole=True)(packnet, [0, 1], **setup.choices([0.4], [1]))
    assert len(reading(study.store, is_whole=True)(packnet, [0], **setup.choices([0.4], [1]))) == 1


def test_dips_share_the_runs_of_figure_2(setup, tmp_path):
    study = Study(tmp_path)
    results = source(setup, doing(setup.stream, study))
    paper_module.figure2(setup, results)
    n_runs = len(study.store)
    _, rows = paper_module.FIGURES["dips"](setup, results)
    assert len(study.store) == 2 * n_runs
    # What is gained by keeping the state is the difference of those means, and of the same runs.
    _, gains = paper_module.FIGURES["optimizer"](setup, results)
    assert len(study.store) == 2 * n_runs
    assert sum(row["runs"] for row in rows) == 2 * sum(row["seeds"] for row in gains) == 2 * n_runs
    assert all(row["gain of kept"] == pytest.approx(row["kept"] - row["cleared"]) for row in gains)


def test_numbers_of_cycles_with_fewer_seeds_are_no_part_of_a_dip(setup, tmp_path):
    study = Study(tmp_path)
    results = source(setup, doing(setup.stream, study))
    for is_kept in (False, True):
        training = attrs.evolve(setup.training, carry_optimizer=is_kept)
        results("PackNet", 2, [0.4], [1, 3], training=training)
        results("PackNet", 1, [0.4], [2], training=training)
        results("PackNet", 1 + (not is_kept), [0.6], [1, 2], training=training)
    wide = attrs.evolve(setup, prunings=(0.4, 0.6), cycles=(1, 2, 3))
    _, rows = paper_module.FIGURES["dips"](wide, source(wide, reading(study.store)))
    assert [(row["p"], row["N"], row["runs"]) for row in rows] == [(0.4, "1 3", 4)] * 2 + [(0.6, "1 2", 4)]
    assert {row["shown"] for row in rows} == {"too few N"}
    # Of three seeds with the state cleared and two with it kept, two are compared, in the means as well.
    results("PackNet", 3, [0.4], [3], training=attrs.evolve(setup.training, carry_optimizer=False))
    _, gains = paper_module.FIGURES["optimizer"](wide, source(wide, reading(study.store)))
    assert [(row["p"], row["N"], row["seeds"]) for row in gains] == [(0.4, 3, 2)]
    assert gains[0]["gain of kept"] == pytest.approx(gains[0]["kept"] - gains[0]["cleared"])
    alone = attrs.evolve(wide, prunings=(0.6,))
    assert len(paper_module.FIGURES["dips"](alone, source(alone, reading(study.store)))[1]) == 1
    with pytest.raises(DataError, match="no N with two seeds of both states"):
        paper_module.FIGURES["optimizer"](alone, source(alone, reading(study.store)))
    few = attrs.evolve(wide, n_cycle_seeds=1)
    with pytest.raises(DataError, match="no N with two seeds"):
        paper_module.FIGURES["dips"](few, source(few, reading(study.store)))


def test_lengths_of_unbudgeted_nights_grow_with_n(setup, tmp_path):
    study = Study(tmp_path)
    paper_module.figure4(setup, source(setup, doing(setup.stream, study)))
    steps = {entry["run"]["settings"]["policy"]["n"]: entry["result"]["n_steps"] for entry in study.store}
    assert steps == {1: 3 * (8 + 8), 2: 3 * (8 + 16)}


def test_the_command_writes_figure_table_and_runs(monkeypatch, setup, tmp_path, capsys):
    monkeypatch.setattr(setups, "full", lambda *_: setup)
    paper_module.main(["figure2", "--out", str(tmp_path), "--seeds", "2", "--cycles", "1", "2", "--prunings", "0.5"])
    assert {path.name for path in tmp_path.iterdir()} == {
        "figure2_mnist.pdf", "figure2_mnist.png", "figure2_mnist.csv", "runs"}  # fmt: skip
    assert len(list((tmp_path / "runs").iterdir())) == 4
    assert f"the runs are in {tmp_path / 'runs'}." in capsys.readouterr().out
    for what, option in (("table1", ["--biases", "freeze-after-first"]), ("figure1", ["--cycles", "2"]),
                         ("figure2", ["--tolerance", "0.1"])):  # fmt: skip
        with pytest.raises(SettingError, match=f"{option[0]} is for .* and .*, and has no effect on {what}"):
            paper_module.main([what, *option, "--out", str(tmp_path)])
    for what in ("dips", "optimizer"):
        with pytest.raises(SettingError, match="--seeds must be a whole number from 2 up, not 1"):
            paper_module.main([what, "--seeds", "1", "--out", str(tmp_path)])
    with pytest.raises(SettingError, match=r"--cycles must be three numbers or more for dips, .* not \(1, 2\)"):
        paper_module.main(["dips", "--cycles", "1", "2", "2", "--out", str(tmp_path)])
    with pytest.raises(SettingError, match=r"free_at_end must be above 0 and below 1, not 1\.5"):
        paper_module.main(["figure1", "--prunings", "1.5", "--out", str(tmp_path)])


COMMITTED = Path(__file__).parents[2] / "docs" / "results" / "study"


@pytest.fixture(name="nowhere")
def _nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("DAYNIGHT_DATA", str(tmp_path / "nowhere"))


@pytest.mark.usefixtures("nowhere")
def test_figures_of_committed_runs_need_no_data(tmp_path, capsys):
    store = ["--store", str(COMMITTED / "mnist"), "--out", str(tmp_path)]
    paper_module.main(["figure2", *store])
    assert (tmp_path / "figure2_mnist.pdf").exists()
    assert len((tmp_path / "figure2_mnist.csv").read_text().splitlines()) == 1 + 3 * 12
    with pytest.raises(DataNotFoundError, match="mnist does not have all runs, and the missing ones need their data: "):
        paper_module.main(["choices", *store])
    paper_module.main(["choices", "--done", *store])
    with pytest.raises(DataError, match="the store has no runs of packnet"):
        paper_module.main(["figure2", "--done", "--epochs", "3", *store])
    with pytest.raises(DataNotFoundError, match="does not have all runs"):
        paper_module.main(["figure2", "--images", "100", *store])
    paper_module.main(["figure2", "--dataset", "cifar10", "--cycles", "1", "--seeds", "3",
                       "--store", str(COMMITTED / "cifar10"), "--out", str(tmp_path)])  # fmt: skip
    assert "the runs are in" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(setups.DATA))
def test_digests_of_data_are_those_of_the_committed_runs(name):
    assert {entry["run"]["data"] for entry in Store(COMMITTED / name)} == {setups.DATA[name]}


def test_data_are_read_for_missing_runs_alone(setup, tmp_path):
    digest = Study(tmp_path).run(grid_of(setup)).entries[0]["run"]["data"]

    def unread():
        raise AssertionError

    known = source(setup, doing(unread, Study(tmp_path), digest))
    assert len(known("PackNet", 1, [0.5])) == 1
    with pytest.raises(AssertionError):
        known("PackNet", 2, [0.5])
    with pytest.raises(AssertionError):
        source(setup, doing(unread, Study(tmp_path), "other"))("PackNet", 1, [0.5])
    assert len(source(setup, doing(setup.stream, Study(tmp_path), digest))("PackNet", 2, [0.5])) == 2


def grid_of(setup):
    return grid(packnet, setup.stream, seeds=[0], **setup.settings_of("PackNet", [0.5]))


def test_the_commands_of_the_page_on_reproduction_are_accepted():
    page = (Path(__file__).parents[2] / "docs" / "reproduction.rst").read_text().replace("\\\n", " ")
    commands = re.findall(r"python -m daynight\.study\.paper (.*)", page)
    assert len(commands) == 16
    for command in commands:
        paper_module.setup_of(paper_module.parse(shlex.split(command)))


def test_a_quick_study_has_the_given_settings(tmp_path):
    settings = paper_module.parse(
        ["figure2", "--quick", "--images", "50", "--data", "sample", "--prunings", "0.9", "0.9"]
    )
    setup = paper_module.setup_of(settings)
    assert setup.prunings == (0.9,)
    stream = setup.stream()
    assert {(len(task.train), len(task.test)) for task in stream} == {(50, 200)}


def test_a_search_for_one_p_is_that_of_the_whole_table():
    def planned(what):
        return paper_module.setup_of(paper_module.parse([what, "--prunings", "0.95"]))

    for what in ("table1", "figure3"):
        assert (planned(what).prunings, planned(what).curve) == ((0.95,), full("mnist").curve)
    assert planned("figure1").curve == (0.95,)


def test_setups_are_those_of_the_study():
    mnist, cifar, small = full("mnist"), full("cifar10"), full("cifar10-small")
    assert (mnist.epochs, mnist.budget, mnist.training.batch_size) == (72, 72, 128)
    assert (cifar.epochs, cifar.budget, cifar.training.batch_size) == (12, 6, 32)
    assert (small.epochs, small.budget, small.training.batch_size) == (12, 6, 32)
    assert small.stream.keywords["n_train"] == 1000
    assert mnist.tasks == ("0/1", "2/3", "4/5", "6/7", "8/9")
    for setup in (mnist, cifar, small):
        short = quick(setup)
        assert short.n_seeds == 2
        assert set(short.prunings) < set(setup.prunings)


@pytest.mark.parametrize("module", [paper_module, tournament], ids=lambda module: module.__name__)
@pytest.mark.parametrize(
    ("stop", "status", "said"),
    [(KeyboardInterrupt(), 130, "stopped.\n"), (SettingError("too much"), 1, "error: too much (tests")],
    ids=["interrupt", "error"],
)  # fmt: skip
def test_a_command_that_is_stopped_says_so_in_a_line(module, stop, status, said, monkeypatch, tmp_path, capsys):
    def stopped(*_):
        raise stop

    monkeypatch.setattr("daynight.study.runner.Study.run", stopped)
    what = "figure1" if module is paper_module else "screen"
    monkeypatch.setattr(sys, "argv", ["command", what, "--quick", "--data", "sample", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module.__package__, run_name="__main__")
    assert ended.value.code == status
    assert capsys.readouterr().err.startswith(said)


def accuracy_of(kept):
    return 0.9 + 0.03 * math.log10(kept * 100)


def summary(value, error=0.0):
    return Summary(5, value, error, value - error, value + error)


@pytest.mark.parametrize("compression", [1.0, 1.54, 3.32])
def test_matching_finds_the_compression_of_a_known_curve(compression):
    # Accuracy falls with the logarithm of what is kept; the other method needs `compression` times less.
    found = match(0.99, summary(accuracy_of(0.01)), lambda free: summary(accuracy_of((1 - free) * compression), 0.001))
    assert found.compression == pytest.approx(compression, rel=0.02)
    # The difference is within 0.001 as long as the logarithm is within 1/30.
    assert found.low == pytest.approx(found.compression * 10 ** (-1 / 30), rel=0.05)
    assert found.high == pytest.approx(found.compression * 10 ** (1 / 30), rel=0.05)
    tried = [free for free, _ in found.evaluations]
    assert tried == sorted(set(tried))
    assert len(tried) < 20
    assert not found.at_edge


@pytest.mark.parametrize(
    ("compression", "title"),
    [(1.5, r"1\.\d\dx"), (9.0, "not reached"), (6.5, r"\d\.\d\dx, or beyond")],
)
def test_a_match_at_the_end_of_what_was_tried_says_so(compression, title):
    found = match(0.99, summary(accuracy_of(0.01)), lambda free: summary(accuracy_of((1 - free) * compression), 0.001))
    _, (axes,) = drawing.panels(1)
    drawing.evaluations(axes, found, "Memory")
    plt.close(axes.figure)
    assert re.fullmatch(rf"Memory, \$p\$ = 0\.99: {title}", axes.get_title())


@pytest.mark.parametrize("curve", [(0.9, 0.97, 0.98, 0.99, 0.995), (0.9,), (0.98,), (0.5, 0.999)], ids=str)
@pytest.mark.parametrize("compression", [1.0, 1.54, 2.0, 3.32])
def test_a_curve_that_is_known_is_where_the_search_begins(compression, curve):
    asked = []

    def accuracy_at(free):
        asked.append(free)
        return summary(accuracy_of((1 - free) * compression), 0.001)

    found = match(0.99, summary(accuracy_of(0.01)), accuracy_at, curve=curve)
    assert found.compression == pytest.approx(compression, rel=0.02)
    # What is out of reach is not looked at, and what is in reach is looked at once.
    assert len(asked) == len(set(asked))
    assert set(asked) & set(curve) == {free for free in curve if 0.01 / 6 < 1 - free < 0.01 / 0.7}


def test_a_curve_that_is_known_saves_evaluations_where_they_scatter():
    def n_tried(compression, curve):
        def accuracy_at(free):
            return summary(accuracy_of((1 - free) * compression) + 0.001 * math.sin(1e4 * free))

        found = match(0.99, summary(accuracy_of(0.01)), accuracy_at, tolerance=0.1, curve=curve)
        # The scatter is 8 % of the kept fraction, and the tolerance 10 %.
        assert found.compression == pytest.approx(compression, rel=0.2)
        return len({free for free, _ in found.evaluations} - set(curve))

    compressions = [1.0 + index / 20 for index in range(40)]
    curve = (0.98, 0.99, 0.995, 0.998)
    assert sum(n_tried(c, curve) for c in compressions) < sum(n_tried(c, ()) for c in compressions)


@pytest.mark.parametrize("curve", [(), (0.97, 0.99, 0.995)], ids=str)
@pytest.mark.parametrize("compression", [0.4, 8.0])
def test_a_match_beyond_what_was_looked_at_says_so(compression, curve):
    target = summary(accuracy_of(0.01))
    found = match(0.99, target, lambda free: summary(accuracy_of((1 - free) * compression)), curve=curve)
    assert found.at_edge
    assert not found.is_reached
    assert abs(found.gap) > 0.001
    assert 0.6 < found.compression < 6.1


def test_an_accuracy_that_is_not_reached_is_not_called_equal():
    def never(free):
        # Above the target everywhere, and scattered, so that the search stops anywhere.
        return summary(0.95 + 0.002 * math.sin(1e5 * free), 0.002)

    found = match(0.99, summary(0.9, 0.002), never)
    assert not found.is_reached
    assert found.gap == min((s.mean for _, s in found.evaluations), key=lambda mean: abs(mean - 0.9)) - 0.9
    assert abs(found.reached.mean - 0.9) == min(abs(s.mean - 0.9) for _, s in found.evaluations)
    near = match(0.99, summary(accuracy_of(0.01)), lambda free: summary(accuracy_of((1 - free) * 1.5), 0.001))
    assert near.is_reached


def test_a_coarser_search_tries_less():
    def rough(free):
        # As runs scatter, a parabola is no help, and the search halves its interval again and again.
        return summary(accuracy_of((1 - free) * 2) + 0.005 * math.sin(1e4 * free))

    assert len(match(0.99, summary(0.9), rough, tolerance=0.2).evaluations) < len(
        match(0.99, summary(0.9), rough, tolerance=0.001).evaluations
    )


def test_matching_refuses_compressions_that_do_not_rise():
    with pytest.raises(SettingError, match="two rising positive numbers"):
        match(0.99, summary(0.9), summary, compressions=(2.0, 1.0))
    with pytest.raises(SettingError, match="two rising positive numbers"):
        match(0.0001, summary(0.9), summary, compressions=(0.5, 1.0))
    with pytest.raises(SettingError, match="an accuracy must be a finite number"):
        match(0.99, summary(0.9), lambda free: summary(math.nan))
    with pytest.raises(SettingError, match="tolerance must be above 0"):
        match(0.99, summary(0.9), summary, tolerance=0)
    with pytest.raises(SettingError, match="match: compressions must be two rising"):
        match(0.99, summary(0.9), summary, compressions=3.0)
    for curve in ([0.9, 1.0], 0.9, None, ["a"]):
        with pytest.raises(SettingError, match="match: curve must be fractions of free weights between 0 and 1"):
            match(0.99, summary(0.9), summary, curve=curve)


@pytest.mark.parametrize(
    ("target", "accuracy_at", "message"),
    [(summary(math.nan), summary, "match: the target's mean must be a finite number"),
     (0.9, summary, "match: target must be a Summary, such as results.summary"),
     (summary(0.9), 0.9, "match: accuracy_at must be a function"),
     (summary(0.9), lambda free: 0.9, "match: the result of accuracy_at must be a Summary")],
)  # fmt: skip
def test_matching_refuses_what_is_no_summary_of_accuracies(target, accuracy_at, message):
    with pytest.raises(SettingError, match=message):
        match(0.99, target, accuracy_at)


@pytest.mark.parametrize("curve", [(), (0.95, 0.98)], ids=str)
def test_a_match_that_is_flat_to_the_end_of_what_was_tried_says_so(curve):
    def nearly_flat(free):
        return summary(0.9 + 0.02 * math.log10((1 - free) / 0.05), 0.005)

    found = match(0.95, summary(0.895, 0.005), nearly_flat, curve=curve)
    assert found.at_edge


def test_equal_cuts_prune_equal_numbers():
    from daynight import Epochs, GeometricCycles, Night
    from daynight.nights.schedules import equal_number

    night = Night(day=0, budget=Epochs(3), n_steps=30, steps_per_epoch=10, dawn_density=0.25)
    assert [cycle.keep for cycle in GeometricCycles(3, 1.0, density=equal_number).plan(night)] == [0.75, 0.5, 0.25]
