"""A run's name changes with what it depends on, and with nothing else."""

import functools
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from daynight import Epochs, OneShot, Split, Task, TaskStream, Training, UniformCycles, models
from daynight.errors import SettingError
from daynight.study.identity import describe, describe_views, digest, digest_of_data
from daynight.testing import toy_stream


def load(tmp_path, name, text):
    path = tmp_path / f"{name}.py"
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
        (3, 3), (np.int64(3), 3), (0.5, 0.5), (np.float32(0.5), 0.5), (float("inf"), "inf"), (True, True), (None, None),
        ("x", "x"), ((1, [2]), [1, [2]]), (range(3), [0, 1, 2]), ({"b": 1, "a": (2,)}, {"a": [2], "b": 1}),
        ({2, 1}, [1, 2]), (torch.float32, "torch.float32"),
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
        "from daynight.study.identity import describe, digest; "
        "print(digest(describe([Training(), UniformCycles(3), functools.partial(models.MLP, 784, 256), {'p': 0.99}])))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == digest(describe(value))


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(SettingError, match="cannot tell what <object"):
        describe(object())
    made = {}
    exec("def own(): pass", made)
    with pytest.raises(SettingError, match=r"cannot find the source of .*own.*Define it in a file"):
        describe(made["own"])
    assert describe(OneShot()) == {"class": "daynight.policies.OneShot"}
