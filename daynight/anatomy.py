"""What each tensor of a module is to daynight: masked, a bias, private to a task, frozen, or refused."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from daynight.errors import NetworkError, SettingError

MASKABLE = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

#: Names of modules (each with all that is in it) or of single parameters, or a function of (name, module).
Exclude = Iterable[str] | Callable[[str, nn.Module], bool]


@attrs.frozen(kw_only=True)
class Anatomy:
    """What the tensors of a module are, by their names within it.

    Attributes:
        head: Name of the module that is replaced per task.
        heads: All names under which that module is registered.
        masked: Name of each masked layer, and of its weight.
        biases: Biases of masked layers: frozen after the first task, or private to each.
        private: Parameters of norm layers, and all buffers: private to each task.
        frozen: What excluded layers hold: trained with the first task and then frozen.
    """

    head: str
    heads: tuple[str, ...]
    masked: dict[str, str]
    biases: tuple[str, ...]
    private: tuple[str, ...]
    frozen: tuple[str, ...]


def dissect(module: nn.Module, head: str | None = None, exclude: Exclude = ()) -> Anatomy:
    """Find out what each tensor of `module` is.

    Args:
        module: Any module; it is only looked at.
        head: Name of the module that is replaced per task; None finds the last linear layer, in the
            order in which the module registers its parts.
        exclude: Layers whose weights are not masked.

    Raises:
        NetworkError: If the head cannot be found, nothing is left to mask, or the module holds
            something that would move unseen.
        SettingError: If `exclude` is of another form.
    """
    modules = dict(module.named_modules(remove_duplicate=False))
    head = _find_head(dict(module.named_modules())) if head is None else head
    if not isinstance(head, str) or not head or head not in modules:
        linear = [name for name, part in modules.items() if name and isinstance(part, nn.Linear)]
        raise NetworkError(f"head={head!r} names no part of the network. Its linear layers are: {linear}.")
    of_head = {id(tensor) for _, tensor in tensors("", modules[head], recurse=True)}
    heads = tuple(name for name, part in modules.items() if part is modules[head])
    outside = [item for item in modules.items() if not any(_within(item[0], name) for name in heads)]
    is_excluded = _excluder(module, exclude)
    # A tensor that several layers share is excluded with any of them.
    excluded = {
        id(tensor)
        for name, part in outside
        for short, tensor in tensors(name, part)
        if is_excluded(name, part) or is_excluded(short, part)
    }
    masked: dict[str, str] = {}
    biases: list[str] = []
    private: list[str] = []
    frozen: list[str] = []
    seen = set[int]()
    for name, part in outside:
        _refuse_untouchable(name, part)
        for short, tensor in tensors(name, part):
            if id(tensor) in of_head:
                raise NetworkError(
                    f"{short} is shared with the head {head!r}, which is private to each task. Name another "
                    "module with head=."
                )
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            if isinstance(part, NORMS) or not isinstance(tensor, nn.Parameter):
                private.append(short)
            elif id(tensor) in excluded or not tensor.requires_grad:
                frozen.append(short)
            elif isinstance(part, MASKABLE) and tensor is part.weight:
                masked[name] = short
            elif isinstance(part, MASKABLE) and tensor is part.bias:
                biases.append(short)
            else:
                raise NetworkError(
                    f"{short} ({type(part).__name__}) is neither the weight of a linear or convolution layer "
                    f"nor a norm's, so it would change under finished tasks. Exclude it with "
                    f"exclude=[{short!r}]: it is then trained with the first task and frozen."
                )
    if not masked:
        raise NetworkError(
            f"there is nothing to mask: beside the head {head!r} the network has no linear or convolution "
            "layer that is not excluded. Give it a hidden layer, or name a smaller head with head=."
        )
    return Anatomy(
        head=heads[0], heads=heads, masked=masked, biases=tuple(biases), private=tuple(private), frozen=tuple(frozen)
    )


def _find_head(modules: dict[str, nn.Module]) -> str:
    linear = [name for name, part in modules.items() if isinstance(part, nn.Linear)]
    if not linear:
        raise NetworkError("the network has no linear layer to be the head. Name the head with head=.")
    if not linear[-1]:
        raise NetworkError("the network is a single linear layer, its head, so there is nothing to mask.")
    return linear[-1]


def tensors(name: str, part: nn.Module, recurse: bool = False) -> list[tuple[str, Tensor]]:
    """Give the parameters and buffers of a part, and their names within the network."""
    return [*part.named_parameters(name, recurse), *part.named_buffers(name, recurse)]


def _excluder(module: nn.Module, exclude: Exclude) -> Callable[[str, nn.Module], bool]:
    if callable(exclude) and not isinstance(exclude, type | nn.Module):
        return functools.partial(_ask, exclude)
    given: Any = [exclude] if isinstance(exclude, str) or not isinstance(exclude, Iterable) else exclude
    names = list(given)
    if not all(isinstance(name, str) for name in names):
        raise SettingError(
            "exclude must be names of modules or parameters, such as ['0'], or a function of (name, module), such as "
            f"lambda name, part: isinstance(part, nn.Conv2d), not {exclude!r}."
        )
    known = {name for name, _ in module.named_modules(remove_duplicate=False)}
    known |= {name for name, _ in module.named_parameters(remove_duplicate=False)}
    unknown = [name for name in names if not name or name not in known]
    if unknown:
        raise NetworkError(f"exclude names {unknown}, which the network does not have.")
    return lambda name, part: any(_within(name, excluded) for excluded in names)


def _ask(exclude: Callable[[str, nn.Module], bool], name: str, part: nn.Module) -> bool:
    try:
        return bool(exclude(name, part))
    except TypeError as error:
        raise SettingError(
            f"exclude must be a function of (name, module), and this one fails for {name!r}: {error}. Give it two "
            "arguments, or give names of modules."
        ) from error


def _within(name: str, parent: str) -> bool:
    return name == parent or name.startswith(parent + ".")


def _refuse_untouchable(name: str, part: nn.Module) -> None:
    where = f"{name or 'the network'} ({type(part).__name__})"
    if any(is_lazy(tensor) for tensor in part.parameters(recurse=False)):
        raise NetworkError(f"{where} is lazy: run the network once on an example before you wrap it.")
    if is_parametrized(part):
        raise NetworkError(
            f"{where} computes its weight from others (a parametrization), so single weights cannot be "
            "masked. Remove the parametrization first."
        )
    if isinstance(part, _BatchNorm) and part.running_mean is None:
        raise NetworkError(
            f"{where} keeps no running statistics, so a prediction would depend on the others of its batch. "
            "Build it with track_running_stats=True."
        )
