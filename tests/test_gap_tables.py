"""The arithmetic of the tables of the gap."""

import importlib
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gap_tables")


def runs(tables, weights, errors, kind=("Multinet", "one", "zero", "")):
    return {
        seed: tables.Run(kind=kind, p=0.5, seed=seed, weights=weights, error=error) for seed, error in enumerate(errors)
    }


def test_errors_are_made_falling_by_pooling(tables):
    assert tables.falling([0.4, 0.2, 0.1]).tolist() == [0.4, 0.2, 0.1]
    assert tables.falling([0.4, 0.1, 0.3]).tolist() == pytest.approx([0.4, 0.2, 0.2])
    assert tables.falling([0.1, 0.2, 0.6]).tolist() == pytest.approx([0.3] * 3)


def test_weights_at_an_error_are_interpolated_in_logarithms(tables):
    weights = np.log([100.0, 400.0])
    assert tables.at_error(weights, [0.04, 0.01], 0.02) == pytest.approx(math.log(200.0))
    assert tables.at_error(weights, [0.04, 0.01], 0.5) == pytest.approx(math.log(100.0))
    assert tables.at_error(weights, [0.04, 0.01], 0.001) == pytest.approx(math.log(400.0))


def test_compression_by_hand_without_scatter(tables):
    curve = {0.9: runs(tables, 100, [0.04] * 2), 0.6: runs(tables, 400, [0.01] * 2)}
    found = tables.compression(runs(tables, 800, [0.02] * 2).values(), curve)
    assert (found.value, found.low, found.high) == pytest.approx((4.0, 4.0, 4.0))
    assert str(found) == "4.00 (4.00 to 4.00)"
    assert str(tables.compression(runs(tables, 800, [0.05] * 2).values(), curve)).startswith("more than 8.00")
    assert str(tables.compression(runs(tables, 800, [0.005] * 2).values(), curve)).startswith("less than 2.00")


def test_an_interval_is_wide_with_few_seeds_and_missing_with_one(tables):
    curve = {p: runs(tables, n, [error * 0.9, error * 1.1]) for p, n, error in ((0.9, 100, 0.04), (0.6, 400, 0.01))}
    few = tables.compression(runs(tables, 800, [0.019, 0.021]).values(), curve)
    assert few.low < 4 * 0.8
    assert few.high > 4 * 1.2
    assert tables.compression(runs(tables, 800, [0.02]).values(), curve) is None
    assert tables.compression(runs(tables, 800, [0.02] * 2).values(), {0.9: runs(tables, 100, [0.04] * 2)}) is None
    assert (
        tables.compression(runs(tables, 800, [0.02] * 2).values(), {0.9: curve[0.9], 0.6: runs(tables, 4, [1])}) is None
    )


def test_runs_of_the_study_and_of_the_table_are_read_together(tables, tmp_path):
    gap = importlib.import_module("gap")
    row = dict.fromkeys(gap.COLUMNS, "") | {
        "method": "Multinet", "nights": "recommended", "restart": "zero", "p": "0.995", "seed": "0",
        "accuracy": "0.99", "owned": "[1332]",
    }  # fmt: skip
    path = tmp_path / "gap.csv"
    values = ",".join('"[1332]"' if name == "owned" else row[name] for name in gap.COLUMNS)
    path.write_text("# made\n" + ",".join(gap.COLUMNS) + "\n" + values + "\n")
    found = tables.read(path)
    assert found["Multinet", "recommended", "zero", ""][0.995][0].error == pytest.approx(0.01)
    of_study = found["PackNet", "recommended", "zero", ""]
    assert sorted(of_study) == [0.95, 0.99, 0.995]
    assert {len(own) for own in of_study.values()} == {10}
    assert {run.weights for run in of_study[0.995].values()} == {1332}
    assert sorted(found["PackNet", "one", "redraw", ""][0.995]) == [0, 1, 2]
    for function in tables.TABLES.values():
        function(found)
    coverage = {(row["method"], row["nights"], row["restart"], row["lift"]): row for row in tables.coverage(found)}
    assert coverage["Multinet", "recommended", "zero", ""]["p = 0.995"] == 1
    assert coverage["PackNet", "recommended", "redraw", ""]["p = 0.995"] == 0


