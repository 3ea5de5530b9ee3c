"""Settings that look alike and are not the same, and some that look unlike and are."""

import copy
import functools

import attrs
import pytest
import torch
from torch import nn

from daynight import Cycle, SleepPolicy
from daynight.storage import identity
from daynight.storage.identity import describe, describe_structure


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)),
        (nn.MSELoss(), nn.MSELoss(reduction="sum")),
        (nn.HuberLoss(), nn.HuberLoss(delta=9.0)),
        ({len: 1}, {max: 1}),
        ({torch.relu: 1}, {torch.tanh: 1}),
        (torch.Tensor.float, torch.Tensor.double),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_that_look_alike_are_told_apart(one, other):
    assert describe(one) == describe(copy.deepcopy(one))
    assert describe(one) != describe(other)
    assert "0x" not in repr(describe(one))


def test_what_python_notes_on_a_class_does_not_count():
    class Mine(SleepPolicy):
        def cycles(self, night):
            yield Cycle(keep="dawn", length=1.0)

    before = describe(Mine())
    for use in (copy.copy, copy.deepcopy, hash, repr, attrs.has):
        use(Mine())
    assert Mine.__slotnames__ == []  # as when it is pickled
    assert describe(Mine()) == before


class Cached:
    """Works something out from its settings when it is asked."""

    def __init__(self, n):
        self.n = n

    @functools.cached_property
    def square(self):
        return self.n**2


def test_what_is_worked_out_from_settings_does_not_count():
    fresh, asked = Cached(3), Cached(3)
    assert asked.square == 9
    assert describe(asked) == describe(fresh) != describe(Cached(4))


def test_what_the_first_object_of_a_class_keeps_for_all_others_does_not_count(monkeypatch):
    """As `inspector` in torch_geometric's layers, which has the source text of the class in the first layer alone."""

    class Inspector:
        def __init__(self, asked):
            self._source_dict, self._other = {"Layer": "class Layer:"} if asked else {}, {}

    class Layer(nn.Module):
        def __init__(self, asked, more=0):
            super().__init__()
            self.inspector = Inspector(asked)
            self.inspector._other[more] = more

    assert describe(Layer(True)) != describe(Layer(False))
    name = f"{Inspector.__module__}.{Inspector.__qualname__}"
    monkeypatch.setitem(identity.CACHES, name, identity.CACHES["torch_geometric.inspector.Inspector"])
    for of in (describe, describe_structure):
        assert of(Layer(True)) == of(Layer(False)) != of(Layer(False, more=1))
