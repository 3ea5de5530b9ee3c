"""A task's subnetwork as a plain module: in the shapes of the network, or without units that have no effect."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from daynight.errors import ExportError
from daynight.networks import sequences, tracing
from daynight.networks.copies import copied
from daynight.networks.liveness import flattened, is_layer, read_units
from daynight.networks.masked import MaskedNetwork
from daynight.networks.tracing import Part

#: Largest difference between outputs of a compact module and of the plain one, in units of the largest output (or 1).
TOLERANCE = 1e-6


def plain(network: MaskedNetwork, task: int) -> nn.Module:
    """Return a copy, in evaluation mode, of the module that computes the outputs of a task.

    Args:
        network: The network; no day may have begun.
        task: Index of a finished task.
    """
    with network.heads.lent(network.heads.alone(task)):
        module = copied(network.module)
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    heads = tuple(f"{alias}." for alias in network.anatomy.heads)
    with torch.no_grad():
        for name, tensor in network.seen_by(task).items():
            if not name.startswith(heads):
                # As predictions compute with it, whatever the memory format of the module is.
                own[name].data = tensor.clone()
    return module.eval().requires_grad_(False)


def compact(module: nn.Module, layers: Collection[str], inputs: Tensor) -> nn.Module:
    """Return a module without the units, channels and inputs that have no effect on its outputs.

    A unit whose inputs are all left out has the same value for every input. Its effect is added to the biases of the
    layers that read the unit. In a chain, linear and convolution layers and modules that compute unit by unit become
    smaller; all other parts do not change.

    Args:
        module: The module, in evaluation mode and without gradients. It must not be used afterwards.
        layers: Names of the module's linear and convolution layers.
        inputs: Some inputs (batch, ...), as the module reads them.

    Returns:
        A module with the same outputs up to rounding.

    Raises:
        ExportError: If the outputs for `inputs` differ by more than rounding.
    """
    device = inputs.device
    module, inputs = module.cpu(), inputs.cpu()
    parts = tracing.chain(module, layers, inputs)
    if parts is None:
        return module.to(device)
    found = nn.Sequential(*_Compaction(parts, inputs).parts).eval().requires_grad_(False)
    check_equal("the compact form", found(inputs), module(inputs), TOLERANCE)
    return found.to(device)


def check_equal(what: str, outputs: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise ExportError unless `outputs` are close to `expected`.

    Args:
        what: Name of the source of the outputs, for the error.
        outputs: (batch, n_outputs).
        expected: (batch, n_outputs).
        tolerance: Largest difference, in units of the largest expected output, or of 1 if that is less.

    Raises:
        ExportError: If the difference is larger, or the shapes differ.
    """
    if outputs.shape != expected.shape:
        raise ExportError(f"{what} has outputs of the shape {tuple(outputs.shape)}, not {tuple(expected.shape)}.")
    error = float((outputs - expected).detach().abs().max())
    allowed = tolerance * max(1.0, float(expected.abs().max()))
    if not error <= allowed:
        raise ExportError(
            f"the outputs of {what} differ from the agent's by up to {error:.2g}, more than {allowed:.2g}."
        )


