"""Dips: whether accuracy falls before it rises again."""

import matplotlib.pyplot as plt
import pytest
from scipy import stats

from daynight.study.paper import drawing
from daynight.study.paper.open_questions import deepest
from daynight.study.statistics import summarize


def by_seed(*values):
    return dict(enumerate(values))


def test_the_clearest_dip_is_found():
    values = {
        1: by_seed(0.90, 0.92, 0.91), 2: by_seed(0.80, 0.83, 0.81), 4: by_seed(0.86, 0.87, 0.88),
        8: by_seed(0.95, 0.97, 0.96),
    }  # fmt: skip
    dip = deepest(values)
    # Falls by 0.10, 0.09, 0.10 and rises by 0.15, 0.14, 0.15: the standard error of both is 0.01 / 3.
    assert (dip.before, dip.lowest, dip.after) == (1, 2, 8)
    assert dip.fall.mean == pytest.approx(-0.29 / 3)
    assert dip.rise.mean == pytest.approx(0.44 / 3)
    reach = stats.t.ppf(1 - 0.05 / 6 / 2, 2) * 0.01 / 3
    assert (dip.fall.low, dip.fall.high) == pytest.approx((-0.29 / 3 - reach, -0.29 / 3 + reach))
    assert dip.is_shown


def test_a_dip_within_its_interval_is_not_shown():
    values = {1: by_seed(0.9, 0.8, 0.85), 2: by_seed(0.8, 0.85, 0.83), 4: by_seed(0.9, 0.8, 0.9)}
    dip = deepest(values)
    assert (dip.before, dip.lowest, dip.after) == (1, 2, 4)
    assert not dip.is_shown


def test_what_only_rises_or_only_falls_has_no_dip():
    rising = {n: by_seed(0.8 + n / 100, 0.81 + n / 100) for n in (1, 2, 4)}
    assert deepest(rising) is None
    assert deepest({-n: values for n, values in rising.items()}) is None
    assert deepest({1: by_seed(0.9, 0.8)}) is None


def test_an_axis_of_n_has_those_of_all_its_lines_and_no_labels_that_touch():
    figure, (axes,) = drawing.panels(1)
    for cycles in ((1, 2, 8, 9, 18, 24), (8, 72)):
        drawing.line_of_cycles(axes, {n: summarize([0.9, 0.8]) for n in cycles}, str(cycles))
    figure.canvas.draw()
    assert list(axes.get_xticks()) == [1, 2, 8, 9, 18, 24, 72]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "8", "\n9", "18", "\n24", "72"]
    plt.close(figure)
