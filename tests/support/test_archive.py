"""Nested values as JSON and tensors."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daynight.errors import SettingError
from daynight.support.archive import pack, unpack

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
NESTED = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(NESTED)
def test_plain_values_come_back_as_they_were(value):
    packed, tensors = pack(value)
    assert not tensors
    back = unpack(json.loads(json.dumps(packed, allow_nan=False)), tensors)
    assert back == value
    assert repr(back) == repr(value)  # tells 1 from True and 1.0, and a list from a tuple


def test_an_optimizers_state_comes_back_to_the_bit():
    parameters = [torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(2, 2))]
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    sum(parameter.square().sum() for parameter in parameters).backward()
    optimizer.step()
    packed, tensors = pack(optimizer.state_dict())
    back = unpack(json.loads(json.dumps(packed)), {name: tensor.clone() for name, tensor in tensors.items()})
    assert len(tensors) == 6
    other = torch.optim.Adam([torch.nn.Parameter(parameter.detach().clone()) for parameter in parameters], lr=0.5)
    other.load_state_dict(back)
    assert other.param_groups[0]["lr"] == 0.1
    for one, two in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_numbers_that_json_has_no_word_for_come_back():
    packed, _ = pack([math.nan, math.inf, -math.inf])
    back = unpack(json.loads(json.dumps(packed, allow_nan=False)), {})
    assert math.isnan(back[0])
    assert back[1:] == [math.inf, -math.inf]


def test_what_is_no_value_is_named():
    with pytest.raises(SettingError, match=r"state\.a\.1 has the type object, which cannot be stored in a file"):
        pack({"a": [1, object()]})


@pytest.mark.parametrize("packed", [{"set": []}, {}, {"list": [], "tuple": []}, [1]])
def test_what_is_of_no_known_form_is_refused(packed):
    with pytest.raises(ValueError, match="a packed value has"):
        unpack(packed, {})


def test_names_of_tensors_do_not_collide():
    one, two, three = torch.tensor(1), torch.tensor(2), torch.tensor(3)
    packed, tensors = pack({"m": [one], "m.0": two, "m.0#1": three})
    assert unpack(packed, tensors) == {"m": [one], "m.0": two, "m.0#1": three}
