"""Independent random streams, each named and derived from one seed."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from daynight.support import checks

Name = str | int


def derive(seed: int, *names: Name) -> int:
    """Return the seed of the stream called `names`.

    Args:
        seed: The user's seed, a whole number from 0 up.
        names: Names that say what the stream is for, for example ``("wake", 3)``.

    Returns:
        A whole number from 0 to 2**63 - 1: the first bytes of the SHA-256 digest of seed and names, so
        that streams with different names are independent, whatever their seeds.

    Raises:
        SettingError: If `seed` is not a whole number from 0 up.
    """
    digest = hashlib.sha256(repr((checks.integer("seed", seed, least=0), *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: Name) -> torch.Generator:
    """Return the CPU generator of the stream called `names` (see `derive`)."""
    return torch.Generator().manual_seed(derive(seed, *names))


@contextlib.contextmanager
def forked(seed: int, *names: Name, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run a block with the global generators seeded for the stream `names`, and restore them after the block.

    Use this for code that draws from global generators only. Initial weights and dropout draw from PyTorch's generator;
    users' functions may also draw from NumPy's or Python's generator.
    """
    number = derive(seed, *names)
    with unchanged(device):
        # Until a GPU is used, torch.manual_seed stores a call for it, which takes milliseconds and is never freed.
        is_alone = torch.device(device).type == "cpu" and not torch.cuda.is_initialized()
        seeds = torch.default_generator.manual_seed if is_alone else torch.manual_seed
        seeds(number)
        random.seed(number)
        np.random.seed(number % 2**32)  # noqa: NPY002
        yield


@contextlib.contextmanager
def shielded(device: torch.device | str = "cpu") -> Iterator[None]:
    """Restore PyTorch's global generators after a block, whatever the block draws from them."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextlib.contextmanager
def unchanged(device: torch.device | str = "cpu") -> Iterator[None]:
    """Restore the global generators of PyTorch, NumPy and Python after a block, whatever the block draws from them."""
    python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with shielded(device):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(of_numpy)  # noqa: NPY002


def state(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the state of the global generators of PyTorch, NumPy and Python; `restore` takes it."""
    device = torch.device(device)
    found: dict[str, Any] = {"cpu": torch.get_rng_state(), "python": random.getstate()}
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    found["numpy"] = (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest)
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore(state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
    """Put the global generators into a state that `state` returned."""
    torch.set_rng_state(state["cpu"])
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if "cuda" in state and torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
