"""SHA-256 digests of tensors and of other bytes. Device and memory format of a tensor do not change its digest.

Files hold these digests (seals, checkpoints, names of runs), so the content that is hashed must not change. This file
is short, since it is the only place that defines the digest of a tensor.
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
    """Return the two parts of a tensor that are hashed: type and shape as text, and the bits in logical order."""
    flat = tensor.detach().cpu().contiguous()
    flat = flat.as_strided((flat.numel(),), (1,))  # a single number may have any stride, which a view of bytes refuses
    bits = flat.view(torch.uint8).numpy().data if flat.numel() else b""
    return f"{tensor.dtype} {tuple(tensor.shape)}".encode(), bits


def digest(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and bits, as 64 hexadecimal digits."""
    return digest_of(parts_of(tensor))
