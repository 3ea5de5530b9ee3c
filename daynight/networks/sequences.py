"""Plain sequences: networks of PyTorch's own modules, one after the other, of which all that they do is known."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from daynight import models

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: Modules that compute each unit or channel only from the same one of their inputs, without parameters and random
#: numbers.
UNITWISE = (
    nn.Identity, nn.GELU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.Softplus,
    nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
)  # fmt: skip
#: Modules that compute each channel only from the same channel, but read several of its places.
POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
#: Modules that call their parts one after the other, and the names of these parts if they are always the same.
SEQUENCES = {models.MLP: ("body", "head"), models.ConvNet: ("features", "classifier", "head"), nn.Sequential: None}
#: Modules that only read their parameters, keep nothing, and compute each example alone.
PLAIN = (*SEQUENCES, nn.Linear, nn.ReLU, nn.Dropout, nn.Flatten, *CONVOLUTIONS, *UNITWISE, *POOLS)

_module: Any = torch.nn.modules.module
#: Hooks of all modules, which may be registered at any time. PyTorch has no public way to see them.
_GLOBAL_HOOKS = (
    _module._global_forward_pre_hooks, _module._global_forward_hooks,
    _module._global_backward_pre_hooks, _module._global_backward_hooks,
)  # fmt: skip


def is_plain(module: nn.Module, *others: nn.Module) -> bool:
    """Return whether a module is a sequence of modules of PyTorch without hooks, of which all that they do is known.

    Args:
        module: The module.
        others: Modules that may become parts of the sequence.
    """
    parts = [part for whole in (module, *others) for part in whole.modules()]
    return (
        type(module) in SEQUENCES and not hooked(parts)
        and all(type(part) in PLAIN and "forward" not in vars(part) for part in parts)
        and all(part.start_dim >= 1 for part in parts if isinstance(part, nn.Flatten))
        and all(SEQUENCES.get(type(part)) in (None, tuple(name for name, _ in part.named_children())) for part in parts)
    )  # fmt: skip


def hooked(modules: Iterable[nn.Module]) -> frozenset[int]:
    """Return the `id` of each module that has hooks, and 0 if there are hooks of all modules."""
    return frozenset(id(part) for part in modules if has_hooks(part)) | ({0} if any(_GLOBAL_HOOKS) else set())


def hooks_of(modules: Iterable[nn.Module]) -> list[Mapping[int, Any]]:
    """Return where the hooks of modules, and those of all modules, are stored; hooks that come later, too."""
    return [*_GLOBAL_HOOKS, *itertools.chain.from_iterable(map(_stores, modules))]


def _stores(part: nn.Module) -> tuple[Mapping[int, Any], ...]:
    return part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks


def has_hooks(part: nn.Module) -> bool:
    """Return whether a module has hooks of its own."""
    return any(_stores(part))


def are_hooked_globally() -> bool:
    """Return whether there are hooks of all modules."""
    return any(_GLOBAL_HOOKS)


def leaves(module: nn.Module, others: Mapping[str, nn.Module] | None = None) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules that a plain sequence calls, in the order of the calls.

    Args:
        module: The sequence.
        others: By the name of a part, the module that takes its place; others stay.
    """
    inner: tuple[str, ...] = ()
    for name, part in module.named_modules(remove_duplicate=False):
        if others and name in others:
            yield from leaves(others[name])
            inner = (*inner, f"{name}.")
        elif type(part) not in SEQUENCES and not name.startswith(inner):
            yield name, part


def computing(
    module: nn.Module, tensors: Mapping[int, Tensor], others: Mapping[str, nn.Module]
) -> Callable[[Tensor], Tensor]:
    """Return a function that computes a plain sequence in evaluation mode, with other parameters and parts.

    The sequence itself is not changed meanwhile, not even its mode.

    Args:
        module: The sequence.
        tensors: By the `id` of a parameter, what takes its place; others stay.
        others: By the name of a part, the module that takes its place; others stay.
    """
    parts = []
    for _, leaf in leaves(module, others):
        parts.append(part := copy.copy(leaf))
        own = {name: None if p is None else tensors.get(id(p), p) for name, p in vars(leaf)["_parameters"].items()}
        vars(part).update(_parameters=own, training=False)

    def compute(inputs: Tensor) -> Tensor:
        for part in parts:
            inputs = part(inputs)
        return inputs

    return compute
