"""Results of runs: selected, summarized and written."""

import functools
import math
import platform
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from daynight import Epochs, OneShot, UniformCycles, recommended_policy
from daynight.errors import SettingError, StudyError
from daynight.storage.identity import describe
from daynight.study import Results, Study, grid
from daynight.testing import toy_network, toy_stream


def counted(stream, *, seed, a, log=None):
    if log is not None:
        with Path(log).open("a") as lines:
            lines.write(f"{a} {seed}\n")
    return {"value": a + seed / 10, "threads": torch.get_num_threads()}


def test_frame_has_a_row_for_each_run(tmp_path):
    def laid(stream, *, seed, policy, night):
        return {"n_cycles": policy.n, "per_task": [0.5, 1.0]}

    policies = [UniformCycles(1), UniformCycles(4)]
    results = Study(tmp_path).run(grid(laid, toy_stream, seeds=range(3), policy=policies, night=Epochs(2)))
    frame = results.to_frame()
    assert len(frame) == 6
    assert frame["policy.n"].tolist() == frame["n_cycles"].tolist() == [1, 4] * 3
    assert frame["seed"].tolist() == [0, 0, 1, 1, 2, 2]
    assert frame["per_task"][0] == [0.5, 1.0]
    assert set(frame["night"]) == {"Epochs(n=2)"} or set(frame["night.n"]) == {2}
    assert len(Results([]).to_frame()) == 0


def test_text_selects_what_tables_show_and_an_unknown_one_is_refused(tmp_path):
    def scored(stream, *, seed, policy, biases="per-task"):
        return {"score": seed}

    runs = grid(scored, toy_stream, seeds=range(2), policy=[UniformCycles(3), recommended_policy()])
    runs += grid(counted, toy_stream, seeds=range(3), a=1)
    results = Study(tmp_path).run(runs)
    assert len(results.select(method="counted")) == len(results.select(method=counted)) == 3
    assert len(results.select(policy="UniformCycles(n=3)")) == len(results.select(policy=UniformCycles(3))) == 2
    assert len(results.select(policy="recommended_policy()", seed=1)) == 1
    assert len(results.select(biases="per-task")) == 4
    assert len(results.select(policy=UniformCycles(5))) == len(results.select(a=2)) == 0
    assert len(Results([]).select(method="counted")) == 0
    shown = re.escape(next(str(row["method"]) for row in results.table(by=["method"], values=[]) if row["runs"] == 3))
    with pytest.raises(SettingError, match=f"no run has method=packnet. Of method there are {shown}, "):
        results.select(method="packnet")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            {"a": {"b": [1.0, float("nan")]}},
            r"the result\['a'\]\['b'\]\[1\] must be finite numbers, text, None, .* not nan",
        ),
        ({"a": {1, 2}}, r"the result\['a'\] must be finite numbers"),
        (None, "a method must return a dict of its results, not None"),
        (3.0, "a method must return a dict"),
    ],
)
def test_results_that_are_none_are_refused(tmp_path, result, message):
    with pytest.raises(StudyError, match=message) as caught:
        Study(tmp_path).run(grid(lambda stream, *, seed: result, toy_stream, seeds=[0]))
    assert "Traceback" not in str(caught.value)


def test_numbers_of_numpy_and_pytorch_become_plain(tmp_path):
    def method(stream, *, seed):
        return {"a": np.float32(0.5), "b": torch.arange(2), "c": np.array([[1.5]]), "d": (True, None, "x"), 1: 2}

    (entry,) = Study(tmp_path).run(grid(method, toy_stream, seeds=[0]))
    assert entry["result"] == {"a": 0.5, "b": [0, 1], "c": [[1.5]], "d": [True, None, "x"], "1": 2}


def test_results_are_selected_summarized_and_written(tmp_path):
    found = Study(tmp_path / "store").run(grid(counted, toy_stream, seeds=range(3), a=[1, 2]))
    assert found.select(a=1).summary("value").mean == pytest.approx(1.1)
    assert found.select(a=2).compare(found.select(a=1), "value").mean == pytest.approx(1.0)
    assert [row["runs"] for row in found.table(["a"], ["value"])] == [3, 3]
    found.to_csv(tmp_path / "t.csv", ["a"], ["value"])
    assert (tmp_path / "t.csv").read_text().splitlines()[0].startswith("a,runs,value,value standard error")
    assert {key: len(group) for key, group in found.groups("machine.platform", "a").items()} == {
        (platform.machine(), 1): 3, (platform.machine(), 2): 3,
    }  # fmt: skip
    assert [key for (key,) in found.groups("machine")] == [
        f"(platform={platform.machine()!r}, torch={torch.__version__!r})"
    ]
    with pytest.raises(SettingError, match="several runs have the seed 0"):
        found.values("value")
    with pytest.raises(SettingError, match="a run has no result 'score', only threads, value"):
        found.select(a=1).values("score")
    assert len(Results([])) == 0


