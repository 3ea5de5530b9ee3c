"""What values from a file must be: forms, each of which checks a value, and names the value if it differs.

A file can have the right digest and yet hold values that do not fit. So all values are checked before they are used,
and before memory is taken for what they ask for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

#: A form: raises ValueError, with the name of the value (the first argument), unless the value has the form.
Form = Callable[[str, Any], None]


def whole(least: int = 0, most: int | None = None) -> Form:
    """Return the form of whole numbers from `least` to `most`; None sets no limit."""

    def check(where: str, value: Any) -> None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or value < least or (most is not None and value > most):
            upper = "up" if most is None else f"to {most:,}"
            raise ValueError(f"{where} must be a whole number from {least} {upper}, not {_shown(value)}")

    return check


def number(least: float = -math.inf, most: float = math.inf, is_finite: bool = True) -> Form:
    """Return the form of numbers from `least` to `most`; unless `is_finite`, also of those that are not finite."""

    def check(where: str, value: Any) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (is_finite and not abs(value) <= 1.7e308) or value < least or value > most:
            bounds = "" if (least, most) == (-math.inf, math.inf) else f" from {least:g} to {most:g}"
            raise ValueError(f"{where} must be a number{bounds}, not {_shown(value)}")

    return check


def text(pattern: str = r"(?s:.*)") -> Form:
    """Return the form of texts that match a regular expression as a whole."""

    def check(where: str, value: Any) -> None:
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise ValueError(f"{where} is not the text that belongs there: {_shown(value)}")

    return check


def flag(where: str, value: Any) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true or false, not {_shown(value)}")


def anything(where: str, value: Any) -> None:
    """Do nothing: each value has this form."""


def one_of(*choices: Any) -> Form:
    """Return the form of some values."""

    def check(where: str, value: Any) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"{where} must be one of {', '.join(map(repr, choices))}, not {_shown(value)}")

    return check


def optional(form: Form) -> Form:
    """Return the form of None and of what has another form."""
    return lambda where, value: None if value is None else form(where, value)


def either(*forms: Form) -> Form:
    """Return the form of what has one of several forms."""

    def check(where: str, value: Any) -> None:
        errors = []
        for form in forms:
            try:
                form(where, value)
            except ValueError as error:
                errors.append(error)
            else:
                return
        raise errors[-1]

    return check


def listed(form: Form, n: int | None = None) -> Form:
    """Return the form of lists and tuples whose `n` items (None: any number) have a form."""

    def check(where: str, value: Any) -> None:
        if not isinstance(value, list | tuple) or (n is not None and len(value) != n):
            raise ValueError(f"{where} must be a list{'' if n is None else f' of {n}'}, not {_shown(value)}")
        for index, item in enumerate(value):
            form(f"{where}[{index}]", item)

    return check


def mapping(form: Form, keys: Form | None = None) -> Form:
    """Return the form of dicts whose values have a form; their keys have the form `keys`, by default that of texts."""
    of_key = text() if keys is None else keys

    def check(where: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must hold values by name, not {_shown(value)}")
        for key, item in value.items():
            of_key(f"a name in {where}", key)
            form(f"{where}.{key}", item)

    return check


def fields(needed: Mapping[str, Form], more: Mapping[str, Form] | None = None) -> Form:
    """Return the form of dicts with the needed names, some of the names in `more`, and no others."""
    known = {**needed, **(more or {})}

    def check(where: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must hold values by name, not {_shown(value)}")
        for name in needed.keys() - value.keys() | value.keys() - known.keys():
            raise ValueError(f"{where} has {'no' if name in needed else 'an unknown'} value {name!r}")
        for name, item in value.items():
            known[name](f"{where}.{name}" if where else name, item)

    return check


def tensor(shape: Collection[int] | None = None, *dtypes: torch.dtype) -> Form:
    """Return the form of tensors of a shape (None: any) and of one of several types (none given: any)."""

    def check(where: str, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise ValueError(f"{where} must be a tensor, not {_shown(value)}")
        if shape is not None and tuple(value.shape) != tuple(shape):
            raise ValueError(f"{where} must have the shape {tuple(shape)}, not {tuple(value.shape)}")
        if dtypes and value.dtype not in dtypes:
            raise ValueError(f"{where} must be of {' or '.join(map(str, dtypes))}, not {value.dtype}")

    return check


def tensors(like: Mapping[str, Tensor]) -> Form:
    """Return the form of dicts that have tensors with the names, shapes and types of those in `like`."""
    return fields({name: tensor(known.shape, known.dtype) for name, known in like.items()})


def like(known: Any) -> Form:
    """Return the form of values that are of the same kind as a known one, part by part.

    A number is like any other finite number, and a text like any other text. Where the known value or the other one is
    None, or the known one is a tensor or a list, nothing is known of the other's size. Items of a list of another
    length are like the first of the known one.
    """

    def check(where: str, value: Any) -> None:
        if known is None or value is None:
            return
        if isinstance(known, bool):
            flag(where, value)
        elif isinstance(known, int | float):
            number(is_finite=math.isfinite(known))(where, value)
        elif isinstance(known, str):
            text()(where, value)
        elif isinstance(known, Mapping):
            fields({name: like(item) for name, item in known.items()})(where, value)
        elif isinstance(known, tuple):
            if not isinstance(value, list | tuple) or len(value) != len(known):
                raise ValueError(f"{where} must be {len(known)} values, not {_shown(value)}")
            for index, (one, other) in enumerate(zip(known, value, strict=True)):
                like(one)(f"{where}[{index}]", other)
        elif isinstance(known, list):
            listed(anything)(where, value)
            ones = known if len(known) == len(value) else known[:1] * len(value)
            for index, (one, other) in enumerate(zip(ones, value, strict=False)):
                like(one)(f"{where}[{index}]", other)
        elif isinstance(known, Tensor):
            tensor(None, known.dtype)(where, value)

    return check


def _shown(value: Any) -> str:
    """Return a short text that shows a value, however large it is."""
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a very large number"
    shown = repr(value) if isinstance(value, str | int | float | bool) or value is None else f"a {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
