"""Files of tensors and text, written whole or not at all, and read without running any code.

The format is safetensors (https://huggingface.co/docs/safetensors), so any reader of safetensors opens the files. The
metadata have a digest of the whole file, computed with zeros in the place of the digest.
"""

from __future__ import annotations

import collections
import enum
import json
import math
import os
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from daynight.errors import DamagedFileError, DataNotFoundError, SettingError
from daynight.support import atomic, digests

#: Version of the format. It is increased when older versions of daynight can no longer read new files.
FORMAT = 1
_ZEROS = "0" * 64
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')
#: The end of a tensor in a file, in bytes after the header, and the longest header that safetensors allows.
_END, MOST_HEADER = re.compile(rb'"data_offsets":\[\d{1,18},(\d{1,18})\]'), 10**8


def write(path: str | os.PathLike[str], kind: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Write tensors, and a description of them in JSON.

    Args:
        path: The file. An older file stays until the new file is complete.
        kind: Kind of the content, such as ``"agent"``.
        about: The description.
        tensors: Tensors by name, on any device.

    Returns:
        The digest of the file.

    Raises:
        OutputError: If the file cannot be written.
    """
    content, digest = encoded(kind, about, tensors)
    with atomic.replacing(path) as temporary:
        temporary.write_bytes(content)
    return digest


def encoded(kind: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """Return the content that `write` writes, and its digest."""
    import safetensors.torch

    text = json.dumps({"kind": kind, "format": FORMAT, "about": about}, allow_nan=True)
    held = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = safetensors.torch.save(held, {"daynight": text, "sha256": _ZEROS})
    place = content.find(f'"sha256":"{_ZEROS}"'.encode()) + len('"sha256":"')
    digest = digests.digest_of([content])
    return content[:place] + digest.encode() + content[place + len(digest) :], digest


def read(
    path: str | os.PathLike[str], kind: str, wanted: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:  # fmt: skip
    """Read a file that `write` wrote.

    Args:
        path: The file.
        kind: Kind that the content must have.
        wanted: The digest that the file must have; None is any.

    Returns:
        The description, and the tensors on the CPU.

    Raises:
        DataNotFoundError: If the file does not exist.
        SettingError: If `path` is not text or a path.
        DamagedFileError: If the file is damaged, has another kind of content, or was written by a newer version.
    """
    import safetensors.torch

    content = _content(path)
    found = _DIGEST.search(content, 0, min(len(content), 8 + int.from_bytes(content[:8], "little")))
    if found is None:
        raise DamagedFileError(f"{path} is not a daynight file, or its beginning is damaged.")
    begin, end = found.span(1)
    digest = digests.digest_of([memoryview(content)[:begin], _ZEROS.encode(), memoryview(content)[end:]])
    if digest.encode() != found.group(1):
        raise DamagedFileError(
            f"{path} is damaged: its content does not match its digest. It was cut short or changed after it was "
            "written. Take an older copy."
        )
    if wanted not in (None, digest):
        raise DamagedFileError(f"{path} is not the file that belongs here, but another one of the same name.")
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        text = json.loads(header["__metadata__"]["daynight"])
        known = text["kind"], text["format"], text["about"]
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"{path} is not a daynight file: {error}.") from error
    if isinstance(known[1], bool) or not isinstance(known[1], int) or not 1 <= known[1] <= FORMAT:
        raise DamagedFileError(
            f"{path} has the format {known[1]!r}, and this version of daynight reads up to {FORMAT}. Upgrade daynight."
        )
    if known[0] != kind or not isinstance(known[2], dict):
        raise DamagedFileError(f"{path} holds {known[0]!r}, and not {kind!r}.")
    return known[2], tensors


def _content(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file. A file that is longer than its tensors is refused before it is read.

    Raises:
        DataNotFoundError, DamagedFileError: See `read`.
        SettingError: If `path` is not text or a path.
    """
    try:
        with atomic.file_named(path).open("rb") as stream:
            length, n_bytes = stream.read(8), os.fstat(stream.fileno()).st_size
            n_header = int.from_bytes(length, "little")
            if not 2 <= n_header <= min(n_bytes - 8, MOST_HEADER):
                raise DamagedFileError(f"{path} is not a daynight file, or its beginning is damaged.")
            header = stream.read(n_header)
            end = max((int(found) for found in _END.findall(header)), default=0)
            if n_bytes > 8 + n_header + end:
                raise DamagedFileError(
                    f"{path} is damaged: it has {n_bytes:,} bytes, and its content {8 + n_header + end:,}. Take an "
                    "older copy."
                )
            return length + header + stream.read()
    except FileNotFoundError as error:
        raise DataNotFoundError(f"there is no file {path}. Check the path.", page="files") from error
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "there is not enough memory for it"
        raise DamagedFileError(f"{path} cannot be read: {reason}.") from error


Json = Any


def pack(value: Any) -> tuple[Json, dict[str, Tensor]]:
    """Return a nested value as JSON and tensors.

    Args:
        value: None, a bool, number, text, tensor, member of an enumeration, or dtype, device or size of PyTorch; or a
            dict, list, tuple or deque of such values; a dict's keys may be numbers, too.

    Returns:
        The value in JSON, with names in place of tensors, and the tensors by these names.

    Raises:
        SettingError: If the value contains an object of another type.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(value, tensors, "state"), tensors


def unpack(packed: Json, tensors: Mapping[str, Tensor]) -> Any:
    """Return the nested value that was packed.

    Args:
        packed: The JSON that `pack` returned.
        tensors: The tensors that `pack` returned.

    Raises:
        ValueError: If `packed` does not have the form that `pack` returns.
    """
    if packed is None or isinstance(packed, bool | int | float | str):
        return packed
    if not isinstance(packed, dict) or len(packed) != 1:
        raise ValueError("a packed value has an unknown form")
    ((kind, held),) = packed.items()
    if kind == "tensor":
        name, order = (held, ()) if isinstance(held, str) else held
        return tensors[name].permute(_inverse(order)) if order else tensors[name]
    if kind == "dict":
        return {unpack(key, tensors): unpack(value, tensors) for key, value in held}
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(unpack(item, tensors) for item in held)
    if kind == "deque":
        return collections.deque((unpack(item, tensors) for item in held[0]), held[1])
    if kind in _MAKERS:
        return _MAKERS[kind](held)
    raise ValueError(f"a packed value has the unknown kind {kind!r}")


def _order(tensor: Tensor) -> list[int]:
    """Return the dimensions of a tensor in the order in which they lie in memory; as they are if some overlap.

    Files have tensors row by row. Products of a matrix that lies otherwise may have other bits.
    """
    plain = list(range(tensor.dim()))
    if tensor.layout != torch.strided or tensor.is_contiguous():
        return plain
    order = sorted(plain, key=lambda place: -tensor.stride()[place])
    return order if tensor.permute(order).is_contiguous() else plain


def _inverse(order: Sequence[int]) -> list[int]:
    return [order.index(place) for place in range(len(order))]


def _member(names: Sequence[str]) -> enum.Enum:
    """Return a member of an enumeration, whose module must have been imported: nothing is imported, no code runs."""
    module, kind, name = names
    found: Any = sys.modules.get(module)
    for part in kind.split("."):
        found = vars(found).get(part) if isinstance(found, types.ModuleType | type) else None
    if isinstance(found, enum.EnumMeta) and name in found.__members__:
        member: enum.Enum = found.__members__[name]
        return member
    raise ValueError(f"the enumeration {kind} of {module}, or its member {name}, is unknown")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if isinstance(found, torch.dtype):
        return found
    raise ValueError(f"the type {name} of tensors is unknown")


#: By kind of a packed value, the function that makes the value.
_MAKERS: dict[str, Callable[[Any], Any]] = {
    "float": float, "enum": _member, "dtype": _dtype, "device": torch.device, "size": torch.Size,
}  # fmt: skip


def _plain(value: Any) -> Json:
    """Return a value of a kind in `_MAKERS` as JSON; None if it is of another kind."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(float(value))}
    if isinstance(value, enum.Enum):
        return {"enum": [type(value).__module__, type(value).__qualname__, value.name]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    return {"size": list(value)} if isinstance(value, torch.Size) else None


def _packed(value: Any, tensors: dict[str, Tensor], where: str) -> Json:
    if (plain := _plain(value)) is not None:
        return plain
    if isinstance(value, Tensor):
        name = where if where not in tensors else f"{where}#{len(tensors)}"
        order = _order(value)
        tensors[name] = value.detach().permute(order)
        return {"tensor": name if order == sorted(order) else [name, order]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        items = [[_packed(key, {}, where), _packed(item, tensors, f"{where}.{key}")] for key, item in value.items()]
        return {"dict": items}
    if isinstance(value, list | tuple | collections.deque):
        items = [_packed(item, tensors, f"{where}.{index}") for index, item in enumerate(value)]
        if isinstance(value, collections.deque):
            return {"deque": [items, value.maxlen]}
        return {"list" if isinstance(value, list) else "tuple": items}
    raise SettingError(
        f"{where} has the type {type(value).__name__}, which cannot be stored in a file without running code. Use "
        "Python's own numbers, as float(...) makes them, or text, lists, dicts and tensors."
    )
