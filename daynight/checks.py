"""Numbers as users give them, Python's own or NumPy's, checked and turned into Python's own."""

from __future__ import annotations

import math
import numbers
from typing import Any

from daynight.errors import SettingError


def whole(what: str, value: Any, least: int) -> int:
    """Give `value` as an int.

    Args:
        what: Names it in the error.
        value: What was given.
        least: The smallest number that it may be.

    Raises:
        SettingError: If it is not a whole number from `least` up.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise SettingError(f"{what} must be a whole number from {least} up, not {value!r}.")
    return int(value)


def finite(what: str, value: Any, least: float = -math.inf) -> float:
    """Give `value` as a float.

    Args:
        what: Names it in the error.
        value: What was given.
        least: The smallest number that it may be.

    Raises:
        SettingError: If it is not a finite number, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise SettingError(f"{what} must be a finite number, not {value!r}.")
    if value < least:
        raise SettingError(f"{what} must be {least:g} or more, not {value!r}.")
    return float(value)


def one_of(what: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices.

    Raises:
        SettingError: If `value` is not among them.
    """
    if value not in choices:
        raise SettingError(f"{what} must be one of {', '.join(map(repr, choices))}, not {value!r}.")
