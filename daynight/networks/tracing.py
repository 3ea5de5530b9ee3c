"""A network as a chain of parts, listed or traced. A network that cannot be cut stays in one part."""

from __future__ import annotations

import contextlib
import itertools
import operator
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from daynight.networks import sequences
from daynight.networks.copies import attributes_kept
from daynight.networks.masked import MaskedNetwork
from daynight.networks.sequences import CONVOLUTIONS, POOLS, UNITWISE
from daynight.support import seeding

Kind = Literal["linear", "convolution", "relu", "dropout", "flatten", "unitwise", "other"]

RELUS = (functional.relu, torch.relu)


@attrs.frozen(eq=False)
class Part:
    """A part of the chain.

    Attributes:
        kind: What the part computes; ``"other"`` if unknown.
        module: The module that computes the part.
        name: For ``"linear"`` and ``"convolution"``, the name of the layer within the network.
        sizes: By the name of each convolution that the part is, or calls once on its way, the height and width (or
            however many dimensions there are) of its inputs; () if they are not known, or not contiguous in memory.
    """

    kind: Kind
    module: nn.Module
    name: str = ""
    sizes: Mapping[str, tuple[int, ...]] = {}


class Autocast(nn.Module):
    """Runs a module under autocast, and returns outputs in the type of its weights.

    Args:
        module: The module.
        dtype: Type of the operations that autocast converts.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module, dtype

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, ...) to outputs (batch, n_outputs)."""
        with torch.autocast(inputs.device.type, self.dtype):
            outputs: Tensor = self.module(inputs)
        return outputs.to(next(self.module.parameters()).dtype)


def uncut(network: MaskedNetwork, autocast: torch.dtype | None = None) -> list[Part]:
    """Return the network as one part, which runs under autocast to the type `autocast` if that is given."""
    return [Part("other", network.module if autocast is None else Autocast(network.module, autocast))]


def cut(network: MaskedNetwork, inputs: Tensor) -> list[Part]:
    """Return the network, as the day trains it, as a chain of parts; a network that cannot be cut is one part.

    Args:
        network: The network, during a day.
        inputs: A batch, as the network reads it.
    """
    head = {network.anatomy.head} if isinstance(network.heads.live, nn.Linear) else set()
    return chain(network.module, {*network.weights} | head, inputs) or uncut(network)


def chain(module: nn.Module, layers: Collection[str], inputs: Tensor) -> list[Part] | None:
    """Return a module as a chain of parts; None if it cannot be cut.

    A plain sequence is listed. For others the chain is traced, and then compared with the module on `inputs`, with
    equal random numbers. A module that cannot be traced, or whose chain has different outputs, is not cut. The module
    and PyTorch's global generator do not change.

    Args:
        module: The module.
        layers: Names of the layers that may be separate parts.
        inputs: A batch, as the module reads it.
    """
    with borrowed(module), seeding.shielded(inputs.device):
        if sequences.is_plain(module):
            return _run(_listed(module, layers), inputs)[0]
        parts = _cut(module, layers)
        return None if parts is None else _checked(module, parts, inputs)


@contextlib.contextmanager
def borrowed(module: nn.Module) -> Iterator[nn.Module]:
    """Put a module into training mode, without gradients, during a block, and restore it afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    # Names and values are restored, since a forward may replace a buffer. PyTorch has no public way to set a buffer to
    # None.
    buffers = [(part, name, buffer) for part in module.modules() for name, buffer in part._buffers.items()]
    values = [None if buffer is None else buffer.clone() for _, _, buffer in buffers]
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    try:
        module.train()
        for parameter, _ in gradients:
            parameter.grad = None
        yield module
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for (part, name, buffer), value in zip(buffers, values, strict=True):
            part._buffers[name] = buffer
            if buffer is not None and value is not None:
                buffer.detach().copy_(value)


class _Tracer(fx.Tracer):
    """Traces the modules that its own thread calls. `fx.Tracer` traces those of all threads, and fails there."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Trace the call of a module."""
        is_own = threading.get_ident() == self._thread
        return super().call_module(m, forward, args, kwargs) if is_own else forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        """Return an attribute of a module, or what stands for it while the module is traced."""
        is_own = threading.get_ident() == self._thread
        return super().getattr(attr, attr_val, parameter_proxy_cache) if is_own else attr_val


