"""Agents on disk."""

import functools
import json
import math
import os
import pickle
import random

import pytest
import torch
from safetensors import safe_open
from torch import nn

from daynight import Agent, Capacity, Clock, Epochs, Task, Training, UniformCycles, criteria, metrics
from daynight.errors import (
    DamagedFileError,
    DataError,
    DataNotFoundError,
    NetworkError,
    OutputError,
    SealError,
    SettingError,
    StateError,
)
from daynight.loggers import CSVLogger
from daynight.models import MLP, ConvNet
from daynight.support import archive
from daynight.support import archive as containers
from daynight.testing import toy_network, toy_stream


def make(n_days=3, **settings):
    settings = {"training": Training(batch_size=10), "network": toy_network, **settings}
    return Agent(capacity=Capacity(free_at_end=0.5, days=n_days), **settings)


def live(agent, stream, until=None):
    return Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(2), night=Epochs(2)).run(until=until)


def normed():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.Linear(8, 2))


def halved(inputs):
    return inputs / 2


def smallest(layer):
    return -layer.weight.abs()


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"biases": "freeze-after-first"}, {"restart": "keep"}, {"restart": "redraw"}, {"exclude": ["body.1"]},
        {"network": normed}, {"consolidation": "fine-tune"}, {"consolidation": "rehearse"}, {"seed": 7},
        {"criterion": criteria.movement}, {"training": Training(batch_size=5, transform=halved)},
    ],
    ids=lambda settings: " ".join(settings) or "usual",
)  # fmt: skip
@pytest.mark.parametrize("n_days", [0, 2])
def test_an_agent_from_a_file_predicts_and_lives_on_the_same(settings, n_days, tmp_path):
    stream, agent = toy_stream(3), make(**settings)
    live(agent, stream, until=n_days)
    agent.save(tmp_path / "agent.dn")
    given = {name: settings[name] for name in ("network", "criterion", "training") if name in settings}
    if settings.get("consolidation") == "rehearse":
        given["kept"] = list(stream)[:n_days]
    other = Agent.load(tmp_path / "agent.dn", **given)
    inputs = stream[0].test.load()[0]
    assert (other.day, other.owned, other.n_free, other.n_steps) == (
        agent.day,
        agent.owned,
        agent.n_free,
        agent.n_steps,
    )
    assert other.days == agent.days
    assert all(torch.equal(other.predict(inputs, task), agent.predict(inputs, task)) for task in range(n_days))
    if not n_days:
        return  # its first weights are drawn anew, and saved
    for one in (agent, other):
        live(one, stream)
    assert [day.owned for day in other.days] == [day.owned for day in agent.days]
    assert all(torch.equal(other.predict(inputs, task), agent.predict(inputs, task)) for task in range(3))
    if settings.get("consolidation", "freeze") == "freeze":
        other.verify()


def test_the_librarys_own_functions_are_found_again(tmp_path):
    metric = metrics.mean_squared_error
    agent = make(criterion=criteria.movement, training=Training(batch_size=10, metric=metric))
    agent.save(tmp_path / "agent.dn")
    other = Agent.load(tmp_path / "agent.dn", toy_network)
    assert (other.criterion, other.training.metric) == (criteria.movement, metric)
    make(training=Training(batch_size=10, metric=functools.partial(metric))).save(tmp_path / "agent.dn")
    with pytest.raises(
        SettingError, match=r"metric \(daynight.metrics.mean_squared_error\(\.\.\.\)\): give them"
    ) as caught:
        Agent.load(tmp_path / "agent.dn", toy_network)
    assert caught.value.page == "files"


def test_an_untrained_agent_keeps_its_first_weights(tmp_path):
    make(seed=3).save(tmp_path / "agent.dn")
    agents = [make(seed=3), Agent.load(tmp_path / "agent.dn")]
    for agent in agents:
        live(agent, toy_stream(3))
    inputs = toy_stream(3)[0].test.load()[0]
    assert torch.equal(*(agent.predict(inputs, 2) for agent in agents))


def test_the_librarys_models_come_by_themselves(tmp_path):
    agent = make(network=functools.partial(ConvNet, dropout=0.3), training=None)
    agent.save(tmp_path / "agent.dn")
    assert Agent.load(tmp_path / "agent.dn").network.module.settings["dropout"] == 0.3
    make(network=normed).save(tmp_path / "agent.dn")
    with pytest.raises(SettingError, match="saved with a network of your own code: give it with network="):
        Agent.load(tmp_path / "agent.dn")