def test_settings_of_any_kind_are_told_apart_in_groups_and_tables(tmp_path):
    def method(stream, *, seed, wake, policy=None, network=None):
        return {"value": seed}

    runs = grid(method, toy_stream, seeds=[0], wake=[Epochs(1), Epochs(2)], policy=[UniformCycles(1), UniformCycles(4)],
                network=[functools.partial(toy_network, width=4), toy_network])  # fmt: skip
    found = Study(tmp_path).run(runs)
    wakes = {key for (key,) in found.groups("wake")}
    assert wakes == {"daynight.schedule.Epochs(n=1.0)", "daynight.schedule.Epochs(n=2.0)"}
    assert {len(group) for group in found.groups("policy").values()} == {4}
    assert [key for (key,) in found.groups("network")] == [
        "daynight.testing.toy_network(width=4)", "daynight.testing.toy_network"]  # fmt: skip
    assert [key for (key,) in found.groups("policy.n")] == [1, 4]
    assert len(found.groups("data")) == 1
    for call in (lambda: found.select(walk=1), lambda: found.groups("walk"), lambda: found.table(["walk"], ["value"])):
        with pytest.raises(
            SettingError, match="no run has a setting 'walk', only data, machine, method, network, policy, seed"
        ):
            call()


def entry(seed, value, **settings):
    return {
        "run": {"method": "m", "data": "d", "version": "v", "settings": {"seed": seed} | settings},
        "result": {"score": value},
    }


def policies():
    """Return runs of three policies at two p, seed by seed 0.1 above those of `OneShot`, and one seed less of one."""
    gains = {OneShot(): 0.0, UniformCycles(12): 0.1, recommended_policy(): 0.3}
    return Results(
        entry(seed, seed + p + gain + 0.01 * seed * (gain > 0), policy=describe(policy), p=p)
        for policy, gain in gains.items()
        for p in (0.5, 0.9)
        for seed in range(2 if gain == 0.3 else 3)
    )


def test_rows_have_short_names_and_paired_differences():
    rows = policies().table(["p", "policy"], ["score"], labels={"once": OneShot()}, against={"policy": OneShot()})
    assert [row["policy"] for row in rows[::2]] == ["once", "UniformCycles(n=12)", "recommended_policy()"]
    assert [row["score pairs"] for row in rows] == [0, 0, 3, 3, 2, 2]
    assert {row["comparisons"] for row in rows} == {4}
    assert all(math.isnan(row["score difference"]) for row in rows[:2])
    # By hand: differences of 0.10, 0.11 and 0.12 have the mean 0.11 and the standard error 0.01 / sqrt(3); t is 4.303.
    assert [row["score difference"] for row in rows[2:]] == pytest.approx([0.11, 0.11, 0.305, 0.305])
    assert rows[2]["score difference low"] == pytest.approx(0.11 - 4.3027 * 0.01 / 3**0.5, abs=1e-5)
    assert rows[2]["score difference high"] == pytest.approx(0.11 + 4.3027 * 0.01 / 3**0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"against": {"night": 3}}, r"against: night is not one of the settings in by=\['p', 'policy'\]"),
        ({"against": {}}, "Name at least one of these"),
        ({"against": {"policy": UniformCycles(3)}}, "no runs to compare with, which have policy=UniformCycles.n=3."),
        ({"against": {"policy": "one"}}, r"The runs have policy: OneShot\(\), UniformCycles\(n=12\), recommended"),
        ({"labels": {"UniformCycles(n=12)": OneShot()}}, "'UniformCycles.n=12.' is also how another value is shown"),
        ({"labels": {1: OneShot()}}, "labels: each name must be"),
        ({"labels": ["once"]}, "labels must be"),
    ],
)
def test_wrong_comparisons_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        policies().table(["p", "policy"], ["score"], **arguments)