def _listed(module: nn.Module, layers: Collection[str]) -> list[Part]:
    """Return the parts of a plain sequence. Neighbours of unknown kind are one part."""
    parts = list(sequences.leaves(module))
    calls, owners = Counter(id(part) for _, part in parts), _owners(module)
    found: list[Part] = []
    for name, part in parts:
        shared = calls[id(part)] > 1 or any(owners[id(p)] > 1 for p in part.parameters())
        kind = "other" if shared else _kind(part, name in layers)
        if kind == "other" and found and found[-1].kind == "other":
            found[-1] = Part("other", nn.Sequential(found[-1].module, part))
        else:
            found.append(Part(kind, part, name if kind != "other" else ""))
    return found


def _cut(module: nn.Module, layers: Collection[str]) -> list[Part] | None:
    tracer, state, versions = _Tracer(), torch.get_rng_state(), _versions(module)
    try:
        with attributes_kept(module):  # what the module keeps of this pass are no tensors
            traced = fx.GraphModule(module, tracer.trace(module))
    except Exception:  # Tracing runs the user's own code on proxies, which can fail in any way.
        return None
    # Tracing must not draw random numbers or write to tensors: later batches do not repeat this.
    if not torch.equal(torch.get_rng_state(), state) or _versions(module) != versions:
        return None
    entry, *nodes, end = traced.graph.nodes
    # Only a chain of one input and one output is cut. A tensor that is made during tracing is the same in every batch.
    if not nodes or end.args != (nodes[-1],) or any(node.op == "placeholder" for node in nodes):
        return None
    if any("_tensor_constant" in str(node.target) for node in nodes if node.op == "get_attr"):
        return None
    called = {str(node.target) for node in nodes if node.op == "call_module"}
    outside = [part for name, part in module.named_modules() if not _within_any(name, called)]
    if sequences.are_hooked_globally() or any(map(sequences.has_hooks, outside)):
        return None
    kinds, convolutions = _kinds(module, layers, entry, nodes), _convolutions(module, layers, nodes)
    parts, start = [], 0
    for index, kind in enumerate(kinds):
        closes = kind != "other" or index + 1 == len(nodes) or kinds[index + 1] != "other"
        if closes:
            part = _part(module, traced, kind, nodes[start - 1] if start else entry, nodes[start : index + 1])
            own = [str(node.target) for node in nodes[start : index + 1] if node in convolutions]
            parts.append(attrs.evolve(part, sizes=dict.fromkeys(own, ())))
            start = index + 1
    return parts


def _versions(module: nn.Module) -> list[tuple[int, int]]:
    """Return the `id` of each tensor of a module, and how often the tensor has been written to."""
    return [(id(tensor), tensor._version) for tensor in (*module.parameters(), *module.buffers())]


def _part(module: nn.Module, traced: fx.GraphModule, kind: Kind, entry: fx.Node, nodes: list[fx.Node]) -> Part:
    if kind != "other" and nodes[0].op == "call_module":
        name = str(nodes[0].target)
        return Part(kind, module.get_submodule(name), name)
    graph = fx.Graph()
    copies = {entry: graph.placeholder("inputs")}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[nodes[-1]])
    return Part(kind, fx.GraphModule(traced, graph))


def _kinds(module: nn.Module, layers: Collection[str], entry: fx.Node, nodes: list[fx.Node]) -> list[Kind]:
    """Return the kind of each node: ``"other"`` for a node that a path through the graph bypasses."""
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    owners = _owners(module)
    # A tensor that forward itself reads is used outside its module, too.
    owners.update(id(operator.attrgetter(str(node.target))(module)) for node in nodes if node.op == "get_attr")
    place = {node: index for index, node in enumerate([entry, *nodes])}
    last_use = [max((place.get(user, len(place)) for user in node.users), default=0) for node in place]
    # The chain can be cut after node i if no node before i is read after i.
    furthest = itertools.accumulate([0, *last_use], max)
    is_cut = [reach <= index for index, reach in enumerate(furthest)][: len(place)]
    kinds: list[Kind] = []
    for index, node in enumerate(nodes, start=1):
        kind: Kind = "other"
        if is_cut[index - 1] and is_cut[index]:
            if node.op == "call_module":
                part = module.get_submodule(str(node.target))
                shared = calls[str(node.target)] > 1 or any(owners[id(p)] > 1 for p in part.parameters())
                kind = "other" if shared or sequences.has_hooks(part) else _kind(part, str(node.target) in layers)
            elif node.op == "call_function" and node.target in RELUS and set(node.kwargs) <= {"inplace"}:
                kind = "relu"
            elif _flattens(node):
                kind = "flatten"
        kinds.append(kind)
    return kinds


