"""The benchmark of the gap at equal nights, on few images and steps."""

import importlib
import json
from pathlib import Path

import pytest
import torch

import daynight as dn
from daynight.testing import toy_stream

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def rows_of(module, path):
    return {module("gap").name_of(row): row for row in module("rows").read(path)[1]}


def test_each_run_has_a_row_and_is_done_once(module, tmp_path, capsys):
    path = tmp_path / "gap.csv"
    few = ["--quick", "--out", str(path), "--only", "nights=one", "p=0.99", "seed=0", "restart=zero"]
    module("gap").main([*few, "method=PackNet,Multinet", "lift=,shares,unfrozen"])
    rows = rows_of(module, path)
    assert {(name[0], name[4]) for name in rows} == {
        ("PackNet", ""), ("PackNet", "unfrozen"), ("Multinet", ""), ("Multinet", "shares"),
    }  # fmt: skip
    assert all(0.4 < float(row["accuracy"]) <= 1 for row in rows.values())
    by_run = {(name[0], name[4]): row for name, row in rows.items()}
    plain, shares = by_run["PackNet", ""], by_run["Multinet", "shares"]
    assert json.loads(plain["owned"]) == json.loads(shares["owned"])  # PackNet's shares
    assert sum(json.loads(plain["owned"])) == sum(json.loads(by_run["Multinet", ""]["owned"])) == 2662
    assert plain["silent_dusk"] == by_run["PackNet", "unfrozen"]["silent_dusk"]
    for column in ("silent", "silent_dusk", "no_gradient", "in_vain"):
        assert [len(json.loads(row[column])) for row in by_run.values()] == [
            1 if run == ("Multinet", "") else 5 for run in by_run
        ]
        assert all(len(layers) == 2 for layers in json.loads(plain[column]))
    before = path.read_text()
    module("gap").main([*few, "method=PackNet", "lift="])
    assert path.read_text() == before
    assert capsys.readouterr().out.endswith("1 of 1 runs are done\n")


def test_other_lifts_of_memory_and_of_freezing(module, tmp_path):
    path = tmp_path / "gap.csv"
    few = ["--quick", "--out", str(path), "--only", "nights=one", "p=0.99", "seed=0"]
    module("gap").main([*few, "method=Memory", "lift=old 0.2,order 43210"])
    module("gap").main([*few, "method=Multinet", "lift=shares frozen"])
    rows = rows_of(module, path).values()
    assert {row["lift"] for row in rows} == {"old 0.2", "order 43210", "shares frozen"}
    assert len({row["steps"] for row in rows}) <= 2


def test_the_docs_have_no_quick_runs(module, capsys):
    with pytest.raises(SystemExit):
        module("gap").main(["--quick"])
    assert "--quick is not for the table of the docs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        module("gap").main(["--only", "kept=0.1"])
    assert "--only takes NAME=VALUE with a name of method, nights," in capsys.readouterr().err


def test_units_are_looked_at_by_hand(module):
    agent = dn.Agent(lambda: dn.models.MLP(2, 3), capacity=dn.Capacity(keep_per_night=1.0))
    inputs, targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    task = dn.Task(train=(inputs, targets), test=(inputs, targets))
    agent.wake(task, dn.Steps(0))
    network = agent.network.module
    with torch.no_grad():
        network.body[1].weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 0.0]]))
        network.body[1].bias.zero_()
        network.head.weight.copy_(torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, -1.0]]))
    # Unit 1 is never active; unit 0 is, and the head does not read it.
    assert module("gap").looked_at(network, agent, task, slice(None)) == ([1], [2])


def test_tasks_that_train_on_keep_their_masks(module):
    agent = dn.Agent(lambda: dn.models.MLP(6, 8, 8), capacity=dn.Capacity(free_at_end=0.5, days=2))
    tasks = list(toy_stream(2))
    for task in tasks:
        agent.wake(task, dn.Epochs(2))
        agent.sleep(dn.OneShot(), dn.Epochs(2))
    network = module("unfrozen").Unfrozen(agent)
    for index, task in enumerate(tasks):
        expected = agent.predict(task.test.inputs, index)
        torch.testing.assert_close(network(task.test.inputs, index).detach(), expected)
    assert module("unfrozen").scores(agent, tasks, 0.0, 0) == [
        agent.evaluate(task, index)[1] for index, task in enumerate(tasks)
    ]
    agent.verify()
    assert min(module("unfrozen").scores(agent, tasks, 8.0, 0)) > 0.4
    agent.verify()
