"""A run's name changes with what it depends on, and with nothing else."""

import collections
import functools
import importlib.util
import math
import pathlib
import socket
import subprocess
import sys
import tempfile
from typing import NamedTuple

import attrs
import numpy as np
import pytest
import torch
from torch import nn

from daynight import (
    Cycle,
    Epochs,
    LazyDataset,
    OneShot,
    SleepPolicy,
    Split,
    Task,
    TaskStream,
    Training,
    UniformCycles,
    models,
)
from daynight.errors import SettingError
from daynight.storage.identity import describe, describe_views, digest, digest_of_data
from daynight.testing import toy_stream


def load(tmp_path, name, text):
    # In a folder of its own: Python may read what it has compiled of another file of the same name, size and second.
    path = pathlib.Path(tempfile.mkdtemp(dir=tmp_path)) / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("own_code", path)
    module = sys.modules["own_code"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


POLICY = """
from daynight import Cycle, SleepPolicy

SHARE = 0.5

class Own(SleepPolicy):
    def __init__(self, n):
        self.n = n

    def cycles(self, night):
        yield Cycle(keep="dawn", length={})

def network():
    return helper() if SHARE else None

def helper():
    return {}

def closing(value):
    return lambda: value
"""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3), (np.int64(3), 3), (0.5, 0.5), (np.float32(0.5), 0.5), (float("inf"), {"float": "inf"}),
        (True, True), (None, None), ("x", "x"), ((1, [2]), [1, [2]]), (range(3), [0, 1, 2]),
        ({"b": 1, "a": (2,)}, {"a": [2], "b": 1}),
        ({2, 1}, {"set": [1, 2]}), (torch.float32, {"dtype": "torch.float32"}), (math.sqrt, {"function": "math.sqrt"}),
        (Epochs(72), {"class": "daynight.schedule.Epochs", "n": 72.0}),
        (UniformCycles(8), {"class": "daynight.policies.UniformCycles", "n": 8}),
        (functools.partial(models.MLP, 784, 256),
         {"partial": "daynight.models.MLP", "args": [784, 256], "settings": {}}),
    ],
)  # fmt: skip
def test_descriptions_are_plain(value, expected):
    assert describe(value) == expected


def test_an_edited_policy_network_or_helper_is_another(tmp_path):
    found = []
    texts = [
        POLICY.format(1.0, 1),
        POLICY.format(1.0, 1),
        POLICY.format(0.5, 2),
        POLICY.format(1.0, 1).replace("0.5", "0.6"),
    ]
    for index, text in enumerate(texts):
        own = load(tmp_path, f"own_{index}", text)
        found.append([describe(item) for item in (own.Own(1), own.network, own.closing(1))])
        assert describe(own.Own(1)) != describe(own.Own(2))
        assert describe(own.closing(1)) != describe(own.closing(2))
    first, same, edited, constant = found
    assert first == same
    assert edited[1] != first[1] != constant[1]
    assert edited[0] != first[0]


def test_tensors_modules_and_settings_are_told_apart_by_their_values():
    def network(seed):
        torch.manual_seed(seed)
        return nn.Linear(2, 2)

    assert describe(network(0)) == describe(network(0)) != describe(network(1))
    assert describe(torch.zeros(2)) != describe(torch.zeros(2, 1))
    assert describe(Training(batch_size=7)) != describe(Training(batch_size=8))
    adam = functools.partial(torch.optim.Adam, lr=0.1)
    assert describe(Training(optimizer=adam)) != describe(Training())


def test_data_are_told_apart_by_their_numbers_and_views():
    stream = toy_stream(2)
    assert digest_of_data(stream) == digest_of_data(toy_stream(2)) != digest_of_data(toy_stream(2, seed=1))
    assert digest_of_data(stream) != digest_of_data(toy_stream(3))
    assert describe_views(stream) == []
    inputs, labels = torch.zeros(4, 2), torch.arange(4) % 2
    split = Split(inputs, labels, view=lambda x: x.flip(1))
    assert describe_views(TaskStream([Task(train=split, test=(inputs, labels))])) != []


