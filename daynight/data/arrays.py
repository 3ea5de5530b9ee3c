"""Reading of inputs and targets, given as tensors, arrays, tables or lists, as tensors.

What is missing, a text or a date is refused, and never taken for a number.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daynight.errors import DataError
from daynight.support import checks, threads

_TEXTS = (
    "texts. Number them, as numpy.unique(texts, return_inverse=True) does; if they are numbers that were read as "
    "texts, give values.astype('float32'), or values.astype('int64') for labels"
)
_TIMES = "dates or times. Make numbers of them, such as the hours since a fixed date, or leave them out"
#: An error names this many columns.
_N_NAMED = 5
#: Types in which 32 bits are enough to see whether a number is finite.
_NARROW = (torch.float32, torch.float16, torch.bfloat16)


class Unreadable(ValueError):
    """What was given is no numbers, or has missing ones. The message says why, and what to do."""


def read(what: str, values: Any) -> Tensor:
    """Return a tensor, array, table or list as a tensor, without copying numbers where that is possible.

    Args:
        what: ``"inputs"`` or ``"targets"``. A column of whole numbers that a table keeps as objects becomes int64 in
            targets, and floating point in inputs.
        values: What was given.

    Raises:
        DataError: If `values` are not numbers, or some of them are missing.
    """
    if values is None:
        raise DataError(f"the {what} are None. Without inputs and targets nothing can be learnt.")
    try:
        return tensor_of(values, is_labels=what == "targets")
    except Unreadable as error:
        if isinstance(values, dict | tuple):
            raise DataError(
                f"the {what} are a {type(values).__name__}, and must be one tensor: {error}. Join what the network "
                "reads in one tensor, and wrap the network in a module whose forward takes it apart."
            ) from error
        raise DataError(f"the {what} cannot be read as a tensor: {error}.") from error


def is_readable(values: Any) -> bool:
    """Return whether `read` returns `values` as a tensor."""
    try:
        tensor_of(values)
    except Unreadable:
        return False
    return True


def tensor_of(values: Any, *, is_labels: bool = False) -> Tensor:
    """Return a tensor, array, table, list or number as a tensor.

    Args:
        values: What was given.
        is_labels: Whether whole numbers that a table keeps as objects stay whole numbers.

    Raises:
        Unreadable: If `values` are not numbers, or some of them are missing.
    """
    if isinstance(values, Tensor):
        return _checked(values).detach()
    try:
        if hasattr(values, "to_numpy"):
            values = _of_table(values, is_labels)
        elif _is_like_array(values):
            values = np.asanyarray(values)  # read at once, and not number by number; masks are kept
        if isinstance(values, np.ndarray):
            return _of_array(values)
        if isinstance(values, list | tuple):
            return _of_list(values)
        return torch.as_tensor(values).detach()
    except Unreadable:
        raise
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise Unreadable(f"{str(error).rstrip('.')}. {_advice(values)}") from error


def columns_of(values: Any) -> tuple[Any, ...]:
    """Return the names of the columns of a table, or of a column of one; nothing for other values."""
    if not hasattr(values, "to_numpy"):
        return ()
    names = getattr(values, "columns", None)
    name = getattr(values, "name", None)
    return tuple(names) if names is not None else () if name is None or name == "" else (name,)


def check_finite(what: str, tensor: Tensor, first: int | Tensor = 0, columns: Sequence[Any] = ()) -> None:
    """Raise DataError unless all numbers are finite as 32-bit numbers, in which networks compute.

    Args:
        what: What the numbers are, such as ``"inputs"``.
        tensor: (n, ...).
        first: Number of the first example, or the number of each (int64), for the error.
        columns: Names of the columns, if the numbers are those of a table, for the error.
    """
    if not tensor.is_floating_point() and not tensor.is_complex():
        return
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    narrow = plain if plain.dtype in _NARROW else plain.float()
    if checks.all_finite(narrow):
        return
    wrong = ~torch.isfinite(narrow).reshape(len(narrow), -1)
    place = int(wrong.any(1).nonzero()[0])
    number = first + place if isinstance(first, int) else int(first[place])
    where = ""
    if len(columns) == wrong.shape[1]:
        found = [repr(columns[index]) for index in wrong.any(0).nonzero().flatten().tolist()]
        rest = f" and {len(found) - _N_NAMED} more" if len(found) > _N_NAMED else ""
        where = f" (column{'' if len(found) == 1 else 's'} {', '.join(found[:_N_NAMED])}{rest})"
    raise DataError(
        f"the {what} hold values that are not finite as 32-bit numbers, first in example {number}{where}. Clean, fill "
        "or scale them first."
    )


def _is_like_array(values: Any) -> bool:
    """Return whether NumPy reads an object as an array, such as a dataset of h5py; PyTorch reads those with DLPack."""
    is_read_otherwise = isinstance(values, np.ndarray | np.generic) or hasattr(values, "getbands")  # Pillow's images
    return hasattr(values, "__array__") and not is_read_otherwise and not hasattr(values, "__dlpack__")


def _checked(tensor: Tensor) -> Tensor:
    if tensor.is_nested:
        raise Unreadable(
            "a nested tensor has examples of different shapes. Pad them: torch.nested.to_padded_tensor(values, 0.0)"
        )
    if tensor.is_meta:
        raise Unreadable("a tensor on the device 'meta' holds no numbers. Give one that does")
    return tensor


def _of_array(values: np.ndarray) -> Tensor:
    """Return an array as a tensor in the same memory, if possible."""
    if isinstance(values, np.ma.MaskedArray):
        values = _unmasked(values)
    if values.dtype.kind == "O":
        _check_objects([("", values)])
        raise Unreadable(
            "they are objects of Python (dtype object). Give values.astype('float32'), or values.astype('int64') for "
            "labels"
        )
    if wrong := _kind_of(values.dtype):
        raise Unreadable(f"they are {wrong}")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    elif any(stride < 0 for stride in values.strides):
        values = values.copy()
    if values.flags.writeable:
        return torch.as_tensor(values)
    with threads.quiet("The given NumPy array is not writable"):  # nothing writes to it
        return torch.as_tensor(values)


def _unmasked(values: np.ma.MaskedArray[Any, Any]) -> np.ndarray:
    missing = np.ma.getmaskarray(values)
    if not missing.any():
        return np.ma.getdata(values)
    first = int(np.nonzero(missing.reshape(len(missing), -1).any(1))[0][0]) if missing.ndim else 0
    raise Unreadable(
        f"values are masked, which means that they are missing, first at index {first}. Fill them, or leave these "
        "examples out"
    )


def _of_list(values: list[Any] | tuple[Any, ...]) -> Tensor:
    for place, item in enumerate(values):
        if isinstance(item, np.ma.MaskedArray) and np.ma.getmaskarray(item).any():
            raise Unreadable(
                f"values are masked, which means that they are missing, first at index {place}. Fill them, or leave "
                "these examples out"
            )
    try:
        if values and all(isinstance(item, np.ndarray) for item in values):
            return _of_array(np.stack(values))  # PyTorch reads a list of arrays number by number
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        if wrong := _wrong_type(set(map(type, values))):
            raise Unreadable(f"they contain {wrong}") from None
        # A tuple of tensors is rather several inputs of a network.
        if isinstance(values, tuple) or not values or not all(isinstance(item, Tensor) for item in values):
            raise
        return torch.stack([_checked(item) for item in values]).detach()


def _kind_of(dtype: Any) -> str | None:
    """Return what values of a type of NumPy, pandas or polars are, if they are no numbers; otherwise None."""
    kind = getattr(dtype, "kind", None)
    if kind in ("M", "m") or getattr(dtype, "is_temporal", bool)():
        return _TIMES
    return _TEXTS if kind in ("U", "S", "T") else None


def _of_table(table: Any, is_labels: bool) -> np.ndarray:
    """Return the numbers of a table or column of pandas, polars or the like.

    Columns that differ in type become floating point together.
    """
    names = [f"column {name!r} holds " for name in getattr(table, "columns", ())]
    # A frame of polars makes numbers of dates as it becomes an array.
    for name, dtype in zip(names, getattr(table, "dtypes", ()) if names else (), strict=True):
        if wrong := _kind_of(dtype):
            raise Unreadable(name + wrong)
    values = np.array(table.to_numpy())
    if values.dtype.kind == "O":
        columns = values.T if names and values.ndim == 2 else [values]
        types = _check_objects(list(zip(names or [""], columns, strict=True)))
        if is_labels and values.ndim == 1 and all(issubclass(kind, (numbers.Integral, np.bool_)) for kind in types):
            return values.astype("int64")
        values = np.array([np.nan if _is_missing(value) else value for value in values.ravel()], "float64").reshape(
            values.shape
        )
    return values.astype("float32") if values.dtype == bool and values.ndim > 1 else values


def _check_objects(columns: list[tuple[str, np.ndarray]]) -> set[type]:
    """Return the types of Python's objects in columns.

    Args:
        columns: How an error names each column, and its values.

    Raises:
        Unreadable: If they are neither numbers nor missing. The message names the column.
    """
    found = set[type]()
    for name, values in columns:
        types = set(map(type, values.ravel()))
        begin = name or "they contain "
        if wrong := _wrong_type(types):
            raise Unreadable(begin + wrong)
        for kind in types:
            if not issubclass(kind, (numbers.Number, np.bool_, type(None))) and kind.__name__ != _MISSING:
                raise Unreadable(f"{begin}objects of the type {kind.__name__}. {_advice(list(values))}")
        found |= types
    return found


def _wrong_type(types: set[type]) -> str | None:
    """Return what objects of these types are, if they are texts or dates; otherwise None."""
    if any(issubclass(kind, str | bytes) for kind in types):
        return _TEXTS
    return _TIMES if any(issubclass(kind, _DATES) for kind in types) else None


#: The type of pandas.NA, which is not imported here.
_MISSING = "NAType"
_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == _MISSING


def _advice(values: Any) -> str:
    if hasattr(values, "toarray"):
        return "Of a sparse matrix, give values.toarray()"
    if isinstance(values, list | tuple) and len(set(map(_length, values))) > 1:
        return "All examples need one shape: pad or cut them"
    return "Give numbers, such as those of table.to_numpy(dtype='float32')"


def _length(item: Any) -> int:
    try:
        return len(item)
    except TypeError:  # a number
        return -1
