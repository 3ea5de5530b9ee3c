"""Labels that a dataset lists beside its examples, such as its ``targets``, held against those that examples give."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daynight.errors import DataError

#: This many examples are read, evenly spread, before the labels that a dataset lists are believed.
_N_COMPARED = 16
#: Rounding differs if one number has 32 bits and the other 64.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-8


class Listing:
    """The labels that a dataset lists. Each example that is read can be held against them.

    Two numbers, rows of numbers or texts must be equal. If one is a number and the other a text or a row, such as a
    one-hot row, each must always come with the same other. An example without a label agrees with any.

    Args:
        kind: How errors name the dataset.
        labels: The labels, in the order of the dataset: texts, numbers, or rows of numbers.
    """

    def __init__(self, kind: str, labels: Any) -> None:
        self._kind = kind
        self._labels: Any = labels if isinstance(labels, Tensor | np.ndarray) else list(labels)
        self._partners: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self._labels)

    def agrees(self, index: int, given: Any) -> bool:
        """Return whether the label listed for an example agrees with the label that the example gives."""
        listed, given = _plain(self._labels[index]), _plain(given)
        if isinstance(listed, int) and isinstance(given, int):
            return listed == given
        forms = [_form(label) for label in (listed, given)]
        if None in forms:
            return True
        if forms[0] == forms[1]:
            return listed == given if forms[0] == "text" else _are_close(listed, given)
        pair = {("listed", _key(listed)): _key(given), ("given", _key(given)): _key(listed)}
        return all(self._partners.setdefault(label, partner) == partner for label, partner in pair.items())

    def check(self, index: int, given: Any) -> None:
        """Raise DataError unless an example gives the label that is listed for it.

        Args:
            index: Index of the example in the dataset.
            given: The label that it gives; None if it has none.
        """
        if not self.agrees(index, given):
            raise DataError(
                f"example {index} of {self._kind} gives the label {_plain(given)!r}, and the labels that are listed "
                f"for it, {self._kind}.targets, say {_plain(self._labels[index])!r}. Both must be in the same order, "
                "and after all transforms: correct targets, or give LazyDataset(..., targets=...) the right ones."
            )


def listing(kind: str, labels: Any, n: int, label_of: Callable[[int], Any]) -> Listing | None:
    """Return the listing of the labels of a dataset if some examples agree with it; otherwise None.

    Args:
        kind: How errors name the dataset.
        labels: The labels that the dataset lists.
        n: Number of examples.
        label_of: Function of the index of an example to the label that the example gives; None if it has none.
    """
    try:
        found = Listing(kind, labels)
    except TypeError:
        return None
    places = torch.linspace(0, n - 1, min(_N_COMPARED, n)).round().long().tolist()
    return found if len(found) == n and all(found.agrees(place, label_of(place)) for place in places) else None


def label_of(item: Any) -> Any:
    """Return the label of an example (input, label, ...); None if it has none."""
    return item[1] if isinstance(item, tuple | list) and len(item) > 1 else None


def _plain(label: Any) -> Any:
    """Return a label as Python's own numbers and lists, if it has them."""
    return label.tolist() if isinstance(label, Tensor | np.ndarray | np.generic) else label


def _form(label: Any) -> Any:
    """Return ``"text"``, the number of numbers in a label, or None if it is something else."""
    if isinstance(label, str | numbers.Real):
        return "text" if isinstance(label, str) else 1
    try:
        return np.asarray(label, dtype="float64").size if isinstance(label, tuple | list) else None
    except (TypeError, ValueError):
        return None


def _are_close(one: Any, other: Any) -> bool:
    pairs = zip(np.ravel(one).tolist(), np.ravel(other).tolist(), strict=True)
    return all(math.isclose(*pair, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE) for pair in pairs)


def _key(label: Any) -> Any:
    return label if isinstance(label, str) else tuple(np.ravel(label).tolist())
