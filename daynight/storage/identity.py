"""Descriptions of settings by value and code, and the digests of descriptions, which name runs."""

from __future__ import annotations

import collections
import contextvars
import copy
import datetime
import enum
import functools
import json
import math
import numbers
import operator
import re
import types
import weakref
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from daynight import metrics
from daynight.data.splits import LazyInputs
from daynight.data.tasks import TaskStream
from daynight.errors import SettingError
from daynight.storage.code import DIGITS, describe_class, describe_function, is_known, name_of_builtin
from daynight.support import digests

#: Attributes that a class fills as a cache, by the name of the class: what they hold depends on which object was made
#: first, and not on how it was made. That of torch_geometric reads the source text of a class once a process.
CACHES = {"torch_geometric.inspector.Inspector": ("_source_dict",)}
#: Data sets larger than memory are read this many examples at a time.
_CHUNK = 1024


def digest(value: Any) -> str:
    """Return the name of a description: the first digits of the SHA-256 digest of its JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return digests.digest_of([text.encode()])[:DIGITS]


def describe(value: Any) -> Any:
    """Describe a setting in JSON: equal for equal settings, in any process and on any machine.

    Numbers, text, and lists and dicts of them are described as they are. An object is described by its class and its
    attributes. A function is described by its name, its compiled code, its defaults, the variables of its closure, and
    the constants, functions and classes that it uses, which are described in the same way. A class is described by its
    bases, methods and attributes. Functions and classes of daynight, Python and PyTorch are described by their names,
    and those of other installed packages by name and version. Tensors and modules are described by digests of their
    numbers. Compiled code differs between versions of Python, and so do descriptions.

    Raises:
        SettingError: If the setting, or a value in it, cannot be described.
    """
    if isinstance(value, str | bool | int | float | None):
        return _described(value)
    if not isinstance(value, type) and metrics.accumulates(value):
        value = copy.deepcopy(value)  # without what it has collected, which is no setting
        value.reset()
    above = _above.get()
    if id(value) in above:
        return {"again": above.index(id(value))}  # a part of itself
    token = _above.set((*above, id(value)))
    try:
        return _described(value)
    finally:
        _above.reset(token)


#: The `id` of each object that is being described now, the outermost first.
_above: contextvars.ContextVar[tuple[int, ...]] = contextvars.ContextVar("above", default=())


@functools.singledispatch
def _described(value: Any) -> Any:
    if callable(getattr(value, "fileno", None)) and not isinstance(value, type):
        raise SettingError(f"daynight cannot describe {value!r}, which changes as it is read. Give a path instead.")
    return {"class": describe(type(value)), **_state(value)}


@_described.register
def _of_text(value: str | bool | None) -> Any:
    return value


@_described.register
def _of_integer(value: numbers.Integral) -> Any:
    return int(value)


@_described.register
def _of_number(value: numbers.Real) -> Any:
    number = float(value)
    return number if math.isfinite(number) else {"float": repr(number)}


@_described.register
def _of_mapping(value: Mapping) -> Any:  # type: ignore[type-arg]
    named = {_key(key): item for key, item in value.items()}
    return _own(value, {name: describe(named[name]) for name in sorted(named)})


@_described.register
def _of_sequence(value: list | tuple | range) -> Any:  # type: ignore[type-arg]
    return _own(value, [describe(item) for item in value])


@_described.register
def _of_set(value: set | frozenset) -> Any:  # type: ignore[type-arg]
    return _own(value, {"set": sorted((describe(item) for item in value), key=json.dumps)})


@_described.register
def _of_name(
    value: PurePath
    | datetime.date
    | datetime.time
    | datetime.timedelta
    | datetime.tzinfo
    | torch.dtype
    | torch.device
    | torch.layout
    | torch.memory_format
    | enum.Enum
    | types.BuiltinFunctionType,
) -> Any:
    if isinstance(value, types.BuiltinFunctionType):
        return {"function": name_of_builtin(value)}
    return {type(value).__name__: str(value)}


@_described.register
def _of_parts(
    value: complex
    | slice
    | collections.deque  # type: ignore[type-arg]
    | operator.itemgetter  # type: ignore[type-arg]
    | operator.attrgetter  # type: ignore[type-arg]
    | operator.methodcaller,
) -> Any:
    # Python tells how to make them again.
    return {
        "made of": [describe(list(part) if isinstance(part, Iterator) else part) for part in value.__reduce_ex__(4)]
    }


@_described.register
def _of_bytes(value: bytes) -> Any:
    return {"bytes": value.hex()}


@_described.register
def _of_pattern(value: re.Pattern) -> Any:  # type: ignore[type-arg]
    return {"pattern": describe(value.pattern), "flags": value.flags}


@_described.register
def _of_method_of_a_type(
    value: types.MethodDescriptorType | types.WrapperDescriptorType | types.ClassMethodDescriptorType,
) -> Any:
    return {"function": f"{value.__objclass__.__module__}.{value.__qualname__}"}


@_described.register
def _of_stream(value: TaskStream) -> Any:
    return {"data": digest_of_data(value), "views": describe_views(value)}


@_described.register
def _of_tensor(value: Tensor | np.ndarray) -> Any:
    return {"tensor": digests.digest(torch.as_tensor(value))[:DIGITS]}


@_described.register
def _of_module(value: nn.Module) -> Any:
    tensors = {name: tensor for name, tensor in value.state_dict().items() if isinstance(tensor, Tensor)}
    parts = [part for name, tensor in sorted(tensors.items()) for part in (name.encode(), *digests.parts_of(tensor))]
    numbers = digests.digest_of([repr(value).encode(), *parts])[:DIGITS]
    about = {"module": describe(type(value)), "numbers": numbers}
    own = {name: _settings_of(part) for name, part in value.named_modules()}
    return about | {"attributes": own} if any(own.values()) else about


@_described.register
def _of_partial(value: functools.partial) -> Any:  # type: ignore[type-arg]
    return {"partial": describe(value.func), "args": describe(value.args), "settings": describe(value.keywords)}


@_described.register
def _of_method(value: types.MethodType) -> Any:
    return {"method": value.__name__, "of": describe(value.__self__)}


@_described.register
def _of_class(value: type) -> Any:
    return describe_class(value, describe)


@_described.register
def _of_function(value: types.FunctionType) -> Any:
    return describe_function(value, describe)


#: Digests of the streams that are in use.
_digests: weakref.WeakKeyDictionary[TaskStream, str] = weakref.WeakKeyDictionary()


@attrs.frozen(eq=False)
class Snapshot:
    """The attributes of a module's parts at one time, since modules may change them when they run.

    Attributes:
        values: By name of a part, its attributes other than its tensors and parts, by their names.
        kept: By name of a part, the names of those attributes that may hold what it has kept of earlier passes: None,
            tensors with a graph, and containers that are empty or hold tensors.
    """

    values: dict[str, dict[str, Any]]
    kept: dict[str, set[str]]

    @classmethod
    def of(cls, module: nn.Module, given: nn.Module) -> Snapshot:
        """Return the attributes of a module that is a copy of `given`, which still has the graphs of its tensors."""
        return cls(
            {name: {key: _copied(item) for key, item in _own_of(part)} for name, part in module.named_modules()},
            {name: {key for key, item in _own_of(part) if _may_be_kept(item)} for name, part in given.named_modules()},
        )


def describe_structure(module: nn.Module, apart: str = "", snapshot: Snapshot | None = None, keeps: bool = True) -> Any:
    """Describe the parts of a module and their code, but not its numbers.

    Args:
        module: The module.
        apart: Name of a part that is left out.
        snapshot: The attributes to describe; None is those that the module has now.
        keeps: Whether to describe also attributes that may hold what a part has kept of its passes.
    """
    snapshot, found = snapshot or Snapshot.of(module, module), {}
    for name, part in module.named_modules():
        if not apart or not f"{name}.".startswith(f"{apart}."):
            left_out = set() if keeps else snapshot.kept.get(name, set())
            own = snapshot.values[name] if name in snapshot.values else dict(_own_of(part))
            settings = {key: describe(item) for key, item in sorted(own.items()) if key not in left_out}
            found[name] = [describe(type(part)), settings]
    return found


def digest_of_data(stream: TaskStream) -> str:
    """Return the digest of all examples of a stream, before the views of its splits are applied.

    A data set larger than memory is read once as a whole, which may take long.
    """
    if stream not in _digests:
        _digests[stream] = digests.digest_of(_parts_of_stream(stream))[:DIGITS]
    return _digests[stream]


def describe_views(stream: TaskStream) -> list[Any]:
    """Describe the views of the splits of a stream, task by task; empty if there are none."""
    views = [[split.view for split in task.splits().values()] for task in stream]
    return describe(views) if any(view is not None for task in views for view in task) else []


def _parts_of_stream(stream: TaskStream) -> Iterator[digests.Bytes]:
    for task in stream:
        yield repr((task.name, task.n_outputs, task.groups)).encode()
        for which, split in task.splits().items():
            yield which.encode()
            if isinstance(split.inputs, LazyInputs):
                for index in torch.arange(len(split)).split(_CHUNK):
                    yield from digests.parts_of(split.subset(index).load()[0])
            else:
                yield from digests.parts_of(split.inputs)
            yield from digests.parts_of(split.targets)


def _state(value: Any) -> dict[str, Any]:
    """Describe the attributes of an object."""
    if attrs.has(type(value)):
        # Without default values, so that a new setting does not change the names of old runs.
        found = {field.name: describe(getattr(value, field.name)) for field in attrs.fields(type(value))}
        fixed = [
            field for field in attrs.fields(type(value)) if not hasattr(field.default, "takes_self")
        ]  # no factories
        usual = {field.name: describe(field.default) for field in fixed if field.default is not attrs.NOTHING}
        return {name: item for name, item in found.items() if name not in usual or item != usual[name]}
    slots = [name for kind in type(value).__mro__ for name in _slots_of(kind) if hasattr(value, name)]
    if hasattr(value, "__dict__") or slots:
        found = {name: getattr(value, name) for name in slots} | attributes_of(value)
        return {name: describe(item) for name, item in sorted(found.items())}
    raise SettingError(
        f"daynight cannot describe {value!r}, which has no attributes to look at. Give numbers, text, functions, or "
        "objects of classes with attributes."
    )


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the ``__dict__`` of an object, without the values of `functools.cached_property` and known caches."""
    kind = type(value)
    caches = CACHES.get(f"{kind.__module__}.{kind.__qualname__}", ())
    return {
        name: item
        for name, item in getattr(value, "__dict__", {}).items()
        if name not in caches and not isinstance(getattr(kind, name, None), functools.cached_property)
    }


