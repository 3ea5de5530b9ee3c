"""How the site's pages show figures and intervals."""

import importlib
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))
import pages  # noqa: E402  (from docs, as the next one)
import weights  # noqa: E402


@pytest.fixture
def panels(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "GENERATED", tmp_path)
    yield plt.subplots(1, 2)
    plt.close("all")


def test_a_figure_without_anything_drawn_is_not_shown(panels, tmp_path):
    figure, axes = panels
    (tmp_path / "some.png").write_text("of an earlier build")
    for ax in axes:
        ax.set(title="silent units", xlabel="day", ylim=(0, 1))
    assert pages.picture("some", figure, "Curves.") == ""
    assert not list(tmp_path.iterdir())


def test_a_figure_with_a_blank_panel_stops_the_build(panels):
    figure, axes = panels
    axes[0].plot([1, 2])
    with pytest.raises(RuntimeError, match=r"1 of 2 panels of some.png are blank"):
        pages.picture("some", figure)


def test_a_figure_is_shown_with_what_it_says(panels, tmp_path):
    figure, axes = panels
    for ax in axes:
        ax.plot([1, 2])
    axes[0].set_title("n = 3, no bars")
    shown = pages.picture("some", figure, "Curves.")
    assert shown == ".. image:: /_build/generated/some.png\n   :width: 100%\n   :alt: Curves.\n"
    assert (tmp_path / "some.png").stat().st_size > 1000


def test_a_figure_of_runs_that_does_not_say_n_stops_the_build(panels):
    figure, axes = panels
    for ax in axes:
        ax.plot([1, 2])
    with pytest.raises(RuntimeError, match=r"some.png does not say of how many runs it is"):
        pages.picture("some", figure)
    assert pages.picture("some", figure, is_of_runs=False)


def test_no_page_shows_a_picture_that_a_draft_does_not_have():
    pages_of_docs = [*DOCS.glob("*.rst"), *DOCS.glob("reference/*.rst")]
    assert not [path.name for path in pages_of_docs if "/images/sphx_glr" in path.read_text()]


def test_each_figure_of_the_site_is_looked_at():
    found = [path.name for path in DOCS.glob("*.py") if re.search(r"savefig|plots\.save\(", path.read_text())]
    assert found == ["pages.py"]
    assert (DOCS / "pages.py").read_text().count("savefig") == 1


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.026, 0.0048, 0.0473), "0.026 (0.005 to 0.047)"),
        ((0.026, 0.00048, 0.0473), "0.0260 (0.0005 to 0.0473)"),
        ((0.26, 0.12, 0.4), "0.26 (0.12 to 0.40)"),
        ((0.26, 0.0, 0.52), "0.26 (0.00 to 0.52)"),
        ((-0.12, -0.24, -0.003), "-0.120 (-0.240 to -0.003)"),
    ],
)
def test_an_end_of_an_interval_is_not_rounded_to_zero(ends, text):
    mean, low, high = ends
    assert pages.with_interval(*ends) == text
    assert pages.cell({"gain": mean, "gain low": low, "gain high": high}, "gain", (), ".2f") == text


def test_the_recommendation_beside_simpler_nights_takes_the_seeds_that_both_have():
    groups = {
        ("test", "rotated", "0.95", nights, "72", "magnitude"): {0: 5.0, 1: 6.0, 2: 9.0}
        for nights in ("one", weights.UNIFORM, "recommended")
    }
    own = ("test", "rotated", "0.95", "recommended", "72", "output_change, shares by need")
    groups |= {own: {0: 4.0}, ("test", "rotated", "0.95", "one", "72", "output_change"): {0: 1.0, 1: 1.0}}
    assert weights.beside_simpler(groups) == []
    groups[own] |= {1: 5.5, 3: 100.0}
    groups["test", "rotated", "0.95", "recommended", "72", "output_change"] = {0: 5.0, 1: 5.0, 2: 8.0}
    equal, need = weights.beside_simpler(groups)
    assert (need["stream"], need["p"], need["shares"], need["seeds"]) == ("rotated", "0.95", "by need", 3)
    assert (equal["shares"], equal["seeds"], equal["error, %"]) == ("equal", 3, "6.00")
    assert need["less than one prune"] == need["less than 72 uniform cycles"] == "0.75 (-2.43 to 3.93)"
    assert equal["less than recommended"] == "0.67 (-0.77 to 2.10)"


def test_a_table_of_speed_has_the_number_of_repeats_and_ranges_of_several(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS.parent / "benchmarks"))
    tables = importlib.import_module("tables")

    def run(method, seed, wake):
        more = {"seconds": 2 * wake, "peak_bytes": 0, "bytes_before": 0, "accuracy": [1.0], "free_fraction": 0.5}
        return {
            "method": method,
            "p": 0.9,
            "rounds": 1,
            "seed": seed,
            "wakes": [(wake, 1)],
            "rems": [(wake, 1)],
            **more,
        }

    runs = [run("daynight", 0, 1.0), run("daynight", 1, 1.0), run("plain", 0, 2.0), run("plain", 1, 4.0)]
    found = tables.rows({"runs": [*runs, run("avalanche", 0, 5.0)]})
    numbers, ratios = tables.HEADER.index("n"), tables.HEADER.index("wake x")
    assert [(row[numbers], row[ratios]) for row in found] == [("2", "-"), ("2", "3.00 (2.00 to 4.00)"), ("1", "5.00")]
