"""Nested values as JSON and tensors."""

import collections
import enum
import hashlib
import json
import math
import tracemalloc
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from daynight.errors import DamagedFileError, SettingError
from daynight.support import archive
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


@pytest.mark.parametrize("begin", [b"", b"\0" * 8, b"\xff" * 8, (1 << 36).to_bytes(8, "little")])
def test_a_large_file_of_another_kind_is_refused_without_reading_it(tmp_path, begin):
    path = tmp_path / "large.dn"
    with path.open("wb") as stream:
        stream.write(begin)
        stream.truncate(1 << 38)  # 256 GiB, which take no room on the disk
    tracemalloc.start()
    with pytest.raises(DamagedFileError, match="is not a daynight file, or its beginning is damaged"):
        archive.read(path, "agent")
    assert tracemalloc.get_traced_memory()[1] < 3 * archive.MOST_HEADER
    tracemalloc.stop()


@pytest.mark.parametrize("path", [12345, None, "a\0b", "", b"a.dn"])
def test_a_path_that_names_no_file_is_refused(path):
    with pytest.raises(SettingError, match="a file must be named by text or a path, not"):
        archive.read(path, "agent")


def test_a_description_that_is_nested_too_deeply_is_damaged(tmp_path):
    path, depth = tmp_path / "deep.dn", 100_000
    text = '{"kind": "agent", "format": 1, "about": ' + "[" * depth + "]" * depth + "}"
    content = safetensors.torch.save({"x": torch.zeros(1)}, {"daynight": text, "sha256": "0" * 64})
    path.write_bytes(content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1))
    with pytest.raises(DamagedFileError, match="is not a daynight file"):
        archive.read(path, "agent")


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    first: int
    second: torch.dtype


@pytest.mark.parametrize(
    "value",
    [
        torch.float32, torch.bfloat16, torch.device("cpu"), torch.device("cuda:1"), torch.Size([2, 3]), torch.Size([]),
        Colour.BLUE, Level.LOW, collections.deque([1, torch.int8], maxlen=3), collections.deque(),
        {"a": (torch.float64, [Colour.RED])}, {torch.float16: 1, Level.LOW: 2},
    ],
)  # fmt: skip
def test_values_of_pytorch_and_of_enumerations_come_back(value):
    packed, tensors = pack(value)
    back = unpack(json.loads(json.dumps(packed, allow_nan=False)), tensors)
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    if isinstance(value, collections.deque):
        assert back.maxlen == value.maxlen


def test_named_tuples_come_back_as_tuples():
    """They compare as equal; no class of the user's own is made from a file."""
    packed, tensors = pack({"pair": Pair(1, torch.float32)})
    back = unpack(json.loads(json.dumps(packed)), tensors)
    assert back == {"pair": Pair(1, torch.float32)}
    assert type(back["pair"]) is tuple


def test_tensors_in_queues_come_back():
    queue = collections.deque([torch.ones(2), torch.zeros(3)], maxlen=2)
    packed, tensors = pack({"queue": queue})
    back = unpack(json.loads(json.dumps(packed)), tensors)["queue"]
    assert all(torch.equal(one, two) for one, two in zip(back, queue, strict=True))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        ({"dtype": "nothing"}, "the type nothing of tensors is unknown"),
        ({"dtype": "nn"}, "the type nn of tensors is unknown"),
        ({"enum": ["os", "nothing", "x"]}, "the enumeration nothing of os, or its member x, is unknown"),
        ({"enum": ["no_such_module", "A", "x"]}, "the enumeration A of no_such_module"),
        ({"enum": [__name__, "Colour", "GREEN"]}, "or its member GREEN, is unknown"),
        ({"enum": [__name__, "Pair", "first"]}, "or its member first, is unknown"),
    ],
)  # fmt: skip
def test_names_that_are_unknown_are_refused_and_nothing_is_imported(packed, message):
    with pytest.raises(ValueError, match=message):
        unpack(packed, {})


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(3, 4).t(),
        torch.rand(2, 3, 4).permute(2, 0, 1),
        torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.rand(4)[::2],
        torch.rand(3, 1).expand(3, 4),
        torch.tensor(1.0),
        torch.rand(0, 4).t(),
    ],
)
def test_tensors_lie_in_memory_as_before_they_were_packed(tensor, tmp_path):
    packed, tensors = pack({"m": [tensor]})
    archive.write(tmp_path / "m.dn", "test", {"m": packed}, tensors)
    values, tensors = archive.read(tmp_path / "m.dn", "test")
    again = unpack(values["m"], tensors)["m"][0]
    assert torch.equal(again, tensor)
    is_dense = tensor.dim() > 1 and 0 not in (*tensor.stride(), tensor.numel())
    assert not is_dense or again.stride() == tensor.stride()


@pytest.mark.parametrize("held", [["m", [0, 0]], ["m", [0]], ["m", [0, 7]], ["m"], "n", ["m", 3], ["n", [1, 0]]])
def test_orders_of_dimensions_that_are_none_are_refused(held):
    with pytest.raises((ValueError, TypeError, KeyError, RuntimeError)):
        unpack({"tensor": held}, {"m": torch.rand(3, 4)})
