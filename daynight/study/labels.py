"""The names and the order in which settings are shown: short names of a user's own, or a short text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from daynight.errors import SettingError
from daynight.nights.schedules import recommended_policy
from daynight.storage.identity import describe, digest
from daynight.support import checks

#: What is left out of a short text, and what stands for it: the modules of a name of daynight, arguments that are None,
#: and digits of a number beyond the sixth.
_SHORTER = (
    (re.compile(r"\bdaynight(\.[a-z_]\w*)*\.(?=\w)"), ""),
    (re.compile(r", \w+=None\b"), ""),
    (re.compile(r"\b\w+=None, "), ""),
    (re.compile(r"(?<![\w.])\d+\.\d{6,}(e-?\d+)?"), lambda found: f"{float(found[0]):.6g}"),
)

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Labels:
    """Short names for the values of settings, which also say in which order the values are shown.

    Args:
        given: Values by their short names, such as ``{"once": dn.OneShot()}``. A value without one is shown as text;
            that of `daynight.recommended_policy` is ``recommended_policy()``.

    Raises:
        SettingError: If `given` is not a dict of values by text, or a value cannot be described.
    """

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        given = {} if given is None else given
        checks.kind("labels", given, Mapping, "{'once': dn.OneShot()}")
        for name in given:
            checks.kind("labels: each name", name, str, "'once'")
        self._given = [(name, describe(value)) for name, value in given.items()]
        self._known = [*self._given, ("recommended_policy()", describe(recommended_policy()))]

    def of(self, description: Any) -> Any:
        """Return how a described setting is shown: its name, or a number, or text."""
        named = next((name for name, value in self._known if same(value, description)), None)
        if named is not None:
            return named
        text = hashable(description)
        return short(text) if isinstance(text, str) else text

    def described(self, value: Any) -> Any:
        """Return the description of a setting's value, which may be one of the short names given."""
        return next((known for name, known in self._given if name == value), describe(value))

    def texts(self, settings: Mapping[str, Any]) -> str:
        """Return settings as they are shown: ``policy=once, p=0.9``."""
        return ", ".join(f"{name}={self.of(self.described(value))}" for name, value in settings.items())

    def rank(self, description: Any, seen: Sequence[Any]) -> tuple[int, Any]:
        """Return the sort key of a described setting: those that a user has named first, as given; numbers; others.

        Args:
            description: The described setting.
            seen: The described settings in the order in which others are shown.
        """
        for place, (_, value) in enumerate(self._given):
            if same(value, description):
                return 0, place
        return (1, description) if is_number(description) else (2, seen.index(description))

    def check(self, keys: Sequence[tuple[Any, ...]]) -> None:
        """Raise SettingError if two groups of runs would be shown alike, because a name is the text of another value.

        Args:
            keys: What is shown of each group.
        """
        twice = [key for key in keys if keys.count(key) > 1]
        names = {name for name, _ in self._given}
        if taken := [item for key in twice for item in key if item in names]:
            raise SettingError(
                f"labels: {taken[0]!r} is also how another value is shown. Choose another name.", page="studies"
            )


def same(one: Any, other: Any) -> bool:
    """Return whether two descriptions are equal; True is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def short(text: str) -> str:
    """Return text without what says little, such as the modules of daynight's names: ``UniformCycles(n=4)``."""
    for pattern, instead in _SHORTER:
        text = pattern.sub(instead, text)
    return text


def texts_of(description: Any) -> list[str]:
    """Return the texts by which a described setting is found; the first is how it is shown."""
    shown = Labels().of(description)
    number = [f"{shown:g}"] if is_number(shown) else []
    whole = str(hashable(description))
    names = [whole]
    if isinstance(description, Mapping) and "function" in description:  # shown with a digest, if it is a user's own
        names.append(str(description["function"]))
    dotted = [name for name in names if _DOTTED.fullmatch(name)]  # and no number, nor a call
    return [str(shown), *number, short(whole), *names, *(name.rpartition(".")[2] for name in dotted)]


def natural(value: Any) -> list[tuple[bool, Any]]:
    """Return a sort key of a value shown as text, by which ``n=2`` comes before ``n=12``."""
    parts = enumerate(re.split(r"(\d+(?:\.\d+)?)", str(value)))
    return [(index % 2 == 1, float(part) if index % 2 else part) for index, part in parts]


def is_number(value: Any) -> bool:
    """Return whether a value is a number, and not a flag."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def hashable(value: Any) -> Any:
    """Return a described setting as a number, or as text that differs for different settings."""
    if isinstance(value, Mapping):
        return shown(value)
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def shown(value: Any) -> str:
    """Return a description as text: ``MLP(784, 32)``, ``UniformCycles(n=4)``."""
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if not isinstance(value, Mapping):
        return repr(value)
    rest = dict(value)
    head = next((rest.pop(name) for name in ("function", "class", "partial", "name") if name in rest), "")
    head = head if isinstance(head, str) else shown(head)
    arguments = [shown(item) for item in rest.pop("args", [])] if "partial" in value else []
    rest |= rest.pop("settings", {}) if "partial" in value else {}
    if "code" in rest or "body" in rest:
        return f"{head} {digest(value)[:6]}"
    arguments += [f"{name}={shown(item)}" for name, item in rest.items()]
    return head if not arguments and "class" not in value else f"{head}({', '.join(arguments)})"
