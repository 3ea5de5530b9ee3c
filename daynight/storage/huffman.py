"""How many bits owner maps take in a Huffman code, as the masks of tasks are often counted."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np
from torch import Tensor


def n_bits(counts: Iterable[int]) -> int:
    """Return the number of bits of a text in the Huffman code of its symbols; 1 a symbol if there is a single one.

    Source: D. A. Huffman, "A Method for the Construction of Minimum-Redundancy Codes", Proceedings of the IRE 40, 1952.

    Args:
        counts: How often each symbol occurs, 1 or more.
    """
    heap = list(counts)
    heapq.heapify(heap)
    found = sum(heap) if len(heap) == 1 else 0
    while len(heap) > 1:
        # Each merge makes the codes of all symbols below it one bit longer.
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        found += merged
        heapq.heappush(heap, merged)
    return found


def n_coded_bytes(owner_maps: Iterable[Tensor]) -> int:
    """Return how many bytes owner maps take in two Huffman codes, with their tables.

    The first code says which weights are owned: its symbols are groups of 1 to 8 neighbouring weights, of the length
    that is shortest in all. The second one says, of the owned weights, by whom. In a table, each symbol that occurs
    takes its own bits, and a byte for the length of its code.

    Args:
        owner_maps: For each weight the index of its owner, or -1 if none owns it; of any shape.
    """
    flat = [tensor.detach().cpu().reshape(-1).numpy() for tensor in owner_maps]
    owners = np.concatenate(flat) if flat else np.empty(0, np.int16)
    if not owners.size:
        return 0
    is_owned, found = owners >= 0, list[int]()
    for length in range(1, 9):
        groups = np.packbits(np.resize(is_owned, (-(-owners.size // length), length)), axis=1)
        found.append(_n_bits(np.bincount(groups[:, 0]), length))
    by_owner = np.bincount(owners[is_owned]) if is_owned.any() else np.empty(0, int)
    return -(-(min(found) + _n_bits(by_owner, max(1, (len(by_owner) - 1).bit_length()))) // 8)


def _n_bits(counts: np.ndarray, n_own: int) -> int:
    """Return the bits of a code of symbols that occur so often, and of its table, if a symbol itself takes `n_own`."""
    used = counts[counts > 0].tolist()
    return n_bits(used) + len(used) * (n_own + 8)
