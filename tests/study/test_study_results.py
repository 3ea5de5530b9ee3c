"""Results of runs: selected, summarized and written."""

import functools
import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from daynight import Epochs, UniformCycles
from daynight.errors import SettingError, StudyError
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
