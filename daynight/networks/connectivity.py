"""`Connections`: which weights are in vain, those into a unit that nothing reads or out of a unit that nothing reaches.

A weight connects an input of its layer with an output, whatever its value. Outputs of the network are always read, and
its inputs always reach. A unit without a weight into it has the same value for every input, that of its bias: nothing
reaches it, and what a weight out of it adds is what a bias of the next layer would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from daynight.errors import NetworkError
from daynight.networks import liveness, sequences, tracing
from daynight.networks.masked import FREE, MaskedNetwork
from daynight.networks.sequences import CONVOLUTIONS, POOLS, UNITWISE
from daynight.networks.sight import owned_by
from daynight.networks.tracing import Part
from daynight.support import checks

#: Modules and functions that compute each unit or channel only from the same one of their inputs, whatever their shape.
_BY_UNIT: tuple[Any, ...] = (
    *UNITWISE, nn.ReLU, nn.PReLU, nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, *tracing.RELUS,
    torch.tanh, torch.sigmoid, functional.gelu, functional.silu, functional.elu, functional.leaky_relu,
    functional.dropout,
)  # fmt: skip
#: Those that do so for inputs of 1, 2 or 3 places beside the channels.
_BY_CHANNEL: tuple[tuple[Any, ...], ...] = (
    (*POOLS[0::3], nn.InstanceNorm1d, nn.Dropout1d, functional.max_pool1d, functional.avg_pool1d),
    (*POOLS[1::3], nn.InstanceNorm2d, nn.Dropout2d, functional.max_pool2d, functional.avg_pool2d,
     functional.adaptive_avg_pool2d),
    (*POOLS[2::3], nn.InstanceNorm3d, nn.Dropout3d, functional.max_pool3d, functional.avg_pool3d),
)  # fmt: skip


@attrs.frozen(eq=False)
class Connections:
    """How the masked layers of a network are connected, through parts that compute unit by unit.

    A part of another kind counts as connecting each of its inputs with each of its outputs.

    Attributes:
        parts: The network as a chain, of which all masked layers are parts.
        n_places: For each part that flattens, the number of features that it makes from a channel; 0 if unknown.
        layers: Names of the masked layers, in the order of the chain.
    """

    parts: tuple[Part, ...]
    n_places: tuple[int, ...]
    layers: tuple[str, ...]

    @classmethod
    def of(cls, network: MaskedNetwork, inputs: Tensor) -> Connections:
        """Trace a network on a batch (batch, ...), as the network reads it. The network does not change.

        Raises:
            NetworkError: If a masked layer is not a part of a chain.
        """
        parts = _by_unit(tracing.cut(network, inputs))
        named = [part.name for part in parts if liveness.is_layer(part) and part.name in network.weights]
        if missing := [name for name in network.weights if name not in named]:
            raise NetworkError(
                f"Capacity(connected=True) must know which units each masked layer reads, and {missing[0]} is not "
                "found to be a linear layer or a convolution (of one group, padded with zeros) in a plain chain of "
                "modules. Leave connected out; or let forward call such layers one after the other, or name the "
                f"others in Agent(exclude=...).{checks.also(missing[1:])}"
            )
        n_places = liveness.n_places_of(parts)
        # Without the modules, which may be those of a copy that is not needed any more.
        bare = tuple(attrs.evolve(part, module=nn.Identity()) for part in parts)
        return cls(bare, tuple(n_places), tuple(named))

    def read(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """Return per masked layer which of its outputs are read: bool (outputs,); None if all are.

        Args:
            masks: Per layer, which weights there are: bool (outputs, inputs, ...).
        """
        after = liveness.read_units(self.parts, masks, self.n_places)[1:]
        return {part.name: units for part, units in zip(self.parts, after, strict=True) if part.name in self.layers}

    def useful(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return per masked layer the places from an input that is reached to an output that is read.

        A weight is in vain if it is at any other place.

        Args:
            masks: Per layer, which weights there are: bool (outputs, inputs, ...).

        Returns:
            Per layer, bool of the weight's shape, also for places without a weight.
        """
        before = liveness.reached_units(self.parts, masks, self.n_places)[:-1]
        reached = {part.name: units for part, units in zip(self.parts, before, strict=True)}
        return {name: _between(reached[name], units, masks[name]) for name, units in self.read(masks).items()}


def in_vain(network: MaskedNetwork, connections: Connections, task: int) -> dict[str, Tensor]:
    """Return per layer which weights a finished task owns in vain, as it sees the network: bool, of the weight's shape.

    Args:
        network: The network, between days.
        connections: Its connections.
        task: Index of a living task.
    """
    shown = {
        name: owned_by(owners, network.sight.of[task]) if network.freezes else owners != FREE
        for name, owners in network.owners.items()
    }
    useful = connections.useful(shown)
    return {name: (network.owners[name] == task) & ~useful[name] for name in connections.layers}


def _between(reached: Tensor | None, read: Tensor | None, like: Tensor) -> Tensor:
    """Return which places (outputs, inputs, ...) of a layer are from a reached input to a read output."""
    found = torch.ones_like(like, dtype=torch.bool)
    if read is not None:
        found[~read] = False
    if reached is not None:
        found[:, ~reached] = False
    return found


def _by_unit(parts: Sequence[Part]) -> list[Part]:
    """Return a chain in which parts of unknown kind that compute unit by unit are known to do so."""
    found, n_dims = list[Part](), -1
    for part in parts:
        if part.kind in ("linear", "convolution"):
            n_dims = next((n for n, kind in enumerate(CONVOLUTIONS, start=1) if type(part.module) is kind), 0)
        elif part.kind == "other":
            known = _BY_UNIT + (_BY_CHANNEL[n_dims - 1] if n_dims > 0 else ())
            if n_dims >= 0 and _is_by_unit(part.module, known):
                part = attrs.evolve(part, kind="unitwise")
            else:
                n_dims = -1
        elif part.kind == "flatten":
            n_dims = 0
        found.append(part)
    return found


def _is_by_unit(module: nn.Module, known: Sequence[Any]) -> bool:
    """Return whether a module only applies known modules and functions, one after the other."""
    if isinstance(module, fx.GraphModule):
        before, *nodes, _ = module.graph.nodes
        for node in nodes:
            is_call = node.op == "call_function" and node.target in known
            if node.op == "call_module":
                is_call = _is_by_unit(module.get_submodule(str(node.target)), known)
            if not is_call or node.all_input_nodes != [before]:
                return False
            before = node
        return True
    if sequences.has_hooks(module):
        return False
    if type(module) is nn.Sequential:
        return all(_is_by_unit(part, known) for part in module)
    return type(module) in known