def test_what_is_code_must_be_given_again(tmp_path):
    training = Training(transform=halved, optimizer=functools.partial(torch.optim.SGD, lr=0.1))
    make(training=training, criterion=smallest).save(tmp_path / "agent.dn")
    message = r"own, optimizer \(torch.optim.sgd.SGD\(\.\.\.\)\), transform \(.*halved\): give them with training="
    with pytest.raises(SettingError, match=message):
        Agent.load(tmp_path / "agent.dn", criterion=smallest)
    with pytest.raises(SettingError, match=r"transform .*halved, and training has None: its predictions would differ"):
        Agent.load(tmp_path / "agent.dn", training=Training(), criterion=smallest)
    with pytest.raises(SettingError, match=r"saved with the criterion .*smallest: give it with criterion="):
        Agent.load(tmp_path / "agent.dn", training=training)
    make(training=Training(batch_size=7, clip_norm=1, autocast=torch.bfloat16)).save(tmp_path / "agent.dn")
    assert Agent.load(tmp_path / "agent.dn").training == Training(batch_size=7, clip_norm=1.0, autocast=torch.bfloat16)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: toy_network(width=9), r"module.body.1.weight is \(9, 6\) of torch.float32 in the network, and was"),
        (lambda: toy_network().double(), r"is .* of torch.float64 in the network, and was saved as"),
        (normed, "is not a part of the network"),
        (lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2)), "is not a part of the network"),
    ],
)
def test_another_network_is_refused(network, message, tmp_path):
    agent = make()
    live(agent, toy_stream(3), until=1)
    agent.save(tmp_path / "agent.dn")
    with pytest.raises(NetworkError, match=message):
        Agent.load(tmp_path / "agent.dn", network)


def test_other_tasks_to_rehearse_are_refused(tmp_path):
    stream, agent = toy_stream(3), make(consolidation="rehearse")
    live(agent, stream, until=2)
    agent.save(tmp_path / "agent.dn")
    for kept in ([], [stream[0]], [stream[1], stream[0]]):
        with pytest.raises(DataError, match=rf"rehearses the 2 tasks that it has learnt, and kept= has {len(kept)}"):
            Agent.load(tmp_path / "agent.dn", kept=kept)


def test_an_agent_is_saved_between_days(tmp_path):
    agent = make()
    agent.wake(toy_stream(3)[0], Epochs(1))
    with pytest.raises(StateError, match=r"save: day 0 has begun. Call finish_night, or abandon_day, before"):
        agent.save(tmp_path / "agent.dn")
    agent.finish_night()
    agent.save(tmp_path / "agent.dn")
    assert Agent.load(tmp_path / "agent.dn").day == 1


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    agent = make()
    agent.save(tmp_path / "agent.dn")
    before = (tmp_path / "agent.dn").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    live(agent, toy_stream(3), until=1)
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        agent.save(tmp_path / "agent.dn")
    assert [path.name for path in tmp_path.iterdir()] == ["agent.dn"]
    assert (tmp_path / "agent.dn").read_bytes() == before


def test_any_reader_of_safetensors_opens_it(tmp_path):
    agent = make()
    live(agent, toy_stream(3), until=1)
    agent.save(tmp_path / "agent.dn")
    with safe_open(tmp_path / "agent.dn", "pt") as content:
        assert torch.equal(content.get_tensor("owners.body.1"), agent.network.owners["body.1"])
        assert json.loads(content.metadata()["daynight"])["kind"] == "agent"


def damaged(content, generator):
    """Damage a file in one of many ways."""
    kind = generator.randrange(5)
    if kind == 0:
        return content[: generator.randrange(len(content))]
    changed = bytearray(content)
    if kind == 1:
        for _ in range(generator.randrange(1, 9)):
            changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    elif kind == 2:
        a, b = generator.randrange(len(content)), generator.randrange(len(content))
        changed[a], changed[b] = changed[b], changed[a]
    elif kind == 3:
        begin = generator.randrange(len(content))
        changed[begin : begin + 50] = generator.randbytes(50)
    else:
        changed += generator.randbytes(generator.randrange(1, 50))
    return bytes(changed)


def test_a_damaged_file_is_refused_whatever_happened_to_it(tmp_path):
    agent, generator = make(), random.Random(0)
    live(agent, toy_stream(3), until=1)
    agent.save(tmp_path / "agent.dn")
    content = (tmp_path / "agent.dn").read_bytes()
    n_refused = 0
    for _ in range(1000):
        broken = damaged(content, generator)
        if broken == content:
            continue
        (tmp_path / "broken.dn").write_bytes(broken)
        with pytest.raises(DamagedFileError, match=r"is damaged|is not a daynight file"):
            Agent.load(tmp_path / "broken.dn")
        n_refused += 1
    assert n_refused > 950


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")


