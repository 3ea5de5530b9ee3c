"""Devices of a study's runs, and the end of a study on request."""

import functools
import signal
import subprocess
import sys
import time

import pytest
import torch

from daynight import Epochs
from daynight.errors import CapacityError, SettingError, StudyError
from daynight.study import Study, grid, packnet
from daynight.testing import toy_network, toy_stream


def test_methods_receive_the_device_and_results_name_it(tmp_path, monkeypatch):
    def placed(stream, *, seed, device="cpu"):
        return {"device": device}

    def unplaced(stream, *, seed):
        return {"value": seed}

    here = grid(placed, toy_stream, seeds=[0])
    assert Study(tmp_path / "here").run(here).entries[0]["result"] == {"device": "cpu"}
    monkeypatch.setattr("daynight.support.checks.usable_device", torch.device)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"a GPU at {device}")
    there = Study(tmp_path / "there", device="cuda")
    entry = there.run(here).entries[0]
    assert entry["key"] == here[0].key
    assert entry["result"] == {"device": "cuda"}
    assert entry["machine"]["platform"] == "a GPU at cuda"
    partial = functools.partial(placed, device="cpu")
    assert there.run(grid(partial, toy_stream, seeds=[2])).entries[0]["result"] == {"device": "cpu"}
    elsewhere = Study(tmp_path / "here").run(grid(placed, toy_stream, seeds=[3], device="a phone")).entries[0]
    assert elsewhere["result"] == {"device": "a phone"}
    # A method's own setting, and one that lives nowhere in particular, are left alone.
    assert there.run(grid(placed, toy_stream, seeds=[1], device="cpu")).entries[0]["result"] == {"device": "cpu"}
    assert there.run(grid(unplaced, toy_stream, seeds=[1])).entries[0]["result"]["value"] == 1


def test_a_run_without_room_says_so_and_not_what_follows_from_it():
    with pytest.raises(CapacityError, match=r"day 0: layer .* would get no new weight"):
        packnet(toy_stream(), seed=0, network=toy_network, free_at_end=1 - 1e-6, wake=Epochs(1), night=Epochs(1))


def test_a_device_that_is_not_there_is_named(tmp_path):
    runs = grid(packnet, toy_stream, seeds=[0], network=toy_network, free_at_end=0.5, wake=Epochs(1), night=Epochs(1))
    with pytest.raises(StudyError, match=r"1 of 1 runs have failed\. .*device='meta' cannot be used here"):
        Study(tmp_path, device="meta").run(runs)
    for wrong in ("nowhere", None, ["cpu"], ""):
        with pytest.raises(SettingError, match="device must be one of PyTorch's"):
            Study(tmp_path, device=wrong)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_study_ends_when_it_is_asked_to(jobs, tmp_path):
    path = tmp_path / "long.py"
    path.write_text(LONG.format(jobs=jobs))
    with subprocess.Popen([sys.executable, path], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        time.sleep(1)
        process.terminate()
        assert process.wait(60) in (143, -signal.SIGTERM)
    assert not list((tmp_path / "store").glob("*.json"))


LONG = """
from pathlib import Path
from daynight import Epochs
from daynight.study import Study, fine_tuning, grid
from daynight.testing import toy_network, toy_stream


def method(stream, *, seed):
    print("begun", flush=True)
    return fine_tuning(stream, seed=seed, network=toy_network, wake=Epochs(10**6), night=Epochs(1))


if __name__ == "__main__":
    Study("store", jobs={jobs}).run(grid(method, toy_stream, seeds=[0, 1]))
"""