def _convolutions(module: nn.Module, layers: Collection[str], nodes: list[fx.Node]) -> set[fx.Node]:
    """Return the calls of convolutions that are layers, in whose place another module may compute."""
    calls, owners = Counter(str(node.target) for node in nodes), _owners(module)
    owners.update(id(operator.attrgetter(str(node.target))(module)) for node in nodes if node.op == "get_attr")
    found = set()
    for node in nodes:
        if node.op == "call_module" and calls[str(node.target)] == 1 and len(node.args) == 1 and not node.kwargs:
            part = module.get_submodule(str(node.target))
            is_layer = type(part) in CONVOLUTIONS and str(node.target) in layers and "forward" not in vars(part)
            if is_layer and not sequences.has_hooks(part) and all(owners[id(p)] == 1 for p in part.parameters()):
                found.add(node)
    return found


def _owners(module: nn.Module) -> Counter[int]:
    """Count the modules that have each parameter, by its `id`."""
    return Counter(id(p) for part in module.modules() for p in part.parameters(recurse=False))


def _kind(part: nn.Module, is_layer: bool) -> Kind:
    if type(part) is nn.Linear and is_layer:
        return "linear"
    if type(part) in CONVOLUTIONS and is_layer and part.groups == 1 and part.padding_mode == "zeros":
        return "convolution"
    if type(part) is nn.ReLU:
        return "relu"
    if type(part) is nn.Dropout and 0 < part.p < 1:
        return "dropout"
    if type(part) is nn.Flatten and (part.start_dim, part.end_dim) == (1, -1):
        return "flatten"
    return "unitwise" if type(part) in UNITWISE + POOLS else "other"


def _flattens(node: fx.Node) -> bool:
    is_call = (node.op, node.target) in (("call_method", "flatten"), ("call_function", torch.flatten))
    return is_call and node.args[1:] == (1,) and not node.kwargs


def _within_any(name: str, called: set[str]) -> bool:
    """Return whether a module is called as a whole, or is part of a module that is."""
    parts = name.split(".")
    return any(".".join(parts[:n]) in called for n in range(1, len(parts) + 1))


def _dims_of(part: Part) -> int | None:
    """Return the number of dimensions that inputs must have for the kind of a part to hold; None is any number."""
    if part.kind == "linear":
        return 2
    for kinds in (CONVOLUTIONS, POOLS[:3], POOLS[3:6], POOLS[6:]):
        if type(part.module) in kinds and part.kind != "other":
            return 3 + kinds.index(type(part.module))
    return None


def _checked(module: nn.Module, parts: list[Part], inputs: Tensor) -> list[Part] | None:
    """Return the chain, checked on a batch; None if its outputs differ from the module's."""
    with seeding.forked(0, "compare", device=inputs.device), torch.no_grad():
        expected = module(inputs.clone())
    found, outputs = _run(parts, inputs)
    return found if torch.equal(outputs, expected) else None


def _run(parts: list[Part], inputs: Tensor) -> tuple[list[Part], Tensor]:
    """Return a chain whose kinds fit the shapes that a batch has on its way, and the outputs for the batch."""
    found: list[Part] = []
    with seeding.forked(0, "compare", device=inputs.device), torch.no_grad():
        outputs = inputs.clone()
        for part in parts:
            # The kind of a layer holds for (batch, units) or (batch, channels, ...), and not for other shapes.
            is_known = _dims_of(part) in (None, outputs.dim())
            part = part if is_known else attrs.evolve(part, kind="other")
            if part.kind == "other" and part.sizes and isinstance(part.module, fx.GraphModule):
                sizes = _Sizes(part.module, part.sizes)
                outputs = sizes.run(outputs)
                part = attrs.evolve(part, sizes=sizes.found)
            else:
                part = attrs.evolve(part, sizes={part.name: _size(outputs)} if part.kind == "convolution" else {})
                outputs = part.module(outputs)
            found.append(part)
    return found, outputs


class _Sizes(fx.Interpreter):
    """Computes a traced module, and notes the sizes of the inputs of some convolutions.

    Args:
        module: The module.
        names: Names of the convolutions, each of which is called once.

    Attributes:
        found: As `Part.sizes`.
    """

    def __init__(self, module: fx.GraphModule, names: Iterable[str]) -> None:
        super().__init__(module)
        self.found: dict[str, tuple[int, ...]] = dict.fromkeys(names, ())

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call a module."""
        if target in self.found:
            self.found[target] = _size(args[0])
        return super().call_module(target, args, kwargs)


def _size(images: Tensor) -> tuple[int, ...]:
    return tuple(images.shape[2:]) if images.is_contiguous() else ()