def test_no_code_of_a_file_is_run(tmp_path):
    for name, content in {
        "pickle": pickle.dumps(Bomb(str(tmp_path / "mark"))), "empty": b"", "text": b"hello", "zeros": bytes(1000),
        "long": (2**63).to_bytes(8, "little") + b"{}",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedFileError, match="is not a daynight file"):
            Agent.load(tmp_path / name)
    torch.save({"a": Bomb(str(tmp_path / "mark"))}, tmp_path / "torch")
    with pytest.raises(DamagedFileError, match="is not a daynight file"):
        Agent.load(tmp_path / "torch")
    assert not (tmp_path / "mark").exists()
    with pytest.raises(DataNotFoundError, match="there is no file"):
        Agent.load(tmp_path / "nowhere")
    with pytest.raises(DamagedFileError, match="cannot be read: Is a directory"):
        Agent.load(tmp_path)


def rewritten(path, change):
    """Write a whole file anew, with something changed in what it says."""
    about, tensors = archive.read(path, "agent")
    change(about, tensors)
    archive.write(path, "agent", about, tensors)


@pytest.mark.parametrize(
    "change",
    [
        lambda about, _: about.pop("seed"), lambda about, _: about.update(more=1),
        lambda about, _: about.update(capacity={"free_at_end": 2, "days": 3}), lambda about, _: about.update(days=[]),
        lambda about, _: about.update(days=[{"kind": "day"}]), lambda about, _: about.update(tasks=[{}]),
        lambda about, _: about.update(tasks=3), lambda about, _: about.update(frozen=[1]),
        lambda about, _: about.update(functions=None), lambda about, _: about.update(kept=["x"]),
    ],
)  # fmt: skip
def test_a_file_that_says_nonsense_is_refused(change, tmp_path):
    agent = make()
    live(agent, toy_stream(3), until=1)
    agent.save(tmp_path / "agent.dn")
    rewritten(tmp_path / "agent.dn", change)
    with pytest.raises(DamagedFileError, match="has no valid description of an agent"):
        Agent.load(tmp_path / "agent.dn")


def test_a_file_of_another_kind_or_a_newer_version_is_refused(tmp_path, monkeypatch):
    archive.write(tmp_path / "other", "forecast", {}, {})
    with pytest.raises(DamagedFileError, match="holds 'forecast', and not 'agent'"):
        Agent.load(tmp_path / "other")
    monkeypatch.setattr(containers, "FORMAT", 2)
    make().save(tmp_path / "newer")
    monkeypatch.undo()
    with pytest.raises(DamagedFileError, match=r"has the format 2, and this version of daynight reads up to 1\."):
        Agent.load(tmp_path / "newer")


def test_tensors_that_do_not_fit_are_refused(tmp_path):
    agent = make()
    live(agent, toy_stream(3), until=1)
    for name, message in (("owners.body.1", "owners.body.1 is in this network and not in the saved one"),):
        agent.save(tmp_path / "agent.dn")
        rewritten(tmp_path / "agent.dn", lambda _, tensors, name=name: tensors.pop(name))
        with pytest.raises(NetworkError, match=message):
            Agent.load(tmp_path / "agent.dn")
    agent.save(tmp_path / "agent.dn")
    rewritten(tmp_path / "agent.dn", lambda _, tensors: tensors.update(more=torch.zeros(1)))
    with pytest.raises(NetworkError, match="more is in the saved network and not in this one"):
        Agent.load(tmp_path / "agent.dn")
    agent.save(tmp_path / "agent.dn")
    rewritten(tmp_path / "agent.dn", lambda _, tensors: tensors["module.body.1.weight"].add_(1))
    with pytest.raises(SealError, match="task 0 no longer predicts"):
        Agent.load(tmp_path / "agent.dn")


@pytest.mark.parametrize("part", ["body.1.weight", "body.1.bias", "head.weight", "head.bias"])
def test_what_has_moved_is_named(part):
    agent = make()
    live(agent, toy_stream(3))
    agent.verify()
    agent.fork().verify()
    tensor = agent.network.seen_by(1)[part]
    if part == "body.1.weight":
        tensor = agent.network.module.get_parameter(part)
        index = tuple(torch.nonzero(agent.network.owners["body.1"] == 1)[0])
    else:
        index = (0,) * tensor.dim()
    with torch.no_grad():
        tensor[index] += 1e-6
    with pytest.raises(SealError, match=f"task 1 no longer predicts .* have changed since: {part}. Something"):
        agent.verify()


def test_free_weights_may_move_and_rehearsal_is_not_sealed():
    agent = make()
    live(agent, toy_stream(3), until=2)
    with torch.no_grad():
        for name, weight in agent.network.weights.items():
            weight[agent.network.owners[name] == -1] = 3.0
    agent.verify()
    rehearsing = make(consolidation="rehearse")
    live(rehearsing, toy_stream(3), until=1)
    with pytest.raises(StateError, match="verify: tasks are sealed with consolidation='freeze'"):
        rehearsing.verify()


