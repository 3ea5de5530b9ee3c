"""Independent random streams, each named and derived from one seed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from daynight.support import checks, expected, interrupts, threads

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
    """Restore PyTorch's global generators after a block, whatever the block draws from them.

    Other threads that use the global generators by daynight wait until the block is over, or gives way.
    """
    device = torch.device(device)
    TURNS.take()
    try:
        before = _of_pytorch(device)
        _before.append(before)
        try:
            yield
        finally:
            _before.pop()
            restore(before, device)
    finally:
        TURNS.give()


@contextlib.contextmanager
def unchanged(device: torch.device | str = "cpu") -> Iterator[None]:
    """Restore the global generators of PyTorch, NumPy and Python after a block, whatever the block draws from them."""
    with shielded(device):
        _before[-1].update(_of_others())
        yield


#: Which thread may use the global generators. All threads share them, so that a draw in one changes those of others.
TURNS = threads.Turns()
#: What the blocks of the thread whose turn it is restore at their ends, the outermost first.
_before: list[dict[str, Any]] = []


def _after_fork() -> None:
    TURNS.after_fork()
    if not TURNS.depth:
        _before.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def give_way(device: torch.device | str = "cpu") -> None:
    """Let other threads that wait for the global generators use them now. Call this within `forked`.

    Afterwards the generators are as before, so that training in several threads, which give way between their optimizer
    steps, draws the same numbers as in one.
    """
    if not TURNS.n_waiting:
        return
    own, mine = state(device), list(_before)
    # As before the outermost block, and what that leaves as it is, as before the first block that restores it.
    for found in reversed(mine):
        restore(found, device)
    with interrupts.deferred():  # an interrupt while it waits would end the block without its turn
        _before.clear()
        TURNS.pass_on()
        _before[:] = mine
    # The outermost blocks restore what other threads have left.
    now, seen = state(device), set[str]()
    for found in mine:
        found.update({name: value for name, value in now.items() if name in found and name not in seen})
        seen |= found.keys()
    restore(own, device)


def _of_pytorch(device: torch.device) -> dict[str, Any]:
    found = {"cpu": torch.get_rng_state()}
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _of_others() -> dict[str, Any]:
    return {"python": random.getstate(), "numpy": np.random.get_state()}  # noqa: NPY002


def state(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the state of the global generators of PyTorch, NumPy and Python; `restore` takes it."""
    found = _of_pytorch(torch.device(device)) | _of_others()
    kind, keys, *rest = found["numpy"]
    return found | {"numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest)}


def check(state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
    """Raise ValueError unless `restore` can put the global generators into a state."""
    _, keys, place, *_ = state["numpy"]
    expected.tensor((624,), torch.int64)("the state of NumPy's generator", keys)
    expected.whole(0, 624)("the place in the state of NumPy's generator", place)
    if not 0 <= int(keys.min()) <= int(keys.max()) < 2**32:
        raise ValueError("the state of NumPy's generator has numbers of more than 32 bits")
    with forked(0, "check", device=device):
        try:
            restore(state, device)
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"the state of a random generator is not valid: {error}") from error


def restore(state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
    """Put the global generators into a state that `state` returned. Generators that it lacks stay as they are."""
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "python" in state:
        random.setstate(state["python"])
    if "numpy" in state:
        kind, keys, *rest = state["numpy"]
        keys = keys.numpy().astype(np.uint32) if isinstance(keys, torch.Tensor) else keys
        np.random.set_state((kind, keys, *rest))  # noqa: NPY002
    if "cuda" in state and torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
