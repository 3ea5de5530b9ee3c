"""Checks of arguments. Numbers of Python or NumPy are checked, and returned as numbers of Python."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor

from daynight.errors import SettingError, StateError


def round_half_up(value: float) -> int:
    """Return the nearest whole number.

    Halves are rounded up, so that all halves round in the same direction. Python's `round` goes to the even number.
    """
    return math.floor(value + 0.5)


#: Errors show at most this many characters of an object.
_LONG = 300


def integer(what: str, value: Any, least: int, most: int | None = None) -> int:
    """Return `value` as an int.

    Args:
        what: Name of the value in the error.
        value: The value.
        least: Smallest valid number.
        most: Largest valid number; None sets no limit.

    Raises:
        SettingError: If `value` is not a whole number from `least` up, or is above `most`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise SettingError(f"{what} must be a whole number from {least} up, not {value!r}.")
    _check_most(what, value, most)
    return int(value)


def finite(what: str, value: Any, least: float = -math.inf, most: int | None = None) -> float:
    """Return `value` as a float.

    Args:
        what: Name of the value in the error.
        value: The value.
        least: Smallest valid number.
        most: Largest valid number; None sets no limit below the largest float.

    Raises:
        SettingError: If `value` is not a finite number, or is below `least` or above `most`.
    """
    is_usual = type(value) is float and math.isfinite(value)  # plans check thousands of these
    if not is_usual and (isinstance(value, bool) or not isinstance(value, numbers.Real) or not _is_finite(value)):
        raise SettingError(f"{what} must be a finite number, not {value!r}.")
    if value < least:
        raise SettingError(f"{what} must be {least:g} or more, not {value!r}.")
    _check_most(what, value, most)
    return float(value)


def share(what: str, value: Any) -> float:
    """Return `value` as a float from 0 to 1.

    Raises:
        SettingError: If `value` is not a number from 0 to 1.
    """
    number = finite(what, value, least=0)
    if number > 1:
        raise SettingError(f"{what} must be a share, 0 to 1, not {value!r}.")
    return number


def positive(what: str, value: Any) -> float:
    """Return `value` as a float above 0.

    Raises:
        SettingError: If `value` is not a finite number above 0.
    """
    number = finite(what, value)
    if number <= 0:
        raise SettingError(f"{what} must be above 0, not {value!r}.")
    return number


def one_of(what: str, value: Any, choices: Collection[Any]) -> None:
    """Raise SettingError unless `value` is one of the choices."""
    if value not in choices:
        raise SettingError(f"{what} must be one of {', '.join(map(repr, choices))}, not {value!r}.")


def flag(what: str, value: Any) -> None:
    """Raise SettingError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise SettingError(f"{what} must be True or False, not {value!r}.")


def kind(what: str, value: Any, expected: type, example: str) -> None:
    """Raise SettingError unless `value` is an instance of `expected`; the error shows an example."""
    if not isinstance(value, expected):
        raise SettingError(f"{what} must be a {expected.__name__}, such as {example}, not {shown(value)}.")


def shown(value: Any) -> str:
    """Return the text that shows a value in an error: its `repr` if that is short, otherwise its type."""
    text = repr(value)
    return text if len(text) <= 100 and "\n" not in text else f"a {type(value).__name__}"


def also(names: Collection[str]) -> str:
    """Return the end of an error about a name, which says of which others it holds, too; empty if there are none."""
    return f" The same holds for {', '.join(names)}." if names else ""


def brief(value: Any) -> str:
    """Return the text that shows a user's own object in an error: its `repr`, cut off if that is long."""
    try:
        text = repr(value)
    except Exception:  # a fault of the object's __repr__, which the error is not about
        text = type(value).__name__
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def function(what: str, value: Any) -> None:
    """Raise SettingError unless `value` can be called."""
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
    """Return the device, after a check that numbers can be put on it and read from it.

    Raises:
        SettingError: If the device cannot be used.
    """
    try:
        found = torch.zeros(1, device=device)
        found.tolist()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SettingError(f"device={device!r} cannot be used here: {reason.rstrip('.!')}. Use 'cpu'.") from error
    return found.device


def gradients(call: str, parameters: Iterable[Tensor]) -> None:
    """Raise StateError, which names `call`, if gradients of parameters cannot be computed around this call."""
    if any(parameter.is_inference() for parameter in parameters):
        raise StateError(
            f"{call}: the network was made or loaded within torch.inference_mode, and cannot be trained. Make or load "
            "the agent outside of it."
        )
    if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
        mode = "inference_mode" if torch.is_inference_mode_enabled() else "no_grad"
        raise StateError(
            f"{call}: torch.{mode} is on around this call, and training needs gradients. Make the call outside of it."
        )


def all_finite(tensor: Tensor) -> bool:
    """Return whether all numbers of a tensor are finite, which the smallest and the largest number show."""
    if not tensor.numel():
        return True
    least, most = tensor.detach().aminmax()
    return math.isfinite(least.item()) and math.isfinite(most.item())
