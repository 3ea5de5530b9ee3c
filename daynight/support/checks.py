"""Numbers as users give them, Python's own or NumPy's, checked and turned into Python's own."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from daynight.errors import SettingError


def round_half_up(value: float) -> int:
    """Round to the nearest whole number, halves up, so that equal shares round alike."""
    return math.floor(value + 0.5)


#: Characters of an object that errors show at most.
_LONG = 300


def whole(what: str, value: Any, least: int, most: int | None = None) -> int:
    """Give `value` as an int.

    Args:
        what: Names it in the error.
        value: What was given.
        least: The smallest number that it may be.
        most: The largest one; None is no limit.

    Raises:
        SettingError: If it is not a whole number from `least` up, or above `most`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise SettingError(f"{what} must be a whole number from {least} up, not {value!r}.")
    _check_most(what, value, most)
    return int(value)


def finite(what: str, value: Any, least: float = -math.inf, most: int | None = None) -> float:
    """Give `value` as a float.

    Args:
        what: Names it in the error.
        value: What was given.
        least: The smallest number that it may be.
        most: The largest one; None is no limit but that of a float.

    Raises:
        SettingError: If it is not a finite number, below `least` or above `most`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not _is_finite(value):
        raise SettingError(f"{what} must be a finite number, not {value!r}.")
    if value < least:
        raise SettingError(f"{what} must be {least:g} or more, not {value!r}.")
    _check_most(what, value, most)
    return float(value)


def share(what: str, value: Any) -> float:
    """Give `value` as a float from 0 to 1.

    Raises:
        SettingError: If it is no such number.
    """
    number = finite(what, value, least=0)
    if number > 1:
        raise SettingError(f"{what} must be a share, 0 to 1, not {value!r}.")
    return number


def positive(what: str, value: Any) -> float:
    """Give `value` as a float above 0.

    Raises:
        SettingError: If it is no such number.
    """
    number = finite(what, value)
    if number <= 0:
        raise SettingError(f"{what} must be above 0, not {value!r}.")
    return number


def one_of(what: str, value: Any, choices: Collection[Any]) -> None:
    """Refuse what is none of the choices.

    Raises:
        SettingError: If `value` is not among them.
    """
    if value not in choices:
        raise SettingError(f"{what} must be one of {', '.join(map(repr, choices))}, not {value!r}.")


def flag(what: str, value: Any) -> None:
    """Refuse what is neither True nor False.

    Raises:
        SettingError: If `value` is of another kind.
    """
    if not isinstance(value, bool):
        raise SettingError(f"{what} must be True or False, not {value!r}.")


def kind(what: str, value: Any, expected: type, example: str) -> None:
    """Refuse what is not of a class.

    Raises:
        SettingError: If it is not.
    """
    if not isinstance(value, expected):
        raise SettingError(f"{what} must be a {expected.__name__}, such as {example}, not {shown(value)}.")


def shown(value: Any) -> str:
    """Give what stands for a value in an error: itself, if that is short."""
    text = repr(value)
    return text if len(text) <= 100 and "\n" not in text else f"a {type(value).__name__}"


def begun(value: Any) -> str:
    """Give what stands for a user's own object in an error: itself, cut off where that is long."""
    try:
        text = repr(value)
    except Exception:  # its own, and the error is not about that
        text = type(value).__name__
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def function(what: str, value: Any) -> None:
    """Refuse what cannot be called.

    Raises:
        SettingError: If it cannot be.
    """
    if not callable(value):
        raise SettingError(f"{what} must be a function, not {value!r}.")


def _is_finite(value: numbers.Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number or fraction that no float can hold
        return False


def _check_most(what: str, value: Any, most: int | None) -> None:
    if most is not None and value > most:
        raise SettingError(f"{what} must be at most {most:,}, not {value!r}.")


def usable_device(device: Any) -> torch.device:
    """Give the device, if numbers can be put on it and read from it.

    Raises:
        SettingError: If they cannot be.
    """
    try:
        found = torch.zeros(1, device=device)
        found.tolist()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SettingError(f"device={device!r} cannot be used here: {reason.rstrip('.!')}. Use 'cpu'.") from error
    return found.device


def all_finite(tensor: Tensor) -> bool:
    """Tell whether all numbers of a tensor are finite. What is not shows in the smallest or the largest."""
    return not tensor.numel() or all(bool(torch.isfinite(value)) for value in torch.aminmax(tensor.detach()))
