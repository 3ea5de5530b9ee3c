"""Trials of a network on copies: whether it writes to its own weights, or keeps values computed from them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from daynight.errors import NetworkError
from daynight.networks.copies import PARTS, copied, kept_tensors
from daynight.networks.masked import MaskedNetwork
from daynight.support import seeding

#: Outputs that differ by more than this, in units of the largest one, were computed from other values.
_TOLERANCE = 1e-4
#: The trials change parameters by this many times their size: a little, and so much that limits take effect.
_LITTLE, _MUCH = 0.1, 100.0


def check_writes(network: MaskedNetwork, inputs: Tensor, n_outputs: int) -> None:
    """Raise NetworkError if a network writes to weights that finished tasks own, as it runs or changes its mode.

    Draws from PyTorch's global generator.

    Args:
        network: The network. It is not changed.
        inputs: (batch, ...), as the network reads them.
        n_outputs: Number of outputs of the head.
    """
    names = {*network.anatomy.masked.values(), *network.anatomy.frozen}
    names |= set(network.anatomy.biases if network.biases != "per-task" else ())
    written = dict[str, str]()
    for factor in (0.0, _MUCH):
        module = _twin(network, n_outputs)
        if factor:
            _shift(module, factor)
        for name, when in _written(module, inputs):
            written.setdefault(name, when)
    if found := [f"{name} (when it {written[name]})" for name in written if name in names]:
        private = [name for name in written if name in names]
        raise NetworkError(
            f"the network itself writes to {', '.join(found)}, which would change finished tasks. Let forward compute "
            "with a changed copy, such as self.weight.clamp(-1, 1), and not store it; or give each task its own copy "
            f"with private={private!r}."
        )


def check_caches(network: MaskedNetwork, inputs: Tensor, n_outputs: int) -> None:
    """Raise NetworkError if a network computes with values that it has kept from other parameters.

    Before each prediction, a network is put into training mode and then into evaluation mode, at which modules that
    keep values usually drop them. Draws from PyTorch's global generator.

    Args:
        network: The network. It is not changed.
        inputs: (batch, ...), as the network reads them.
        n_outputs: Number of outputs of the head.
    """
    fresh = _twin(network, n_outputs)
    used, first = copied(fresh), _values(fresh)
    _shift(fresh, _LITTLE)
    second = _values(fresh)
    try:
        _run(used.train(), first, inputs)
        _run(used.train().eval(), first, inputs)
        found = _traced(used.train().eval(), second, inputs)
    except Exception:  # some parameters are valid only within limits
        return
    for other in _emptied(fresh):
        try:
            _run(other.train(), second, inputs)
            expected = _traced(other.train().eval(), second, inputs)
        except Exception:  # what was taken away is needed
            continue
        if other is not fresh and not any(kept_tensors(part) for part in other.modules()):
            continue  # the module has not made again what was taken away
        for name, outputs in expected.items():
            if _differ(found.get(name, []), outputs):
                part = type(fresh.get_submodule(name)).__name__
                raise NetworkError(
                    f"{name or 'the network'} ({part}) keeps a value that it has computed from parameters, and does "
                    "not compute it again when they change, so that one task would get the values of another. Let it "
                    "drop the value in train(True), or compute it in each forward."
                )


def _twin(network: MaskedNetwork, n_outputs: int) -> nn.Module:
    """Return a copy of a network's module, in evaluation mode, with a new head."""
    with network.heads.lent(network.heads.new(n_outputs)):
        return copied(network.module)


def _shift(module: nn.Module, factor: float) -> None:
    """Add numbers from -`factor` to `factor` times their size to the parameters of a module."""
    with torch.no_grad():
        for parameter in module.parameters():
            size = max(float(parameter.float().norm()) / max(1, parameter.numel()) ** 0.5, _LITTLE)
            shift = torch.linspace(-1, 1, parameter.numel(), dtype=parameter.dtype, device=parameter.device)
            parameter.add_(shift.view_as(parameter), alpha=factor * size)


def _written(module: nn.Module, inputs: Tensor) -> Iterator[tuple[str, str]]:
    """Run a module in both modes, and yield the names of the parameters that it writes to, each with the occasion."""
    before = dict(module.named_parameters())
    values = {name: parameter.detach().clone() for name, parameter in before.items()}

    def changed(when: str) -> Iterator[tuple[str, str]]:
        now = dict(module.named_parameters())
        for name, value in values.items():
            if now.get(name) is not before[name] or not torch.equal(before[name], value):
                yield name, when

    for mode in (True, False):
        module.train(mode)
        yield from changed("changes its mode")
        # Some parameters are valid only within limits. If the module fails, what it has written until then counts.
        with contextlib.suppress(Exception), torch.set_grad_enabled(mode):
            module(inputs.clone())
        yield from changed("runs")


def _values(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def _run(module: nn.Module, parameters: dict[str, Tensor], inputs: Tensor) -> Any:
    """Run a module with other parameters and with copies of its buffers, as a prediction does."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.no_grad():
        return functional_call(module, buffers | parameters, (inputs.clone(),))


def _traced(module: nn.Module, parameters: dict[str, Tensor], inputs: Tensor) -> dict[str, list[Tensor]]:
    """Run a module, and return the outputs of its parts by name, in the order in which the parts have finished."""
    found = dict[str, list[Tensor]]()

    def hook(name: str) -> Callable[..., None]:
        return lambda part, args, outputs: found.setdefault(name, []).extend(_comparable(outputs))

    handles = [part.register_forward_hook(hook(name)) for name, part in module.named_modules()]
    try:
        with seeding.forked(0, "caches", device=inputs.device):
            _run(module, parameters, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _comparable(outputs: Any) -> list[Tensor]:
    """Return copies of the tensors among the outputs of a part, as plain tensors of floating-point numbers.

    Those of other numbers, and those that cannot be read as plain tensors, are left out.
    """
    items = outputs if isinstance(outputs, list | tuple) else [outputs]
    found = list[Tensor]()
    for item in items:
        # There are many kinds of tensors, and what one cannot do must not be taken for a fault of the network.
        with contextlib.suppress(Exception):
            if isinstance(item, Tensor):
                found += [plain.clone() for plain in _plain(item.detach()) if plain.is_floating_point()]
    return found


def _plain(tensor: Tensor) -> list[Tensor]:
    """Return the numbers of a tensor that may be nested, sparse, quantized or complex, as plain tensors."""
    if tensor.is_nested:
        return [plain for part in tensor.unbind() for plain in _plain(part)]
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return [torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor]


def _differ(found: list[Tensor], expected: list[Tensor]) -> bool:
    for one, other in zip(found, expected, strict=False):
        if one.shape != other.shape:
            return True
        one, other = one.double().nan_to_num(), other.double().nan_to_num()
        if one.numel() and float((one - other).abs().max()) > _TOLERANCE * float(other.abs().max()):
            return True
    return len(found) != len(expected)


def _emptied(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module, and copies of it without the tensors that its parts keep, in the ways that modules expect."""
    yield module
    if not any(kept_tensors(part) for part in module.modules()):
        return
    for is_left in (True, False):
        other = copied(module)
        for part in other.modules():
            own = [item for name, item in vars(part).items() if isinstance(item, dict) and name not in PARTS]
            for kept in (vars(part), *own):
                for name in [name for name, item in kept.items() if isinstance(item, Tensor)]:
                    if is_left:
                        kept[name] = None
                    else:
                        del kept[name]
        yield other
