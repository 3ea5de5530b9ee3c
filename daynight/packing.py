"""Nested values as JSON and tensors, and back: for files that are read without running any code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from daynight.errors import SettingError

Json = Any


def pack(value: Any) -> tuple[Json, dict[str, Tensor]]:
    """Take a nested value apart.

    Args:
        value: None, a truth value, number, text or tensor, or a dict, list or tuple of such values; a dict's keys may
            be numbers, too.

    Returns:
        What JSON can say of it, and its tensors by names of their own.

    Raises:
        SettingError: If something else is in it.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(value, tensors, "state"), tensors


def unpack(packed: Json, tensors: Mapping[str, Tensor]) -> Any:
    """Put a nested value together again.

    Args:
        packed: What `pack` gave of it.
        tensors: Its tensors.

    Raises:
        ValueError: If it is not of that form.
    """
    if packed is None or isinstance(packed, bool | int | float | str):
        return packed
    if not isinstance(packed, dict) or len(packed) != 1:
        raise ValueError("a packed value is of no known form")
    ((kind, held),) = packed.items()
    if kind == "float":
        return float(held)
    if kind == "tensor":
        return tensors[held]
    if kind == "dict":
        return {unpack(key, tensors): unpack(value, tensors) for key, value in held}
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(unpack(item, tensors) for item in held)
    raise ValueError(f"a packed value is of the unknown kind {kind!r}")


def _packed(value: Any, tensors: dict[str, Tensor], where: str) -> Json:
    if isinstance(value, Tensor):
        name = where if where not in tensors else f"{where}#{len(tensors)}"
        tensors[name] = value.detach()
        return {"tensor": name}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Mapping):
        items = [[_packed(key, {}, where), _packed(item, tensors, f"{where}.{key}")] for key, item in value.items()]
        return {"dict": items}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_packed(item, tensors, f"{where}.{index}") for index, item in enumerate(value)]}
    raise SettingError(
        f"{where} is of type {type(value).__name__}, which cannot be kept in a file without running code. Give numbers "
        "of Python's own, as with float(...), or text, lists, dicts and tensors."
    )