def _slots_of(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    return [name for name in ([slots] if isinstance(slots, str) else slots) if not name.startswith("__")]


def _key(key: Any) -> str:
    """Return the key of a mapping as text that is the same in each process."""
    if isinstance(key, str):
        return key
    is_plain = key is None or isinstance(key, numbers.Number | enum.Enum | tuple | frozenset)
    return f"{type(key).__name__} {key!r}" if is_plain else digest(describe(key))


def _own(value: Any, items: Any) -> Any:
    """Describe a container; if its class is a user's own, also by that class and by its attributes."""
    if is_known(type(value)):
        return items
    return {"class": describe(type(value)), "items": items, **describe(attributes_of(value))}


def _settings_of(part: nn.Module) -> dict[str, Any]:
    """Describe the attributes of a module other than its tensors and parts."""
    return {key: describe(item) for key, item in sorted(_own_of(part))}


def _own_of(part: nn.Module) -> list[tuple[str, Any]]:
    """Return the attributes of a module other than its tensors and parts, with their names."""
    return [(key, item) for key, item in attributes_of(part).items() if not _is_inner(key)]


def _copied(item: Any) -> Any:
    """Return a copy of containers of Python, at any depth; all else as it is."""
    if type(item) is dict:
        return {key: _copied(value) for key, value in item.items()}
    if type(item) in (list, tuple, set):
        return type(item)(map(_copied, item))
    return item


def _may_be_kept(item: Any) -> bool:
    """Return whether an attribute may hold what a module has kept of its passes."""
    if isinstance(item, dict | list | tuple | set):
        return not item or any(isinstance(part, Tensor) or (part is not None and _may_be_kept(part))
                               for part in (item.values() if isinstance(item, dict) else item))  # fmt: skip
    return item is None or (isinstance(item, Tensor) and not item.is_leaf)


def _is_inner(name: str) -> bool:
    """Return whether an attribute of a module is PyTorch's own."""
    return name.startswith("_") or name == "training"
