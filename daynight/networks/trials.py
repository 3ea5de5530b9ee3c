"""Trials of a network on copies, before it is trained: whether all that its outputs depend on is kept per task.

A network must not write to its own weights, keep values that it has computed from them, or change other attributes
that its outputs depend on. Its head must take part in the outputs, and those for an example must not depend on others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from daynight.errors import NetworkError, SettingError
from daynight.networks import sequences
from daynight.networks.copies import PARTS, copied, kept_tensors
from daynight.networks.masked import MaskedNetwork
from daynight.support import checks, interrupts, seeding

#: Outputs that differ by more than this, in units of the largest one, were computed from other values.
_TOLERANCE = 1e-4
#: The trials change parameters by this many times their size: a little, and so much that limits take effect.
_LITTLE, _MUCH = 0.1, 100.0
#: Number of passes in training mode after which attributes are compared, and how many times further counters then go.
_PASSES, _FURTHER = 3, 10_000
#: Attributes that each module has, whatever it is.
_USUAL = frozenset(vars(nn.Module()))


@interrupts.deferred()
def check_weights(network: MaskedNetwork, inputs: Tensor, n_outputs: int) -> None:
    """Raise NetworkError if a network writes to weights of finished tasks, or keeps values computed from its weights.

    Draws from PyTorch's global generator.

    Args:
        network: The network. It is not changed.
        inputs: (batch, ...), as the network reads them.
        n_outputs: Number of outputs of the head.
    """
    if not _is_plain(network, n_outputs):
        if network.freezes:
            check_writes(network, inputs, n_outputs)
        check_caches(network, inputs, n_outputs)


@interrupts.deferred()
def check_outputs(
    network: MaskedNetwork,
    inputs: Tensor,
    given: Tensor,
    n_outputs: int,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Raise an error if a network's outputs depend on what is not kept per task: see the functions below.

    Draws from PyTorch's global generator.

    Args:
        network: The network. It is not changed.
        inputs: (batch, ...), as the network reads them.
        given: (batch, ...), the inputs before `transform`.
        n_outputs: Number of outputs of the head.
        transform: Applied to inputs before the network; None is no transform.

    Raises:
        NetworkError: If the outputs depend on attributes or on other examples, or not on the head.
        SettingError: If what `transform` makes of an example depends on other examples, or is random.
    """
    is_known = _is_plain(network, n_outputs)
    if not is_known:
        check_head(network, inputs, n_outputs)
        check_attributes(network, inputs, n_outputs)
    if not is_known or transform is not None:
        check_rows(network, given, n_outputs, transform)


def _is_plain(network: MaskedNetwork, n_outputs: int) -> bool:
    """Return whether a network is a sequence of modules that are known to pass all trials, which take time."""
    return sequences.is_plain(network.module, network.heads.new(n_outputs))


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
    unused, second = copied(fresh), _values(fresh)
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
                keeper = _keeper(used, unused, second, inputs, expected)
                if keeper is None:  # no attribute of one part
                    check_attributes(network, inputs, n_outputs)
                else:
                    name = keeper
                part = type(fresh.get_submodule(name)).__name__
                raise NetworkError(
                    f"{name or 'the network'} ({part}) keeps a value that it has computed from parameters, and does "
                    "not compute it again when they change, so that one task would get the values of another. Let it "
                    "drop the value in train(True), or compute it in each forward."
                )


def _keeper(
    used: nn.Module, unused: nn.Module, parameters: dict[str, Tensor], inputs: Tensor,
    expected: dict[str, list[Tensor]],
) -> str | None:  # fmt: skip
    """Return the name of the part that keeps what makes a module's outputs differ; None if that is not one part."""
    name: str
    for name, part in unused.named_modules():
        if not kept_tensors(used.get_submodule(name)):
            continue
        other = copied(used)
        for key in _changed(other.get_submodule(name), part):
            setattr(other.get_submodule(name), key, getattr(part, key, None))
        with contextlib.suppress(Exception):  # what was taken away is needed
            _run(other.train(), parameters, inputs)
            found = _traced(other.train().eval(), parameters, inputs)
            if not any(_differ(found.get(key, []), outputs) for key, outputs in expected.items()):
                return name
    return None


