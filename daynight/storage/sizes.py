"""How large an agent is: in numbers, in bits per number, and in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs
import torch
from torch import Tensor

from daynight.networks.connectivity import Connections, in_vain
from daynight.networks.masked import MaskedNetwork
from daynight.storage.huffman import n_coded_bytes
from daynight.training.preflight import tried
from daynight.training.settings import Training
from daynight.training.together import held_by


@attrs.frozen(kw_only=True)
class Size:
    """The size of a part of an agent.

    Attributes:
        part: Name of the part.
        n_numbers: How many numbers it holds.
        n_bytes: Bytes that the numbers take in memory.
        n_least_bits: Least number of bits for each number.
        n_in_vain: Of the maskable weights, how many a living task owns in vain: as the task sees the network, they
            reach no output, or no input reaches them (see `daynight.Capacity`). None for other parts, and if it cannot
            be told.
        n_coded_bytes: Bytes of the owner maps in Huffman codes (see `daynight.storage.huffman`), from which the masks
            of all tasks follow; None for other parts.
    """

    part: str
    n_numbers: int
    n_bytes: int
    n_least_bits: int
    n_in_vain: int | None = None
    n_coded_bytes: int | None = None

    @property
    def n_least_bytes(self) -> int:
        """Bytes of the part if each number has its least number of bits."""
        return -(-self.n_numbers * self.n_least_bits // 8)


def sizes(
    network: MaskedNetwork, training: Training, besides: Mapping[str, Iterable[Tensor]],
    probe: Callable[[int], Tensor],
) -> tuple[Size, ...]:  # fmt: skip
    """Return the sizes of the parts of an agent. A number that several layers share counts once.

    A number of an owner map needs enough bits to distinguish the owners and "free". The size of the optimizer is that
    of its state during a first wake, while all weights are free.

    Args:
        network: The agent's network, between days.
        training: How the agent learns.
        besides: The tensors of further parts, by name.
        probe: Returns some inputs (batch, ...) of a task, as the network reads them.
    """
    masked = {f"module.{name}" for name in network.anatomy.masked.values()}
    held: dict[str, list[Tensor]] = {"masked": []}
    for name, tensor in network.state().items():
        held.setdefault("masked" if name in masked else name.partition(".")[0], []).append(tensor)
    of_head = {id(parameter) for parameter in network.heads.live.parameters()}
    named = network.module.named_parameters()
    trained = {name: p for name, p in named if p.requires_grad or id(p) in of_head}
    return (
        attrs.evolve(_size("maskable weights", held["masked"]), n_in_vain=_n_in_vain(network, probe)),
        _size("what they were when they were pruned", held.get("pruned", ())),
        attrs.evolve(
            _size("owner maps", held["owners"], n_least_bits=max(1, len(network.sight.needed).bit_length())),
            n_coded_bytes=n_coded_bytes(held["owners"]),
        ),
        _size("biases, norms and buffers as they are now", held.get("module", ())),
        _size("those of finished tasks", held.get("private", ())),
        _size("heads of finished tasks", held.get("heads", ())),
        _size("optimizer, while it trains", _states(training, trained)),
        *(_size(part, tensors) for part, tensors in besides.items()),
    )


def _size(part: str, tensors: Iterable[Tensor], n_least_bits: int | None = None) -> Size:
    held = list(tensors)
    n, n_bytes = sum(t.numel() for t in held), sum(t.numel() * t.element_size() for t in held)
    return Size(part=part, n_numbers=n, n_bytes=n_bytes, n_least_bits=n_least_bits or (8 * n_bytes // n if n else 0))


def _n_in_vain(network: MaskedNetwork, probe: Callable[[int], Tensor]) -> int | None:
    """Return how many weights living tasks own in vain; None if it cannot be told."""
    if not network.living:
        return 0
    try:
        connections = Connections.of(network, probe(network.living[0]))
    except Exception:  # a user's module may fail in any way on random inputs
        return None
    found = [in_vain(network, connections, task) for task in network.living]
    return sum(int(torch.count_nonzero(mask)) for masks in found for mask in masks.values())


def _states(training: Training, trained: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the tensors that an optimizer holds, besides the parameters, after its first step."""
    states = [state for held in held_by(tried(training, trained).optimizer) for state in held.state.values()]
    values = [value for state in states if isinstance(state, Mapping) for value in state.values()]
    return [value for value in values if isinstance(value, Tensor)]