def test_categories_are_drawn_in_the_given_order_without_lines_between_them():
    results = policies()
    once = results.select(p=0.5)
    ax = once.draw("score", ["policy"], labels={"recommended": recommended_policy(), "once": OneShot()})
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["recommended", "once", "UniformCycles(n=12)"]
    low, high = ax.get_ylim()
    assert low > high  # the first is on top
    assert all(line.get_linestyle() == "None" for line in ax.lines)
    assert ax.get_title(loc="right") == "n = 2 to 3, bars: 95 %"
    assert once.draw("score", ["policy"]).get_yticklabels()[0].get_text() == "OneShot()"
    both = results.draw("score", ["p", "policy"], bars="standard errors")
    assert both.get_xlabel() == "p"
    assert both.get_title(loc="right") == "n = 2 to 3, bars: standard errors"
    (legend,) = both.get_figure().legends
    assert legend.get_title().get_text() == "policy"
    assert [text.get_text() for text in legend.get_texts()] == [
        "OneShot()", "UniformCycles(n=12)", "recommended_policy()"]  # fmt: skip


def test_points_of_several_lines_are_beside_each_other_and_numbers_are_named_where_points_are():
    ax = policies().draw("score", ["p", "policy"])
    assert list(ax.get_xticks()) == [0.5, 0.9]
    firsts = [
        line.get_transform().transform(line.get_xydata())[0, 0] for line in ax.lines if line.get_label()[0] != "_"
    ]
    assert firsts == sorted(set(firsts))
    many = Results([entry(0, 1.0, p=p) for p in (0.8, 0.9, 0.99, 0.995, 0.998)])
    assert list(many.draw("score", ["p"]).get_xticks()) == [0.8, 0.9, 0.998]


def test_a_table_prints_as_text_with_three_digits_of_each_interval():
    table = policies().table(["p", "policy"], ["score"], labels={"once": OneShot()}, against={"policy": "once"})
    lines = str(table).splitlines()
    names = ["p", "policy", "runs", "score", "standard error", "interval"]
    assert re.split(r"  +", lines[0].strip()) == [*names, "difference", "difference interval", "pairs"]
    assert re.split(r"  +", lines[3].strip())[:2] == ["0.5", "UniformCycles(n=12)"]
    assert re.split(r"  +", lines[3].strip())[-3:] == ["0.1100", "0.0852 to 0.1348", "3"]
    assert str(Results([]).table(["p"], ["score"])) == "no runs"
    two = str(results_of_two().table(["p"], ["score", "loss"])).splitlines()[0]
    assert {"score interval", "loss interval"} <= set(re.split(r"  +", two.strip()))


def results_of_two():
    found = [entry(seed, 1.0 + seed, p=0.5) for seed in range(2)]
    return Results(one | {"result": one["result"] | {"loss": 0.5}} for one in found)


def test_a_confidence_is_that_of_table_figure_and_file(tmp_path):
    shown = {"by": ["p", "policy"], "labels": {"once": OneShot()}, "against": {"policy": "once"}, "confidence": 0.9875}
    assert policies().draw("score", **shown).get_title(loc="right") == "4 differences, n = 2 to 3, bars: 98.75 %"
    assert str(policies().table(values=["score"], **shown)).endswith("\n4 differences, each with its own interval")
    policies().to_csv(tmp_path / "study.csv", values=["score"], **shown)
    row = policies().table(values=["score"], **shown)[2]
    # By hand: the 0.99375 quantile of Student's t with two degrees of freedom is 8.860.
    assert row["score difference high"] == pytest.approx(0.11 + 8.860 * 0.01 / 3**0.5, abs=1e-4)
    assert f"{row['score difference high']}" in (tmp_path / "study.csv").read_text()


def test_a_legend_is_below_the_axes_and_within_the_figure():
    ax = policies().draw("score", ["p", "policy"], against={"policy": OneShot()})
    figure = ax.get_figure()
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.y1 < ax.get_window_extent().y0
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert box.y0 >= 0
    assert ax.get_ylabel() == "score, minus that with policy=OneShot()"
    assert ax.get_title(loc="right") == "4 differences, n = 2 to 3, bars: 95 %"


def test_many_settings_share_a_cell_of_a_report(tmp_path):
    runs = Results([entry(seed, 0.5, a=1, b="x", c=c, d=2.5) for seed in range(2) for c in (3, 4)])
    for by in ("cd", "abcd"):
        runs.report(tmp_path / "study.html", [*by], ["score"])
        page = (tmp_path / "study.html").read_text()
        names = re.findall("<th[^>]*>([^<]*)</th>", page)
        assert names == [*(["settings"] if by == "abcd" else ["c"]), "d", "runs", *names[-3:]]
        assert (">a 1, b x, c 3</td>" in page) == (by == "abcd")