def of_scale(factor):
    def scaled(inputs):
        return inputs * factor

    return scaled


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (of_scale(2), of_scale(3)),
        (lambda inputs: inputs * 2, lambda inputs: inputs * 3),
        (functools.partial(torch.mul, other=2), functools.partial(torch.mul, other=3)),
    ],
)
def test_a_transform_of_the_same_name_and_other_code_is_warned_of(one, other, tmp_path):
    agent = make(training=Training(batch_size=10, transform=one))
    live(agent, toy_stream(1))
    agent.save(tmp_path / "agent.dn")
    with pytest.warns(UserWarning, match="a transform of the same name and other code, or with other values in it"):
        Agent.load(tmp_path / "agent.dn", toy_network, training=Training(batch_size=10, transform=other))
    again = Agent.load(tmp_path / "agent.dn", toy_network, training=Training(batch_size=10, transform=one))
    inputs = toy_stream(1)[0].test.inputs
    assert torch.equal(again.predict(inputs, 0), agent.predict(inputs, 0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_type_needs_no_network_to_be_loaded(dtype, tmp_path):
    agent = make(network=lambda: MLP(6, 8, 8).to(dtype))
    live(agent, toy_stream(1))
    agent.save(tmp_path / "agent.dn")
    again = Agent.load(tmp_path / "agent.dn")
    assert again.network.dtype == dtype
    inputs = toy_stream(1)[0].test.inputs
    assert torch.equal(again.predict(inputs, 0), agent.predict(inputs, 0))
    again.verify()


def test_a_checkpoint_stays_in_its_folder_if_the_program_goes_to_another(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    log = CSVLogger("run.csv")

    def goes(event):
        log(event)
        os.chdir(second)

    agent = make()
    clock = Clock(
        agent, toy_stream(2), policy=UniformCycles(2), wake=Epochs(2), night=Epochs(2), on_event=goes,
        checkpoint="run", every=0,
    )  # fmt: skip
    clock.run()
    assert sorted(path.name for path in first.iterdir()) == ["run", "run.csv"]
    assert not list(second.iterdir())


class Pixels(nn.Module):
    """Gives a number for each pixel of an image."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1)

    def forward(self, inputs):
        return self.head(self.body(inputs).relu()).flatten(1)


def test_a_head_with_fewer_numbers_than_outputs_is_loaded(tmp_path):
    images = torch.rand(12, 1, 40, 40)
    task = Task(train=(images, images), test=(images, images))
    settings = {"head": "head", "make_head": lambda n: nn.Conv2d(2, n // 1600, 1)}
    agent = make(network=Pixels, **settings)
    live(agent, [task])
    agent.save(tmp_path / "agent.dn")
    again = Agent.load(tmp_path / "agent.dn", Pixels, make_head=settings["make_head"])
    assert torch.equal(again.predict(images, 0), agent.predict(images, 0))
    assert again.predict(images, 0).shape == (12, 1600)


@pytest.mark.parametrize("consolidation", ["fine-tune", "rehearse"])
@pytest.mark.parametrize("name", ["heads.0.bias", "heads.1.weight", "module.body.1.bias"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused_without_seals(consolidation, name, value, tmp_path):
    agent, path, stream = make(consolidation=consolidation), tmp_path / "agent.dn", toy_stream(2)
    live(agent, stream)
    agent.save(path)
    about, tensors = archive.read(path, "agent")
    assert name in tensors
    tensors[name].view(-1)[0] = value
    archive.write(path, "agent", about, tensors)
    with pytest.raises(DamagedFileError, match="not finite"):
        Agent.load(path, kept=list(stream) if consolidation == "rehearse" else ())


def test_kept_pairs_are_no_tasks(tmp_path):
    agent, stream = make(consolidation="rehearse"), toy_stream(2)
    live(agent, stream)
    agent.save(tmp_path / "agent.dn")
    with pytest.raises(DataError, match="kept= must be tasks, as the agent learnt them"):
        Agent.load(tmp_path / "agent.dn", kept=[(task.train, task.test) for task in stream])


def test_a_file_with_a_number_as_a_name_is_read(tmp_path):
    """Names were once kept as they were given."""
    agent, path = make(), tmp_path / "agent.dn"
    live(agent, toy_stream(1))
    agent.save(path)
    about, tensors = archive.read(path, "agent")
    about["tasks"][0]["name"] = 7
    archive.write(path, "agent", about, tensors)
    assert Agent.load(path).task_names == ("7",)
