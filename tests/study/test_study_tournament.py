"""The tournament: what each stage takes from the one before, and the data of each."""

import itertools
import re
import shlex
from pathlib import Path

import attrs
import pytest

from daynight import Agent, Capacity, GradualPruning, Rated, Training, UniformCycles, rates, recommended_policy
from daynight.errors import DataNotFoundError, SettingError
from daynight.nights.reactive import Controlled
from daynight.nights.schedules import GeometricCycles
from daynight.study import Store, Study
from daynight.study.paper import setups
from daynight.study.paper.setups import Setup, doing, reading
from daynight.study.results import Results
from daynight.study.tournament import tournament
from daynight.study.tournament.contestants import DESIGNS, UNIFORM
from daynight.study.tournament.tournament import Tournament, streams
from daynight.testing import check_policy, toy_network, toy_stream

UNIFORM_TOY = {"uniform 1": UniformCycles(1), "uniform 2": UniformCycles(2)}
DESIGNS_TOY = {
    "lengthening": {"lengthening 2": GeometricCycles(2, 4), "lengthening 3": GeometricCycles(3, 4)},
    "reactive": {"controlled": Controlled(0.5, length=0.2)},
}


def toy_setup(n_tasks=3):
    return Setup(
        dataset="mnist", stream=toy_stream, network=toy_network, training=Training(batch_size=10), epochs=2.0,
        budget=2.0, prunings=(0.4, 0.6), curve=(), cycles=(1,), unbudgeted=(1,), tasks=tuple("abc"[:n_tasks]),
    )  # fmt: skip