class Pick(nn.Module):
    """Selects some units, or channels, of its inputs.

    Args:
        index: Indices of the selected units, int64.
    """

    index: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, units, ...) to the selected units (batch, n, ...)."""
        return torch.index_select(inputs, 1, self.index)


class _Compaction:
    """Makes a chain smaller: a backward pass finds the units that are read, and a forward pass those that are constant.

    Args:
        parts: The chain.
        inputs: Some inputs (batch, ...), used to count the units between the parts.

    Attributes:
        parts: The modules of the smaller chain.
    """

    def __init__(self, parts: Sequence[Part], inputs: Tensor) -> None:
        self._chain, self.parts = parts, list[nn.Module]()
        sizes = [inputs.shape[1]]
        for part in parts:
            inputs = part.module(inputs)
            sizes.append(inputs.shape[1])
        n_places = [after // before for before, after in itertools.pairwise(sizes)]
        weights: dict[str, Any] = {part.name: part.module.weight for part in parts if is_layer(part)}
        self._read = [
            torch.ones(size, dtype=torch.bool) if read is None else read
            for size, read in zip(sizes, read_units(parts, weights, n_places), strict=True)
        ]
        given, constant = torch.arange(sizes[0]), torch.zeros(sizes[0])
        for index, part in enumerate(parts):
            if is_layer(part):
                given, constant = self._layer(index, part.module, given, constant)
            elif part.kind == "flatten":
                given = flattened(given, n_places[index])
                constant = constant.repeat_interleave(n_places[index])
                self.parts.append(nn.Flatten())
            elif part.kind == "other":
                given, constant = torch.arange(sizes[index + 1]), torch.zeros(sizes[index + 1])
                self.parts.append(part.module)
            else:
                constant = _passed(part, constant)
                if part.kind != "dropout":
                    self.parts.append(nn.ReLU() if part.kind == "relu" else part.module)

    def _layer(self, index: int, layer: Any, given: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
        """Add a smaller form of a layer.

        Args:
            index: The layer's place in the chain.
            layer: A linear layer or a convolution.
            given: Indices of the units before the layer that are kept, int64.
            constant: (units before the layer,), the constant values of the units that are not kept.

        Returns:
            `given` and `constant` for the units after the layer.
        """
        weight = layer.weight
        places = weight.flatten(2) if weight.dim() > 2 else weight[:, :, None]  # (outputs, inputs, places of a kernel)
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
        is_absent = torch.ones(weight.shape[1], dtype=torch.bool)
        is_absent[given] = False
        bias = bias + places[:, is_absent].sum(2) @ constant[is_absent].to(weight)
        reads = places[:, given].any(2)
        is_constant = ~reads.any(1) & self._folds(index, bias)
        kept = torch.nonzero(self._read[index + 1] & ~is_constant)[:, 0]
        kept = torch.arange(1) if not len(kept) else kept
        used = torch.nonzero(reads[kept].any(0))[:, 0]
        used = torch.arange(1) if not len(used) else used
        if len(used) < len(given):
            self.parts.append(Pick(used))
        self.parts.append(_smaller(layer, weight[kept][:, given[used]], bias[kept]))
        return kept, torch.where(self._read[index + 1], bias, 0)

    def _folds(self, index: int, values: Tensor) -> Tensor:
        """Return which units after a layer can be left out if they always have the given values: bool (units,).

        A padded convolution reads zeros beyond the border. So a unit that it reads can be left out only if its value is
        zero.
        """
        only_zero = False
        for part in self._chain[index + 1 :]:
            if part.kind == "other":
                break
            only_zero |= bool(_padding(part.module))
            if is_layer(part):
                return (values == 0) if only_zero else torch.ones_like(values, dtype=torch.bool)
            if part.kind == "flatten":
                continue
            values = _passed(part, values)
        return torch.zeros_like(values, dtype=torch.bool)


def _passed(part: Part, values: Tensor) -> Tensor:
    """Return the outputs of a part for units that always have the given values; a pool does not change the values."""
    if part.kind == "relu":
        return values.relu()
    return part.module(values) if type(part.module) in sequences.UNITWISE else values


def _padding(module: nn.Module) -> Any:
    """Return the padding of a module, 0 or False if there is none."""
    padding = getattr(module, "padding", 0)
    if isinstance(padding, str):
        return padding != "valid"
    return any(padding) if isinstance(padding, tuple) else padding


def _smaller(layer: Any, weight: Tensor, bias: Tensor) -> nn.Module:
    """Return a layer like `layer`, with weights `weight` (outputs, inputs, ...) and biases `bias` (outputs,)."""
    n_outputs, n_inputs = weight.shape[:2]
    if isinstance(layer, nn.Linear):
        made: Any = nn.Linear(n_inputs, n_outputs, dtype=weight.dtype)
    else:
        same = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        made = type(layer)(n_inputs, n_outputs, **same, dtype=weight.dtype)
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(bias)
    return made  # type: ignore[no-any-return]
