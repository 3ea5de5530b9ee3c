"""Figures of the paper and the tournament: what is drawn where, and on which scale."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from daynight import Cycle
from daynight.study import Results
from daynight.study.matching import match
from daynight.study.paper import drawing
from daynight.study.statistics import reach_of, summarize
from daynight.study.tournament.contestants import DESIGNS, UNIFORM, in_words


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def rows_of(errors, **more):
    """Return rows of a tournament: ten seeds each."""
    return [
        {"policy": name, "p": p, "error %": error, "error % standard error": error / 10, "seeds": 10, **more}
        for name, own in errors.items() for p, error in own.items()
    ]  # fmt: skip


def drawn(rows):
    figure = drawing.contest(rows, lambda name: [Cycle(keep=0.1, length=1.0)], in_words)
    nights, axes = figure.axes
    return figure, nights, axes


def test_a_contest_has_a_row_for_each_policy_the_best_on_top_with_its_interval():
    _, nights, axes = drawn(rows_of({"uniform 1": {0.9: 2.0, 0.99: 8.0}, "uniform 8": {0.9: 1.0, 0.99: 4.0}}))
    assert [label.get_text() for label in nights.get_yticklabels()] == ["8 equal cycles", "one prune"]
    assert nights.yaxis_inverted()
    points = {tuple(line.get_xdata()) for line in axes.lines}
    assert (2.0, 1.0) in points
    assert (8.0, 4.0) in points
    segments = [segment for drawn in axes.collections for segment in drawn.get_segments()]
    low, high = np.array(segments)[:, :, 0].T
    np.testing.assert_allclose((high - low) / 2, [reach_of(10, error / 10) for error in (2.0, 1.0, 8.0, 4.0)])
    assert reach_of(10, 0.1) == pytest.approx(0.1 * 2.2622, rel=1e-4)  # Student's t, nine degrees of freedom
    assert axes.get_title(loc="right") == "n = 10, bars: 95 %"
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] < min(low)
    assert axes.get_xlim()[1] > max(high)


def test_the_winner_of_a_contest_is_the_policy_that_was_chosen_or_the_best():
    errors = {"uniform 1": {0.9: 2.0}, "uniform 8": {0.9: 1.0}}
    chosen = [row | {"chosen": "policy" if row["policy"] == "uniform 1" else "N"} for row in rows_of(errors)]
    for rows, name, why in ((rows_of(errors), "8 equal cycles", "fewest errors"), (chosen, "one prune", "chosen")):
        figure, nights, _ = drawn(rows)
        bold = [label.get_text() for label in nights.get_yticklabels() if label.get_fontweight() == "bold"]
        assert bold == [name]
        assert why in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("name", "words"),
    [("uniform 1", "one prune"), ("uniform 18", "18 equal cycles"), ("mine", "mine"),
     ("uniform 8, rewound", "8 equal cycles, weights rewound to 5 % of the wake"),
     ("lengthening 72, 16, falling night",
      "72 cycles, the last REM 16 times as long as the first, rate falls over the night"),
     ("equal shares 72, 30 %, rising night",
      "72 prunes of equal shares, 30 % of the night for the last REM, rate rises to 3 over the night"),
     ("controlled 0.01, 50 %, short",
      "prunes while the loss rises by less than 0.01, 50 % for the last REM, in short cycles")],
)  # fmt: skip
def test_names_of_policies_are_said_in_words(name, words):
    assert in_words(name) == words


def test_each_policy_of_the_tournament_has_words_of_its_own():
    names = [*UNIFORM, *(name for named in DESIGNS.values() for name in named)]
    assert len({in_words(name) for name in names}) == len(names)
    assert [name for name in names if in_words(name) == name] == []


def test_errors_are_drawn_on_a_logarithmic_scale():
    entries = [
        {"run": {"settings": {"free_at_end": p, "seed": seed}}, "result": {"mean_accuracy": 1 - error - 0.001 * seed}}
        for p, error in ((0.9, 0.01), (0.99, 0.1)) for seed in range(2)
    ]  # fmt: skip
    _, (axes,) = drawing.panels(1)
    drawing.against_pruning(axes, {"PackNet": Results(entries)})
    assert list(axes.lines[0].get_ydata()) == pytest.approx([1.05, 10.05])
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "mean error, %"
    low, high = axes.get_ylim()
    assert 0 < low < 1
    assert high > 10.1


def test_panels_of_a_matching_share_their_scales():
    def accuracy(free):
        return summarize([1 - 0.001 / (1 - free), 1 - 0.0012 / (1 - free)])

    figure, panels = drawing.panels(2, is_shared=True)
    for panel, p in zip(panels, (0.9, 0.99), strict=True):
        drawing.evaluations(panel, match(p, accuracy(p), accuracy), "Memory")
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert panels[0].get_xlim() == panels[1].get_xlim()
    low, high = panels[0].get_ylim()
    assert all(low < y < high for panel in panels for line in panel.lines for y in line.get_ydata())
    drawing.legend_above(figure, *panels)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "PackNet, to be reached", "within a standard error of it", "Memory",
    ]  # fmt: skip


def test_errors_of_zero_leave_a_scale():
    _, (axes,) = drawing.panels(1)
    entries = [
        {"run": {"settings": {"free_at_end": p, "seed": 0}}, "result": {"mean_accuracy": 1.0}} for p in (0.9, 0.99)
    ]
    drawing.against_pruning(axes, {"PackNet": Results(entries)})
    assert axes.get_ylim()[0] > 0


def test_a_single_run_has_no_bar():
    _, axes = plt.subplots()
    drawing.line_of_cycles(axes, {1: summarize([0.9]), 2: summarize([0.8, 0.9])}, "PackNet")
    (bars,) = axes.collections
    single, several = bars.get_segments()
    assert not len(single)
    np.testing.assert_allclose(several[:, 1], [0.8, 0.9])
    for cap in axes.lines[1:]:
        assert np.isnan(cap.get_ydata()[0])
    _, _, axes = drawn([{"policy": "uniform 1", "p": 0.9, "error %": 2.0}])
    assert not any(len(segment) for bars in axes.collections for segment in bars.get_segments())