def test_what_is_looked_at_is_a_mean_over_seeds_and_later_days(tables):
    row = {
        "silent_dusk": [[0, 0], [10, 20], [30, 40]], "no_gradient": [[0, 0], [1, 2], [3, 4]],
        "in_vain": [[50, 50], [10, 0], [30, 20]], "owned": [100, 100, 100], "blank": [0, 5, 1],
    }  # fmt: skip
    found = tables.looked_at([{name: json.dumps(value) for name, value in row.items()}])
    assert found == {
        "silent at dusk": "20, 30", "no gradient": "2, 3", "in vain %": "20.0, 10.0", "blank %": "3.0",
    }  # fmt: skip


def test_differences_are_paired_by_seed(tables):
    usual, lifted = ("Memory", "one", "zero", ""), ("Memory", "one", "zero", "old 0.2")
    found = {
        usual: {0.99: runs(tables, 9, [0.02, 0.03, 0.5], usual)}, lifted: {0.99: runs(tables, 9, [0.01, 0.02], lifted)},
    }  # fmt: skip
    (row,) = tables.differences(found)
    assert (row["what"], row["seeds"], row["error %"], row["with it"]) == ("old 0.2", 2, "2.50", "1.50")
    assert row["gain"] == "+1.00 (+1.00 to +1.00)"


@pytest.mark.parametrize(
    ("numbers", "least", "most", "verdict"),
    [
        ((1.2, 0.9, 2.0), 2, None, "neither a gap nor its absence is shown, and more than 2.00 fits as well"),
        ((5.0, 5.0, 6.9), None, 1, "neither a gap nor its absence is shown, and 6.90 fits as well"),
        ((1.2, 1.1, 1.3), None, None, "Multinet owns fewer weights, by more than chance"),
        ((0.8, 0.7, 0.9), None, None, "PackNet owns fewer weights, by more than chance"),
        ((0.8, 0.7, 0.9), 2, None, "neither a gap nor its absence is shown, and more than 0.90 fits as well"),
    ],
)
def test_an_interval_shows_a_gap_only_if_both_its_ends_do(tables, numbers, least, most, verdict):
    flags = [tuple(place == one for place in range(3)) for one in (least, most)]
    assert tables.Compression(*numbers, *flags).verdict == verdict


def test_what_is_known_of_a_gap_follows_the_runs(tables):
    packnet, multinet = ("PackNet", "recommended", "zero", tables.BY_CHANGE), ("Multinet", "recommended", "zero", "")
    found = {packnet: {0.99: runs(tables, 800, [0.02, 0.02, 0.02])}}
    assert tables.shown(found) == ["Not measured yet."]
    found[multinet] = {0.995: runs(tables, 100, [0.04] * 2), 0.98: runs(tables, 400, [0.01] * 2)}
    assert tables.shown(found) == [
        "- At p = 0.99, shares equal, with 3 seeds of PackNet and 2 of Multinet, it is 4.00 (4.00 to 4.00): Multinet "
        "owns fewer weights, by more than chance."
    ]


def test_the_figure_of_the_gap_has_a_panel_for_nights_with_runs_and_says_what_its_bars_are(tables):
    kinds = [("PackNet", "recommended", "zero", lift) for lift in ("", tables.BY_CHANGE)]
    found = {kind: {p: runs(tables, n, [0.01, 0.02]) for p, n in ((0.9, 100), (0.5, 500))} for kind in kinds}
    (ax,) = tables.errors_figure(found).axes
    assert ax.get_title() == "recommended"
    assert ax.get_xlabel() == "owned weights, all tasks\nn = 2, bars: standard errors"
    assert ax.get_legend_handles_labels()[1] == ["PackNet", "PackNet, output_change"]
    assert not any(ax.has_data() for ax in tables.units_figure(found).axes)
    plt.close("all")


def test_lives_with_shares_by_need_are_runs_of_their_own(tables):
    row = {
        "on": "test", "stream": "mnist", "p": "0.99", "nights": "recommended", "criterion": "output_change",
        "ranking": "layer", "share": "equal", "epochs": "72", "seed": "1", "error": "0.5", "owned": "5 6",
    }  # fmt: skip
    kinds = [tables.of_criterion(row | {"share": share}).kind for share in ("equal", "need")]
    assert kinds == [("PackNet", "recommended", "zero", lift) for lift in (tables.BY_CHANGE, tables.BY_NEED)]
    assert tables.of_criterion(row | {"on": "validation"}) is None