def test_a_name_is_the_same_in_another_process():
    value = [Training(), UniformCycles(3), functools.partial(models.MLP, 784, 256), {"p": 0.99}]
    code = (
        "import functools; from daynight import Training, UniformCycles, models; "
        "from daynight.storage.identity import describe, digest; "
        "print(digest(describe([Training(), UniformCycles(3), functools.partial(models.MLP, 784, 256), {'p': 0.99}])))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == digest(describe(value))


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(SettingError, match="cannot describe <object"):
        describe(object())
    assert describe(OneShot()) == {"class": "daynight.policies.OneShot"}


WIDTH = 32


def closing(k):
    class Own(SleepPolicy):
        def cycles(self, night):
            yield Cycle(keep="dawn", length=1 / k)

    return Own()


class Constant(SleepPolicy):
    SHARE = 1.0

    def cycles(self, night):
        yield Cycle(keep="dawn", length=self.SHARE / WIDTH)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, WIDTH)


class Scaled(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k


def scaled(k):
    def decorate(function):
        @functools.wraps(function)
        def run():
            return k * function()

        return run

    return decorate


def twice(function):
    @functools.wraps(function)
    def run():
        return 2 * function()

    return run


def thrice(function):
    @functools.wraps(function)
    def run():
        return 3 * function()

    return run


def one():
    return 1


def in_a_comprehension():
    return [WIDTH * i for i in range(3)]


def in_an_inner_function():
    def inner():
        return WIDTH

    return inner()


def in_an_inner_lambda():
    return list(map(lambda i: WIDTH * i, range(3)))  # noqa: C417


def through_another():
    return in_an_inner_function()


def closing_over(value):
    return lambda: value


class Listed(list):
    pass


class Slotted:
    __slots__ = ("k",)

    def __init__(self, k):
        self.k = k


@attrs.frozen
class Settings:
    k: int = 1


def listed(k):
    found = Listed([1])
    found.k = k
    return found


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((lambda: models.MLP(784, 32)), (lambda: models.MLP(784, 64))),
        (closing(1), closing(4)),
        (twice(one), thrice(one)),
        (scaled(2)(one), scaled(3)(one)),
        (Scaled(1), Scaled(2)),
        (closing_over(Scaled(1)), closing_over(Scaled(2))),
        (listed(1), listed(2)),
        (Slotted(1), Slotted(2)),
        (Settings(1), Settings(2)),
        ({1: 2}, {"1": 2}),
        (float("nan"), "nan"),
        ({1, 2}, (1, 2)),
        (pathlib.Path("a"), "a"),
        (torch.relu, torch.tanh),
        (functools.lru_cache(one), functools.lru_cache(in_a_comprehension)),
    ],
)  # fmt: skip
def test_what_differs_is_told_apart(a, b):
    assert describe(a) != describe(b)
    assert describe(a) == describe(a)


@pytest.mark.parametrize(
    "item",
    [Constant(), Constant, Net, in_a_comprehension, in_an_inner_function, in_an_inner_lambda, through_another],
    ids=lambda item: getattr(item, "__name__", "policy"),
)
def test_constants_count_wherever_they_are_read(item, monkeypatch):
    before = describe(item)
    assert describe(item) == before
    monkeypatch.setattr(sys.modules[__name__], "WIDTH", 64)
    assert describe(item) != before


def test_attributes_of_a_class_count(monkeypatch):
    before = describe(Constant())
    monkeypatch.setattr(Constant, "SHARE", 0.5)
    assert describe(Constant()) != before


def test_usual_values_of_a_class_of_the_users_own_count():
    def make(usual):
        return attrs.make_class("Own", {"k": attrs.field(default=usual)})

    assert describe(make(1)()) != describe(make(2)())
    assert describe(make(1)()) == describe(make(1)())


def test_what_modules_of_the_users_own_hold_counts(tmp_path):
    settings = load(tmp_path, "settings", "RATE = 0.1\ndef helper():\n    return 2\n")
    user = load(tmp_path, "user", "def rate():\n    return settings.RATE\ndef call():\n    return settings.helper()\n")
    user.settings = settings
    before = describe(user.rate), describe(user.call)
    settings.RATE = 0.5
    assert describe(user.rate) != before[0]
    assert describe(user.call) == before[1]
    user.settings = load(tmp_path, "settings", "RATE = 0.1\ndef helper():\n    return 3\n")
    assert (describe(user.rate) == before[0], describe(user.call) == before[1]) == (True, False)