def toy_contest(fetch, **changes):
    settings = {
        "setups": {"mnist": toy_setup(), "other": toy_setup()}, "fetch": fetch, "uniform": UNIFORM_TOY,
        "designs": DESIGNS_TOY, "screening": range(100, 102), "choosing": range(100, 103), "reporting": range(2),
    }  # fmt: skip
    return Tournament(**(settings | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"designs": {"mine": {"uniform 1": GeometricCycles(3, 4)}}}, "there are two policies named 'uniform 1'"),
     ({"designs": {kind: {"x": UniformCycles(3)} for kind in "ab"}}, "there are two policies named 'x'"),
     ({"uniform": {"uniform 2": UniformCycles(2)}}, "uniform must have 'uniform 1', with which all are compared"),
     ({"designs": {"mine": {}}}, "mine must be a dict of policies by name, not {}"),
     ({"designs": {"mine 3": UniformCycles(3)}}, "mine 3 must be a dict of policies by name"),
     ({"designs": {}}, "designs must have at least one kind"),
     ({"designs": {"mine": {"mine 3": UniformCycles}}}, "mine 3 must be a SleepPolicy"),
     ({"setups": {"other": toy_setup()}}, "setups must have 'mnist'")],
)  # fmt: skip
def test_wrong_tournaments_are_refused_before_any_run(changes, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        toy_contest(None, **changes)


def test_what_a_tournament_does_not_know_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(tournament, "SCREENED", 0.6)
    contest = toy_contest(lambda stage: doing(toy_stream, Study(tmp_path / stage)))
    for ask, message in (
        (lambda: contest.reported("foo"), "stream must be one of 'mnist', 'other', not 'foo'"),
        (lambda: contest.night_of("foo"), "policy must be one of 'uniform 1', 'uniform 2', 'lengthening 2'"),
        (lambda: contest.judged("other", 0.5, []), "p must be one of 0.4, 0.6, not 0.5"),
        (lambda: contest.judged("other", 0.6, ["foo"]), "policy must be one of 'uniform 1', 'uniform 2'"),
        (lambda: contest.judged("other", 0.6, [], {"equal": "foo"}), "policy must be one of 'uniform 1', 'uniform 2'"),
    ):
        with pytest.raises(SettingError, match=re.escape(message)):
            ask()


def test_data_that_cannot_be_had_are_missed_before_any_run(tmp_path):
    with pytest.raises(DataNotFoundError, match="there is no sample of CIFAR10"):
        tournament.main(["report", "--stream", "cifar10-small", "--quick", "--data", "sample", "--out", str(tmp_path)])
    assert not list(tmp_path.rglob("*.json"))


def test_a_report_of_committed_runs_needs_no_data(monkeypatch, tmp_path):
    monkeypatch.setenv("DAYNIGHT_DATA", str(tmp_path / "nowhere"))
    store = Path(__file__).parents[2] / "docs" / "results" / "study"
    for done in (["--store", str(store)], ["--store", str(store / "rotated"), "--done"]):
        tournament.main(["report", "--stream", "rotated", *done, "--out", str(tmp_path)])
        assert len((tmp_path / "rotated.csv").read_text().splitlines()) > 3
        (tmp_path / "rotated.csv").unlink()


def test_the_store_of_another_stream_is_refused_with_the_folder_that_is_meant(tmp_path):
    store = Path(__file__).parents[2] / "docs" / "results" / "study"
    message = f"rotated is itself a folder of runs. Name the one above, such as {store}, .* 'nights' and 'mnist' there"
    with pytest.raises(SettingError, match=message):
        tournament.main(["report", "--store", str(store / "rotated"), "--out", str(tmp_path)])
    with pytest.raises(SettingError, match="screen reads 'nights' there"):
        tournament.main(["screen", "--store", str(store / "mnist"), "--out", str(tmp_path)])


def test_a_store_that_does_not_exist_is_said_to_be_empty(monkeypatch, tmp_path, capsys):
    def stops(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(tournament, "contest_of", stops)
    for name in ("nosuch", "."):
        with pytest.raises(KeyboardInterrupt):
            tournament.main(["report", "--store", str(tmp_path / name), "--out", str(tmp_path)])
    assert capsys.readouterr().out == (
        f"{tmp_path / 'nosuch'} does not exist: none of the runs are done yet, and their results go there.\n"
    )


def test_stages_from_the_store_are_those_that_were_run(monkeypatch, tmp_path):
    monkeypatch.setattr(tournament, "SCREENED", 0.6)
    done = toy_contest(lambda stage: doing(toy_stream, Study(tmp_path / stage)))
    reports = {stream: done.reported(stream) for stream in ("mnist", "other")}
    read = toy_contest(lambda stage: reading(Store(tmp_path / stage)))
    assert read.screened == done.screened
    assert read.chosen_from == done.chosen_from
    assert {stream: read.reported(stream) for stream in reports} == reports
    assert len(done.screened) == 5
    assert {entry["run"]["settings"]["seed"] for entry in Store(tmp_path / "nights")} == {100, 101, 102}
    assert {entry["run"]["settings"]["seed"] for entry in Store(tmp_path / "mnist")} == {0, 1}
    assert len(reports["mnist"]) == 2 * 4
    assert {row["seeds"] for row in reports["other"]} == {2}
    night = read.night_of("controlled")
    assert sum(cycle.length for cycle in night) == pytest.approx(1)
    assert night[-1].keep == pytest.approx(1 - 0.6 ** (1 / 3), abs=0.02)


class Fixed:
    """Returns runs whose accuracy is given, by policy and p."""

    def __init__(self, accuracy):
        self.accuracy, self.asked = accuracy, []

    def __call__(self, stage):
        def fetch(method, seeds, *, policy, free_at_end, day=None, **settings):
            self.asked.append((stage, tuple(seeds)))
            prunings = free_at_end if isinstance(free_at_end, list) else [free_at_end]
            runs = [
                {"settings": {"policy": described(one), "free_at_end": p, "seed": seed, "day": each}}
                for one in policy for p in prunings for seed in seeds for each in (day or [None])
            ]  # fmt: skip
            return Results({"run": run, "result": self._result(**run["settings"])} for run in runs)

        return fetch

    def _result(self, policy, free_at_end, seed, day):
        value = self.accuracy[policy["class"].rpartition(".")[2], policy.get("n"), free_at_end] - 0.001 * (seed % 2)
        return {"accuracy": value, "mean_accuracy": value}


def described(policy):
    from daynight.storage.identity import describe

    return describe(policy)


def test_the_best_of_each_kind_goes_on_and_choices_are_made_where_they_may_be():
    accuracy = {
        ("UniformCycles", 1, 0.4): 0.90, ("UniformCycles", 2, 0.4): 0.80, ("Controlled", None, 0.4): 0.95,
        ("GeometricCycles", 3, 0.4): 0.92, ("UniformCycles", 1, 0.6): 0.60, ("UniformCycles", 2, 0.6): 0.70,
        ("Controlled", None, 0.6): 0.50, ("GeometricCycles", 3, 0.6): 0.72, ("UniformCycles", 1, 0.995): 0.3,
        ("UniformCycles", 2, 0.995): 0.4, ("GeometricCycles", 2, 0.995): 0.5, ("GeometricCycles", 3, 0.995): 0.6,
        ("Controlled", None, 0.995): 0.2,
    }  # fmt: skip
    fixed = Fixed(accuracy)
    contest = toy_contest(fixed)
    assert [row["policy"] for row in contest.screened] == [
        "lengthening 3", "lengthening 2", "uniform 2", "uniform 1", "controlled",
    ]  # fmt: skip
    assert list(contest.finalists) == ["lengthening 3", "controlled"]
    assert contest.best_uniform == {0.4: "uniform 1", 0.6: "uniform 2"}
    # Errors over those of one prune: 0.08 / 0.1 and 0.28 / 0.4, against 0.05 / 0.1 and 0.5 / 0.4.
    assert contest.ranked == ["lengthening 3", "controlled"]
    assert {stage for stage, _ in fixed.asked} == {"nights"}
    rows = contest.reported("other")
    assert [(row["p"], row["policy"], row["chosen"]) for row in rows] == [
        (0.4, "uniform 1", "N"), (0.4, "lengthening 3", "policy"),
        (0.6, "uniform 1", ""), (0.6, "uniform 2", "N"), (0.6, "lengthening 3", "policy"),
    ]  # fmt: skip
    assert contest.judged("other", 0.6, contest.reports("other")) == rows[2:]
    own, equal = contest.judged("other", 0.6, ["lengthening 3"], {"equal": "uniform 2"})[::-1]
    assert (own["policy"], equal["policy"]) == ("lengthening 3", "uniform 2")
    assert own["less than equal"] == pytest.approx(2)
    assert not {"less than uniform 1", "less than best uniform"} & own.keys()
    few = attrs.evolve(contest, setups=contest.setups | {"other": attrs.evolve(toy_setup(), n_cycle_seeds=1)})
    assert {row["seeds"] for row in few.judged("other", 0.4, [])} == {1}
    row = rows[4]
    assert row["error %"] == pytest.approx(28.05)
    assert row["less than uniform 1"] == pytest.approx(12)
    assert row["less than best uniform"] == pytest.approx(2)
    assert row["less than best uniform low"] == pytest.approx(2)


def test_the_command_chooses_on_training_data_alone(monkeypatch, tmp_path, capsys):
    known = {name: toy_setup() for name in tournament.STREAMS}
    monkeypatch.setattr(tournament, "streams", lambda data: known)
    monkeypatch.setattr(tournament, "UNIFORM", UNIFORM_TOY)
    monkeypatch.setattr(tournament, "DESIGNS", DESIGNS_TOY)
    monkeypatch.setattr(tournament, "SCREENED", 0.6)
    monkeypatch.setattr(setups, "quick", lambda setup: setup)
    arguments = ["--quick", "--out", str(tmp_path), "--states", str(tmp_path / "states")]
    tournament.main(["report", "--stream", "rotated", *arguments])
    assert "uniform 1" in capsys.readouterr().out
    for stage in ("screen", "choose"):
        tournament.main([stage, *arguments])
    assert {path.name for path in tmp_path.glob("*.*")} == {
        f"{stage}_quick.{ending}" for stage in ("screen", "choose", "rotated") for ending in ("pdf", "png", "csv")
    }
    chosen = [line.split(",")[-1] for line in (tmp_path / "choose_quick.csv").read_text().splitlines()]
    assert {"chosen", "N", "policy", ""} == set(chosen)
    with pytest.raises(
        SettingError, match="--stream goes with the stage 'report' only: the stage 'screen' always uses MNIST"
    ):
        tournament.main(["screen", "--stream", "rotated", *arguments])
    whole = Study(tmp_path / "whole").run(doing_runs())
    data = {stage: {entry["run"]["data"] for entry in Store(tmp_path / "runs" / stage)} for stage in
            ("nights", "rotated")}  # fmt: skip
    assert data["rotated"] == {entry["run"]["data"] for entry in whole}
    assert data["rotated"].isdisjoint(data["nights"])


def doing_runs():
    from daynight.study import grid, packnet

    setup = toy_setup()
    return grid(packnet, toy_stream, seeds=[0], **setup.choices([0.4]))


def test_the_commands_of_the_page_on_choosing_are_accepted():
    page = (Path(__file__).parents[2] / "docs" / "choosing.rst").read_text().replace("\\\n", " ")
    commands = re.findall(r"python -m daynight\.study\.tournament (.*)", page)
    found = [tournament.parse(shlex.split(command)) for command in commands]
    assert {one.stream for one in found if one.stage == "report"} == set(tournament.STREAMS)
    assert {one.stage for one in found} == {"screen", "choose", "report"}


def test_streams_are_learnt_alike():
    known = streams("sample")
    assert tuple(known) == tournament.STREAMS
    assert [task.n_outputs for task in known["mnist"].stream(n_train=20)] == [2] * 5
    for name in ("permuted", "rotated"):
        assert [task.n_outputs for task in known[name].stream(n_train=20)] == [10] * 5
    assert all(set(setup.prunings) <= set(tournament.PRUNINGS) for setup in known.values())
    assert known["cifar10-small"].stream.keywords["n_train"] == 1000


@pytest.mark.parametrize("more", [[], ["--quick"]])
def test_each_layer_has_weights_for_each_day(more):
    contest = tournament.contest_of(tournament.parse(["report", "--data", "sample", *more]))
    for setup in contest.setups.values():
        sizes = Agent(setup.network, capacity=Capacity(keep_per_night=0.1)).network.sizes
        for p, day in itertools.product(setup.prunings, range(5)):
            Capacity(free_at_end=p, days=5).check(sizes, day)


def test_what_is_recommended_was_in_the_tournament():
    entered = [described(policy) for named in DESIGNS.values() for policy in named.values()]
    assert described(recommended_policy()) in entered


@pytest.mark.parametrize("kind", DESIGNS)
def test_each_kind_of_contestant_keeps_the_rules(kind):
    check_policy(next(iter(DESIGNS[kind].values())))


def test_a_night_to_draw_is_that_of_the_plan():
    contest = toy_contest(
        None, uniform=UNIFORM, designs={"falling": {"a": Rated(GradualPruning(2, 0.5), rates.Linear())}}
    )
    dawn = Capacity(free_at_end=0.995, days=3).dawn_density([10**9], 0)
    assert [cycle.length for cycle in contest.night_of("a")] == [0.5, 0.5]
    assert contest.night_of("a")[-1].keep == pytest.approx(dawn, rel=1e-6)
    assert [cycle.length for cycle in contest.night_of("uniform 1")] == [1.0]
