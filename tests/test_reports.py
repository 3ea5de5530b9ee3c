"""Reports in one HTML file."""

import html.parser
import itertools
import re

import attrs
import pytest

from daynight import Agent, Capacity, Clock, Epochs, Gate, History, OneShot, Record, Training, UniformCycles, plots
from daynight.errors import DataError, OutputError, SettingError
from daynight.metrics import OfLabels
from daynight.study import Results
from daynight.testing import toy_network, toy_stream


class Page(html.parser.HTMLParser):
    """What is in a page: tags, their attributes and text; and which tags are not closed."""

    VOID = ("meta", "img", "wbr")

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())

    @property
    def pictures(self):
        return [value for name, value in self.attributes if name == "alt"]


def lived(days=3):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=days))
    stream = toy_stream(days).hold_out(0.25)
    return Clock(agent, stream, policy=UniformCycles(3), wake=Epochs(2), night=Epochs(4)).run()


def test_a_report_of_a_run_stands_by_itself(tmp_path):
    history, path = lived(), tmp_path / "run.html"
    history.report(path, title="Mine & <b>yours</b>")
    page = Page(path)
    assert not page.open
    assert "Mine & <b>yours</b>" in page.words
    assert page.tags.count("b") == 0
    assert page.pictures == [
        "phases and course of the days", "accuracy of each task at each dawn", "owned and free weights at each dawn",
        *(f"loss against density in night {day}" for day in range(3)),
    ]  # fmt: skip
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"(src|href|url)\W*https?:", path.read_text())
    facts = next(words for words in page.words if "optimizer steps" in words)
    assert facts.startswith("3 days · ")
    assert f"mean accuracy at the last dawn {history.accuracy[-1].mean():.4f}" in facts
    assert page.tags.count("tr") == 4