def test_comments_and_docstrings_do_not_count(tmp_path):
    plain = load(tmp_path, "a", "def own(x):\n    return x + 1\n").own
    told = load(tmp_path, "b", 'def own(x):\n    """Add one."""\n    # not two\n    return x + 1\n').own
    assert describe(told)["function"] == describe(plain)["function"]
    other = load(tmp_path, "c", 'def own(x):\n    """Add 1."""\n\n    return x + 1\n').own
    assert describe(told) == describe(other)


def test_names_of_functions_written_in_c_hold_in_another_process():
    code = "import torch; from daynight.storage.identity import describe; print(describe([torch.relu, torch.sum, len]))"
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert found == {f"{describe([torch.relu, torch.sum, len])}\n"}


def test_what_is_a_part_of_itself_is_described():
    value = [1]
    value.append(value)
    assert describe(value) == [1, {"again": 0}]


class Rows(torch.utils.data.Dataset):
    def __init__(self, changed):
        self.changed = changed

    def __len__(self):
        return 50

    def __getitem__(self, index):
        return torch.full((3,), float(index == self.changed)), index % 2


def test_each_example_of_lazy_data_counts():
    first, same, other = (
        TaskStream([Task(train=LazyDataset(Rows(k)), test=LazyDataset(Rows(0)))]) for k in (7, 7, 8)
    )  # fmt: skip
    assert digest_of_data(first) == digest_of_data(same) != digest_of_data(other)


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_what_is_open_is_refused(tmp_path, mode):
    path = tmp_path / "words.txt"
    path.write_text("a b")
    with path.open(mode) as stream, pytest.raises(SettingError, match=r"changes as it is read\. Give a path instead"):
        describe({"words": [stream]})
    with socket.socket() as connection, pytest.raises(SettingError, match="changes as it is read"):
        describe(connection)
    assert describe(open) == {"function": "io.open"}


def own_optimizer(name="Own", base=torch.optim.Optimizer, factor=1.0):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.mul_(factor)

    def begin(self, parameters):
        base.__init__(self, parameters, {"lr": 1.0})

    return type(name, (base,), {"__module__": __name__, "__qualname__": name, "__init__": begin, "step": step})


def test_an_optimizer_of_ones_own_is_described_alike_before_and_after_its_first_instance():
    """PyTorch writes to the class as the first instance is made."""
    kind = own_optimizer()
    inherits = type("Inherits", (kind,), {"__module__": __name__, "extra": 3})
    sgd = type("OwnSGD", (torch.optim.SGD,), {"__module__": __name__})
    kinds = [kind, inherits, sgd, functools.partial(inherits)]
    before = [describe(one) for one in kinds]
    assert [describe(one) for one in kinds] == before
    parameters = [nn.Parameter(torch.zeros(2))]
    for one in (inherits, kind):
        one(parameters).step()
        assert [describe(one) for one in kinds] == before
    sgd(parameters, lr=0.1)
    assert [describe(one) for one in kinds] == before
    assert describe(own_optimizer(factor=0.5)) != before[0]
    own_optimizer(factor=0.5)(parameters)
    assert describe(own_optimizer(factor=0.5)) != before[0]


def test_a_step_that_the_user_has_wrapped_counts():
    kind, wrapped = own_optimizer(), own_optimizer()
    inner = wrapped.step

    @functools.wraps(inner)
    def step(self, closure=None):
        return inner(self)

    wrapped.step = step
    assert describe(kind) != describe(wrapped)


class Rates(NamedTuple):
    lr: float = 0.01
    dtype: torch.dtype = torch.float32


def of_settings(parameters):
    return torch.optim.AdamW(parameters, lr=Rates().lr)


def test_named_tuples_are_described_by_fields_and_values():
    Pair = collections.namedtuple("Pair", "a b", defaults=(1,))
    same = collections.namedtuple("Pair", "a b", defaults=(1,))
    other = collections.namedtuple("Pair", "a c", defaults=(1,))
    assert describe(Pair) == describe(same)
    assert describe(Pair) != describe(other)
    assert describe(Rates()) != describe(Rates(lr=0.1))
    assert describe(Rates()) != describe(Rates(dtype=torch.float64))
    assert describe(Training(optimizer=of_settings)) == describe(Training(optimizer=of_settings))
    assert describe(functools.partial(torch.optim.Adam, Rates(0.1))) != describe(
        functools.partial(torch.optim.Adam, Rates())
    )
