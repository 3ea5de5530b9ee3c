"""What a run is: a description of its settings by value and source, and the digest that names it."""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import math
import numbers
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from daynight.errors import SettingError
from daynight.lazy import LazyInputs
from daynight.splits import Split
from daynight.tasks import TaskStream

#: Number of hexadecimal digits of a digest: 80 bits, so that no two runs ever share one.
DIGITS = 20
#: What is described by its name alone. Of daynight, and of what it is built on, versions are told apart elsewhere.
_KNOWN = ("daynight", "torch", "torchvision", "numpy", "builtins", "functools", "abc", "attr", "attrs", "typing")


def digest(value: Any) -> str:
    """Give the name of a description: the first digits of the SHA-256 digest of its JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


@functools.singledispatch
def describe(value: Any) -> Any:
    """Describe a setting in JSON: equal for equal settings, in any process and on any machine.

    Numbers, text, and lists and dicts of them are as they are. An object is its class and its attributes, a
    function its name, its defaults and what it closes over; both with a digest of their source, unless they are
    daynight's or PyTorch's own. Tensors and modules are digests of their numbers.

    Raises:
        SettingError: If there is something whose value cannot be told, such as a function without source.
    """
    return {"class": _class(type(value)), **_state(value)}


@describe.register
def _of_text(value: str | bool | None) -> Any:
    return value


@describe.register
def _of_integer(value: numbers.Integral) -> Any:
    return int(value)


@describe.register
def _of_number(value: numbers.Real) -> Any:
    number = float(value)
    return number if math.isfinite(number) else repr(number)


@describe.register
def _of_mapping(value: Mapping) -> Any:  # type: ignore[type-arg]
    return {str(key): describe(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}


@describe.register
def _of_sequence(value: list | tuple | range) -> Any:  # type: ignore[type-arg]
    return [describe(item) for item in value]


@describe.register
def _of_set(value: set | frozenset) -> Any:  # type: ignore[type-arg]
    return sorted((describe(item) for item in value), key=json.dumps)


@describe.register
def _of_name(value: PurePath | torch.dtype | torch.device | enum.Enum | types.BuiltinFunctionType) -> Any:
    return str(value)


@describe.register
def _of_stream(value: TaskStream) -> Any:
    return {"data": digest_of_data(value), "views": describe_views(value)}


@describe.register
def _of_tensor(value: Tensor | np.ndarray) -> Any:
    return {"tensor": _digest_of([*_bytes(torch.as_tensor(value))])}


@describe.register
def _of_module(value: nn.Module) -> Any:
    tensors = {name: tensor for name, tensor in value.state_dict().items() if isinstance(tensor, Tensor)}
    parts = [part for name, tensor in sorted(tensors.items()) for part in (name.encode(), *_bytes(tensor))]
    return {"module": _class(type(value)), "numbers": _digest_of([repr(value).encode(), *parts])}


@describe.register
def _of_partial(value: functools.partial) -> Any:  # type: ignore[type-arg]
    return {"partial": describe(value.func), "args": describe(value.args), "settings": describe(value.keywords)}


@describe.register
def _of_method(value: types.MethodType) -> Any:
    return {"method": value.__name__, "of": describe(value.__self__)}


@describe.register
def _of_class(value: type) -> Any:
    return _class(value)


@describe.register
def _of_function(value: types.FunctionType) -> Any:
    about: dict[str, Any] = {"function": _name(value)}
    if _is_known(value):
        return about
    about["source"] = _source(value)
    closed = inspect.getclosurevars(value)
    # Constants and the user's own functions that it uses, too: another value is another function.
    used = {name: item for name, item in closed.globals.items() if not isinstance(item, types.ModuleType)}
    uses = {name: _used(item) for name, item in sorted(used.items()) if item is not value}
    rest = {
        "closes over": describe(closed.nonlocals), "uses": uses,
        "defaults": describe([value.__defaults__ or [], value.__kwdefaults__ or {}]),
    }  # fmt: skip
    return about | rest


def digest_of_data(stream: TaskStream) -> str:
    """Give the digest of all examples of a stream, as its tasks hold them, before their views."""
    parts: list[Any] = []
    for task in stream:
        parts.append(repr((task.name, task.n_outputs, task.groups)).encode())
        for which, split in task.splits().items():
            parts += [which.encode(), *_parts(split)]
    return _digest_of(parts)


def describe_views(stream: TaskStream) -> list[Any]:
    """Describe the views of the splits of a stream, task by task; empty if there are none."""
    views = [[split.view for split in task.splits().values()] for task in stream]
    return describe(views) if any(view is not None for task in views for view in task) else []


def _parts(split: Split) -> list[Any]:
    if isinstance(split.inputs, LazyInputs):
        # What is too large for memory is told by its labels and by its first and last example.
        ends = split.subset(torch.tensor([0, len(split) - 1])).load()[0]
        return [*_bytes(ends), *_bytes(split.targets)]
    return [*_bytes(split.inputs), *_bytes(split.targets)]


def _bytes(tensor: Tensor) -> tuple[bytes, memoryview]:
    array = tensor.detach().cpu().contiguous()
    head = f"{array.dtype} {tuple(array.shape)}".encode()
    return head, array.reshape(-1).view(torch.uint8).numpy().data


def _digest_of(parts: Iterable[Any]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:DIGITS]


def _class(kind: type) -> Any:
    own = [base for base in kind.__mro__ if not _is_known(base)]
    if not own:
        return _name(kind)
    return {"name": _name(kind), "source": [_source(base) for base in own]}


def _state(value: Any) -> dict[str, Any]:
    """Describe the attributes of an object."""
    if attrs.has(type(value)):
        # Without what is as usual, so that a new setting with a usual value leaves names as they are.
        found = {field.name: describe(getattr(value, field.name)) for field in attrs.fields(type(value))}
        fixed = [
            field for field in attrs.fields(type(value)) if not hasattr(field.default, "takes_self")
        ]  # no factories
        usual = {field.name: describe(field.default) for field in fixed if field.default is not attrs.NOTHING}
        return {name: item for name, item in found.items() if name not in usual or item != usual[name]}
    if hasattr(value, "__dict__"):
        return {name: describe(item) for name, item in sorted(vars(value).items())}
    raise SettingError(
        f"a study cannot tell what {value!r} is, for it has no attributes to look at. Give numbers, text, functions, "
        "or objects of classes with attributes."
    )


def _used(item: Any) -> Any:
    """Describe what a function uses, without following its own uses any further."""
    if isinstance(item, types.FunctionType | type):
        return _name(item) if _is_known(item) else {"name": _name(item), "source": _source(item)}
    return describe(item)


def _is_known(item: Any) -> bool:
    return (getattr(item, "__module__", None) or "").partition(".")[0] in _KNOWN


def _name(item: Any) -> str:
    module = "" if item.__module__ in ("__main__", "__mp_main__") else f"{item.__module__}."
    return f"{module}{item.__qualname__}"


def _source(item: Callable[..., Any] | type) -> str:
    """Give a digest of the source of a function or class."""
    try:
        source = textwrap.dedent(inspect.getsource(item))
    except (OSError, TypeError) as error:
        raise SettingError(
            f"a study cannot find the source of {_name(item)}, and so could not tell if it is edited. Define it in a "
            "file, not at a prompt."
        ) from error
    return hashlib.sha256(source.encode()).hexdigest()[:DIGITS]
