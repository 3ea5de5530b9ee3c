"""One seed, and from it any number of independent random streams, each with a name."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

from daynight import checks

Name = str | int


def derive(seed: int, *names: Name) -> int:
    """Derive the seed of the stream called `names`.

    Args:
        seed: The user's seed, a whole number from 0 up.
        names: What the stream is for, for example ``("wake", 3)``.

    Returns:
        A whole number from 0 to 2**63 - 1: the first bytes of the SHA-256 digest of all of them, so
        that streams with different names share nothing, whatever their seeds.

    Raises:
        SettingError: If `seed` is not a whole number from 0 up.
    """
    digest = hashlib.sha256(repr((checks.whole("seed", seed, least=0), *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: Name) -> torch.Generator:
    """Make the CPU generator of the stream called `names` (see `derive`)."""
    return torch.Generator().manual_seed(derive(seed, *names))


@contextlib.contextmanager
def forked(seed: int, *names: Name, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run a block under its own stream of PyTorch's global generators, and restore them after it.

    For what PyTorch draws from the global generator alone: initial weights and dropout.
    """
    with shielded(device):
        # What torch.manual_seed puts by for a GPU until it is first used takes milliseconds, and is never let go.
        is_alone = torch.device(device).type == "cpu" and not torch.cuda.is_initialized()
        seeds = torch.default_generator.manual_seed if is_alone else torch.manual_seed
        seeds(derive(seed, *names))
        yield


@contextlib.contextmanager
def shielded(device: torch.device | str = "cpu") -> Iterator[None]:
    """Restore PyTorch's global generators after a block, whatever it draws."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
