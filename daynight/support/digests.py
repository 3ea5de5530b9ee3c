"""SHA-256 digests, of tensors and of other bytes: equal wherever and however a tensor lies in memory.

Files hold these digests (seals, checkpoints, names of runs), so what is hashed must not change. A short file, since it
is the one place that says what the digest of a tensor is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

Bytes = bytes | memoryview


def digest_of(parts: Iterable[Bytes]) -> str:
    """Return the SHA-256 of some bytes one after another, as 64 hexadecimal digits."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def parts_of(tensor: Tensor) -> tuple[Bytes, Bytes]:
    """Return what is hashed of a tensor: its type and shape, and its bits in logical order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    bits = flat.view(torch.uint8).numpy().data if flat.numel() else b""
    return f"{tensor.dtype} {tuple(tensor.shape)}".encode(), bits


def digest(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and bits, as 64 hexadecimal digits."""
    return digest_of(parts_of(tensor))