def check_attributes(network: MaskedNetwork, inputs: Tensor, n_outputs: int) -> None:
    """Raise NetworkError if passes in training mode change an attribute on which outputs in evaluation mode depend.

    Draws from PyTorch's global generator.

    Args:
        network: The network. It is not changed.
        inputs: (batch, ...), as the network reads them.
        n_outputs: Number of outputs of the head.
    """
    fresh = _twin(network, n_outputs)
    used, tensors = copied(fresh), _values(fresh) | {name: kept.clone() for name, kept in fresh.named_buffers()}

    def outputs(module: nn.Module) -> list[Tensor]:
        with seeding.forked(0, "attributes", device=inputs.device):
            return _comparable(_run(module.train().eval(), tensors, inputs))

    def depend(module: nn.Module) -> bool:
        return _differ(outputs(module), expected, _rounding(expected, 1e-5))

    try:
        expected = outputs(used)
        for _ in range(_PASSES):
            with torch.enable_grad():
                used.train()(inputs.clone())
        _check_emptied(fresh, used)
        is_found = depend(used)
    except NetworkError:
        raise
    except Exception:  # what fails is reported by the tries that follow
        return
    if not is_found:
        with contextlib.suppress(Exception):  # a counter may be an index
            is_found = _advance(fresh, used) and depend(used)
    if not is_found:
        return
    names = list[str]()
    for where, part in fresh.named_modules():
        for key in _changed(used.get_submodule(where), part):
            with contextlib.suppress(Exception):
                other = copied(fresh)
                setattr(other.get_submodule(where), key, getattr(used.get_submodule(where), key))
                names += [f"{where}.{key}" if where else key] if depend(other) else []
    if not names:
        raise NetworkError(
            "passes in training mode change something other than parameters and buffers on which outputs in evaluation "
            "mode depend, so that each day would change what finished tasks predict. Keep it in a buffer of the "
            "network, which is private to each task."
        )
    short = names[0].rpartition(".")[2]
    raise NetworkError(
        f"passes in training mode change {', '.join(names)}, on which outputs in evaluation mode depend, so that each "
        "day would change what finished tasks predict. Make it a buffer, which is private to each task: "
        f"self.register_buffer({short!r}, torch.tensor(...)) in the module that has it."
    )


def _check_emptied(fresh: nn.Module, used: nn.Module) -> None:
    """Raise NetworkError if a pass has set a buffer to None."""
    left = {name for name, _ in used.named_buffers(remove_duplicate=False)}
    if gone := [name for name, _ in fresh.named_buffers(remove_duplicate=False) if name not in left]:
        raise NetworkError(
            f"a pass in training mode sets the buffer {gone[0]} to None, and a task needs a tensor to keep. Set it to "
            "an empty tensor, such as torch.zeros(0)."
        )


def check_head(network: MaskedNetwork, inputs: Tensor, n_outputs: int) -> None:
    """Raise NetworkError if the head takes no part in the outputs. Draws from PyTorch's global generator.

    Args:
        network: The network. It is not changed.
        inputs: (batch, ...), as the network reads them.
        n_outputs: Number of outputs of the head.
    """
    module = _twin(network, n_outputs)
    _shift(module, _LITTLE)
    head = module.get_submodule(network.anatomy.head)
    own = [parameter for parameter in head.parameters() if parameter.requires_grad]
    try:
        with torch.enable_grad():
            outputs = module(inputs.clone())
            found = torch.autograd.grad(outputs.sum(), own, allow_unused=True) if outputs.requires_grad and own else ()
        if not own or any(gradient is not None for gradient in found):
            return
        # Without a gradient, as in a forward under no_grad, the numbers of the head may still be read.
        before = _comparable(_run(module, _values(module), inputs))
        _shift(head, 1.0)
        after = _comparable(_run(module, _values(module), inputs))
    except Exception:  # what fails is reported by the tries that follow
        return
    if all(map(torch.equal, before, after)):
        others = [
            name for name, part in network.module.named_modules()
            if isinstance(part, nn.Linear) and name not in network.anatomy.heads
        ]  # fmt: skip
        raise NetworkError(
            f"the head {network.anatomy.head!r} takes no part in the outputs of the network, and each task needs a "
            f"head of its own that makes them. Name that layer with head=. Other linear layers are: {others}."
        )