def test_equal_histories_give_equal_files(tmp_path):
    history = lived()
    for name in ("a.html", "b.html"):
        History(history).report(tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_history_with_little_in_it_can_be_reported(tmp_path):
    History([Record(kind="day", day=0, phase="dawn", step=3, free=5, capacity=9, owned=4)]).report(tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert (
        "1 day · 3 optimizer steps · 0.0 s of wakes and nights · not tested at dawn · 5 of 9 weights free" in page.words
    )
    assert not page.pictures


def job(kinds):
    """Return the histories of the nights of a job, each with a clock of its own; a small day is refused."""
    agent = Agent(toy_network, capacity=Capacity(keep_per_task=0.2), gate=Gate(tolerance=1, least=5))
    histories = []
    for day, kind in enumerate(kinds):
        task = toy_stream(1, n_train=10 if kind == "refused" else 40)[0]
        task = attrs.evolve(task, name="toy", succeeds="toy").hold_out(0.2)
        run = Clock(agent, [task], first_day=day, policy=UniformCycles(1), wake=Epochs(1), night=Epochs(1)).run()
        histories.append(run)
    return histories


def joined(histories):
    return History(itertools.chain.from_iterable(histories))


def test_a_report_says_which_days_a_gate_has_refused_and_by_which_interval(tmp_path):
    history = joined(job(["first", "refused", "next"]))
    history.report(tmp_path / "run.html")
    page = Page(tmp_path / "run.html")
    words = page.words
    columns = ("gate", "difference", "interval", "held-out examples", "because")
    assert set(columns) <= set(words)
    assert [words.count(word) for word in ("refused", "accepted")] == [2, 2]  # in two tables; the first day has no gate
    for record in history.select(kind="day")[1:]:
        assert f"{record.gate_low:,.4g} to {record.gate_high:,.4g}" in words
    reason = history.select(kind="day")[-1].gate_reason
    said = "Of 2 new versions, the gate accepted 1 and refused 1. The new version of day 2 was accepted: "
    assert f"{said}{reason}." in words
    assert page.pictures[1:3] == ["score of the versions of a task, day by day", "owned and free weights at each dawn"]
    assert f"score at the last dawn {history.accuracy[2, 2]:.4f}" in " ".join(words)
    lived(1).report(tmp_path / "other.html")
    assert not set(columns) & set(Page(tmp_path / "other.html").words)


def test_a_report_of_one_refused_night_says_so_in_words(tmp_path):
    _, night = job(["first", "refused"])
    night.report(tmp_path / "night.html")
    page, (record,) = Page(tmp_path / "night.html"), night.select(kind="day")
    said = f"The new version of day 1 was refused: {record.gate_reason}. The version before it stays."
    assert said in page.words
    facts = next(words for words in page.words if "optimizer steps" in words)
    n_own = record.wake_steps + record.night_steps
    assert facts.startswith(f"1 day · {n_own} optimizer steps of {record.step} in the agent's life · ")
    assert "not tested at dawn" in facts
    assert page.pictures == ["phases and course of the days", "loss against density in night 1"]
    assert page.tags.count("table") == 2


def test_a_report_after_a_refused_night_says_when_the_version_was_tested(tmp_path):
    history = joined(job(["first", "next", "refused"]))
    history.report(tmp_path / "run.html")
    assert f"score at the dawn of day 1 {history.accuracy[1, 1]:.4f}" in (tmp_path / "run.html").read_text()


def test_a_run_of_many_days_is_reported_without_its_single_nights(tmp_path):
    lived(13).report(tmp_path / "run.html")
    assert len(Page(tmp_path / "run.html").pictures) == 3


def test_what_cannot_be_reported_is_said(tmp_path):
    with pytest.raises(DataError, match="no finished day yet, so there is nothing to report"):
        History().report(tmp_path / "run.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        lived(1).report(tmp_path / "file" / "run.html")


def results():
    return Results(
        {
            "run": {"method": "m", "data": "d", "version": "v", "settings": {"seed": seed, "n": n, "way": way}},
            "result": {"score": n + seed / 10, "loss": 1.0},
        }
        for seed in range(3) for n in (1, 8) for way in ("a<", "b")
    )  # fmt: skip


def test_a_report_of_a_study_has_a_figure_of_each_value(tmp_path):
    results().report(tmp_path / "study.html", by=["way", "n"], values=["score", "loss"], title="Ways")
    page = Page(tmp_path / "study.html")
    assert not page.open
    assert page.pictures == ["score by n", "loss by n"]
    assert "12 runs · 4 combinations of way, n · n = 3 each" in page.words
    assert {"score interval", "loss interval"} <= set(page.words)
    assert "a<" in page.words
    assert page.tags.count("tr") == 5


def test_a_report_of_a_study_without_numbers_has_a_picture(tmp_path):
    results().select(n=8).report(tmp_path / "study.html", by=["way"], values=["score"], against={"way": "b"})
    page = Page(tmp_path / "study.html")
    assert page.pictures == ["score by way", "score: paired differences by way"]
    assert page.tags.count("tr") == 3
    assert "6 runs · 2 combinations of way · n = 3 each" in page.words
    assert "Differences are from way=b, paired by seed, each with its own 95 % interval." in page.words
    assert {"score", "interval", "difference interval"} <= set(page.words)
    assert "All runs have method m, data d, daynight v, n 8." in page.words
    with pytest.raises(SettingError, match="no run has a setting 'who'"):
        results().report(tmp_path / "study.html", by=["who"], values=["score"])


def test_long_names_of_a_study_wrap(tmp_path):
    name = f"Policy({', '.join(f'argument_{n}={n}' for n in range(12))})"
    Results([{**entry, "run": {**entry["run"], "settings": {**entry["run"]["settings"], "way": name}}}
             for entry in results().select(way="b")]).report(
        tmp_path / "study.html", by=["way", "n"], values=["score"])  # fmt: skip
    text = (tmp_path / "study.html").read_text()
    assert 'td class="text"' in text
    assert "td.text { white-space: normal;" in text


def test_what_is_not_known_is_left_out_or_said(tmp_path):
    History([Record(kind="day", day=0, phase="dawn", step=3)]).report(tmp_path / "r.html")
    assert (
        "1 day · 3 optimizer steps · 0.0 s of wakes and nights · not tested at dawn" in Page(tmp_path / "r.html").words
    )
    with pytest.raises(SettingError, match="there are no runs"):
        Results([]).report(tmp_path / "study.html", by=["n"], values=["score"])


def test_scores_have_the_name_of_their_metric(tmp_path):
    def clock(metric=None, **settings):
        agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=2), training=Training(metric=metric))
        return Clock(agent, toy_stream(2), policy=OneShot(), wake=Epochs(1), night=Epochs(1), **settings)

    first = clock(checkpoint=tmp_path / "run")
    assert first.run().metric == first.fork().history.metric == History(first.history).metric == "accuracy"
    again = clock(checkpoint=tmp_path / "run")
    again.resume()
    assert again.history.metric == "accuracy"  # though nothing is left to run
    again.history.report(tmp_path / "run.html")
    assert (
        f"mean accuracy at the last dawn {again.history.accuracy[-1].mean():.4f}" in (tmp_path / "run.html").read_text()
    )
    assert plots.accuracy(again.history).figure.axes[-1].get_ylabel() == "accuracy on test data"
    assert clock(lambda outputs, targets: 0.5).history.metric == "score"
    assert clock(OfLabels(f1_score)).history.metric == "f1 score"
    first.history.to_csv(tmp_path / "run.csv")
    assert History.from_csv(tmp_path / "run.csv").metric == "score"


def f1_score(targets, classes):
    return float((targets == classes).mean())
