"""Files that earlier code has written can still be read, and what is in them goes on."""

import shutil

import guarded_files as files
import numpy as np
import pytest
import torch

import daynight as dn


@pytest.fixture
def lived():
    """Return the history of the life of both files, lived by today's code without a stop."""
    return files.clock(files.agent()).run()


def test_an_agents_file_loads_verifies_and_lives_on(tmp_path, lived):
    agent = dn.Agent.load(files.AGENT)
    agent.verify()
    assert (agent.day, agent.n_steps, agent.criterion) == (2, 220, dn.criteria.movement)
    assert agent.task_names == ("toy 0", "toy 1")
    scores = [agent.evaluate(task, index)[1] for index, task in enumerate(files.stream()) if index < 2]
    assert scores == pytest.approx(lived.accuracy[1, :2], abs=0.05)
    history = files.clock(agent).run()
    assert agent.day == files.DAYS
    assert [record.owned for record in agent.days] == [record.owned for record in lived.select(kind="day")]
    assert np.isfinite(history.accuracy[-1]).all()
    agent.save(tmp_path / "again.dn")
    again = dn.Agent.load(tmp_path / "again.dn")
    inputs = files.stream()[0].test.inputs
    assert torch.equal(again.predict(inputs, 0), agent.predict(inputs, 0))


def test_a_checkpoint_in_a_rem_is_taken_up_there(tmp_path, lived):
    folder = shutil.copytree(files.CHECKPOINT, tmp_path / "checkpoint")
    heard = []
    clock = files.clock(files.agent(), folder, heard.append)
    history = clock.run()
    assert clock.agent.day == files.DAYS
    first = heard[0]
    assert (first.day, first.phase, first.cycle, first.step) == (1, "rem", 1, 161)
    assert len(history) == len(lived)
    for before, now in zip(lived, history, strict=True):
        assert (before.kind, before.day, before.phase, before.step, before.cycle, before.owned, before.free) == (
            now.kind, now.day, now.phase, now.step, now.cycle, now.owned, now.free)  # fmt: skip
        for name in ("loss", "score", "validation_loss", "density"):
            value = getattr(before, name)
            assert getattr(now, name) == (value if value is None else pytest.approx(value, rel=0.05, abs=0.1))