def test_texts_from_a_store_are_sorted_because_its_order_has_no_meaning():
    names = ("b", "a 12", "a 2")
    stored = Results([entry(0, 1.0, way=name) | {"key": f"{index}"} for index, name in enumerate(names)])
    given = Results([entry(0, 1.0, way=name) for name in names])
    drawn = [
        [tick.get_text() for tick in results.draw("score", ["way"]).get_yticklabels()] for results in (stored, given)
    ]
    assert drawn == [["a 2", "a 12", "b"], list(names)]
    assert stored.draw("score", ["way"]).get_title(loc="right") == "n = 1, no bars"


@pytest.mark.parametrize(
    ("results", "arguments", "message"),
    [
        (Results([]), {}, "there must be runs"),
        (policies(), {"bars": "errors"}, "bars must be one of 'intervals', 'standard errors'"),
        (Results(entry(0, 1.0, way=str(n), p=p) for n in range(25) for p in (1, 2)), {"by": ["way", "p"]}, "25 combin"),
    ],
)
def test_what_cannot_be_drawn_is_refused(results, arguments, message):
    with pytest.raises(SettingError, match=message):
        results.draw("score", **{"by": ["p", "policy"]} | arguments)


def keyword(stream, *, seed, a=1, biases="per-task"):
    return {"value": a + seed}


def test_a_default_equals_what_is_left_out(tmp_path):
    found = Study(tmp_path).run(
        [*grid(keyword, toy_stream, seeds=[0]), *grid(keyword, toy_stream, seeds=[1, 2], a=[1, 2])]
    )
    assert found.select(a=1).values("value") == {0: 1, 1: 2, 2: 3}
    assert len(found.select(biases="per-task")) == 5
    assert [(key, len(own)) for key, own in found.groups("a").items()] == [((1,), 3), ((2,), 2)]
    packed = Results([entry(0, 1.0)])
    packed.entries[0]["run"]["method"] = {"function": "daynight.study.methods.packnet"}
    assert len(packed.select(biases="per-task", ranking="layer", restart="zero")) == 1
    with pytest.raises(SettingError, match=r"no run has restart=keep\. Of restart there is zero\."):
        packed.select(restart="keep")
    with pytest.raises(SettingError, match="no run has a setting 'altitude'"):
        packed.select(altitude=3)


def test_errors_name_the_settings_in_which_runs_differ():
    with pytest.raises(SettingError) as caught:
        policies().select(p=0.5).values("score")
    assert str(caught.value) == (
        "values: several runs have the seed 0. They differ in policy (OneShot(), UniformCycles(n=12), "
        "recommended_policy()). Select one value of each, or group by them."
    )
    with pytest.raises(SettingError, match=r"differ in p \(0.5, 0.9\). Select one value of each, such as select.p=0.5"):
        policies().table(["policy"], ["score"])
    with pytest.raises(SettingError, match="They differ in no setting"):
        Results([entry(0, 1.0), entry(0, 1.0)]).values("score")


def test_names_of_values_that_are_none_or_false_and_numbers_that_differ_late():
    found = [entry(seed, 0.1 * seed + bonus, k=k) for seed in range(2) for k, bonus in ((None, 0.0), (3, 0.2))]
    rows = Results(found).table(["k"], ["score"], labels={"usual": None}, against={"k": "usual"})
    assert [row["score pairs"] for row in rows if row["k"] == 3] == [2]
    flags = Results([entry(seed, 0.5, k=seed == 1) | {"seconds": 1.0} for seed in range(3)])
    frame = flags.to_frame(labels={"one": 1, "no": False})
    assert (frame["seed"].tolist(), frame["k"].tolist()) == ([0, 1, 2], ["no", True, "no"])
    close = Results([entry(0, 1.0, p=p) for p in (0.99, 0.9900001, 0.9999999)])
    lines = str(close.table(["p"], ["score"])).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["0.99", "0.9900001", "0.9999999"]
    assert close.draw("score", ["p"]).get_xticklabels()[-1].get_text() == "0.9999999"
    with pytest.raises(SettingError, match=r"values must be a list of names, such as \['score'\]"):
        close.table(["p"], "score")


@pytest.mark.parametrize("odd", [None, "much", float("nan")])
def test_a_result_that_is_no_number_is_named(odd):
    found = Results([entry(0, 0.5, p=1), entry(1, odd, p=1)])
    with pytest.raises(SettingError, match=f"'score' of the run with seed 1 is .*{odd}.*, and no finite"):
        found.table(["p"], ["score"])