def check_rows(
    network: MaskedNetwork, inputs: Tensor, n_outputs: int, transform: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Raise an error if outputs for an example depend on the other examples of its batch, in evaluation mode.

    Draws from PyTorch's global generator.

    Args:
        network: The network. It is not changed.
        inputs: (batch, ...), as `transform` or, without one, the network reads them.
        n_outputs: Number of outputs of the head.
        transform: Applied to inputs before the network; None is no transform.

    Raises:
        NetworkError: If the outputs depend on other examples.
        SettingError: If they do because of `transform`, or it is random.
    """
    module = _twin(network, n_outputs)
    # In single precision, what other examples do can be told from rounding, also if a network's own type is shorter.
    for dtype in (torch.promote_types(network.dtype, torch.float32), network.dtype):
        given = inputs.to(dtype) if inputs.is_floating_point() else inputs
        with contextlib.suppress(Exception):  # what fails is reported by other tries
            mixing = _mixing(copied(module).to(dtype), given, transform)
            break
    else:
        return
    if mixing == "random":
        raise SettingError(
            "Training: transform gives other values for equal inputs, so that no prediction could be kept. Draw random "
            "numbers in augment=, which changes inputs in training only."
        )
    if mixing == "transform":
        raise SettingError(
            "Training: what transform makes of an example depends on the other examples of its batch, and so would its "
            "prediction. Compute it from the example alone, or with fixed numbers, such as the mean of all training "
            "inputs."
        )
    if mixing == "network":
        raise NetworkError(
            "in evaluation mode, the network's outputs for an example depend on the other examples of its batch, and "
            "so would its prediction. Let forward compute with each example alone, such as softmax(dim=1) and not "
            "dim=0; or with statistics that training keeps in a buffer, as batch normalisation does."
        )


def _mixing(
    module: nn.Module, inputs: Tensor, transform: Callable[[Tensor], Tensor] | None
) -> Literal["random", "transform", "network"] | None:
    """Return by what the outputs for an example depend on the other examples of its batch; None if they do not."""
    batches = list(_mixed(inputs))
    given = [batch.clone() if transform is None else transform(batch.clone()) for batch, _ in batches]
    if transform is not None and _differ([transform(inputs.clone())], given[:1], _rounding(given[:1], _TOLERANCE)):
        return "random"
    usual, found = _values(module), list[Tensor]()
    _shift(module, _LITTLE)  # layers that are zero at first would hide what other examples do
    with contextlib.suppress(Exception):  # some parameters are valid only within limits
        found = [_run(module, _values(module), batch) for batch in given]
    if not found or not checks.all_finite(found[0]):
        found = [_run(module.train().eval(), usual, batch) for batch in given]
    if not _mixes(batches, found):
        return None
    is_changed = len({batch.shape for batch in given}) > 1 or _mixes(batches, given)
    return "transform" if transform is not None and is_changed else "network"


def _mixed(inputs: Tensor) -> Iterator[tuple[Tensor, dict[int, int]]]:
    """Yield the inputs, and other batches of them, each with the places, by index, of some inputs in it."""
    last = len(inputs) - 1
    yield inputs, {}
    yield inputs.flip(0), {index: last - index for index in range(len(inputs))}
    sizes = inputs.double().reshape(len(inputs), -1).sum(1).nan_to_num()
    for index in (0, last):
        for other in (sizes.argmin(), sizes.argmax()):
            batch = inputs[other].expand_as(inputs).clone()
            batch[index] = inputs[index]
            yield batch, {index: index}


def _mixes(batches: list[tuple[Tensor, dict[int, int]]], results: list[Tensor]) -> bool:
    """Return whether what was computed of an example differs with the batch that it was in."""
    whole, limit = results[0], _rounding(results[:1], 1e-3)
    if any(result.shape != whole.shape for result in results):
        return False
    return any(
        _differ([result[place]], [whole[index]], limit, whole)
        for (_, places), result in zip(batches, results, strict=True) for index, place in places.items()
    )  # fmt: skip


def _rounding(values: list[Tensor], least: float) -> float:
    """Return by how much numbers may differ because of rounding, at least `least`, in units of the largest one."""
    return max([least, *(16 * torch.finfo(value.dtype).eps for value in values if value.is_floating_point())])


def _advance(fresh: nn.Module, used: nn.Module) -> bool:
    """Let counters of a module go on as they would in many passes. Return whether there are any."""
    found = False
    for where, part in fresh.named_modules():
        now = vars(used.get_submodule(where))
        for key in _changed(used.get_submodule(where), part):
            before, after = vars(part).get(key), now.get(key)
            if type(before) is int and type(after) is int:
                now[key], found = before + _FURTHER * (after - before), True
    return found


def _changed(used: nn.Module, fresh: nn.Module) -> list[str]:
    """Return the names of the attributes, and of buffers that were None, that differ between a module and its copy."""
    own = {name: buffer for name, buffer in fresh._buffers.items() if buffer is None}
    before = {name: value for name, value in vars(fresh).items() if name not in _USUAL} | own
    after = {name: value for name, value in vars(used).items() if name not in _USUAL}
    after |= {name: used._buffers[name] for name in own if name in used._buffers}
    return [name for name, value in after.items() if name not in before or not _is_same(value, before[name])]


def _is_same(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # values of which only parts can be compared
        return False


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


def _differ(
    found: list[Tensor], expected: list[Tensor], tolerance: float = _TOLERANCE, scale: Tensor | None = None
) -> bool:
    """Return whether numbers differ by more than `tolerance`, in units of the largest one, or of that of `scale`."""
    for one, other in zip(found, expected, strict=False):
        if one.shape != other.shape:
            return True
        one, other = one.double().nan_to_num(), other.double().nan_to_num()
        largest = other if scale is None else scale.double().nan_to_num()
        if one.numel() and float((one - other).abs().max()) > tolerance * float(largest.abs().max()):
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
