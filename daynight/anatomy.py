"""What each tensor of a module is to daynight: masked, a bias, private to a task, frozen, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from daynight.errors import NetworkError

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
        masked: Name of each masked layer, and of its weight.
        biases: Biases of masked layers: frozen after the first task, or private to each.
        private: Parameters of norm layers, and all buffers: private to each task.
        frozen: What excluded layers hold: trained with the first task and then frozen.
    """

    head: str
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
    """
    modules = dict(module.named_modules())
    head = _find_head(modules) if head is None else head
    if not head or head not in modules:
        linear = [name for name, part in modules.items() if name and isinstance(part, nn.Linear)]
        raise NetworkError(f"head={head!r} names no part of the network. Its linear layers are: {linear}.")
    is_excluded = _excluder(modules, exclude)
    masked: dict[str, str] = {}
    biases: list[str] = []
    private: list[str] = []
    frozen: list[str] = []
    seen = {id(parameter): "the head" for parameter in modules[head].parameters()}
    for name, part in modules.items():
        if _within(name, head):
            continue
        _refuse_untouchable(name, part)
        for short, parameter in part.named_parameters(prefix=name, recurse=False):
            if seen.get(id(parameter)) == "the head":
                raise NetworkError(
                    f"{short} is shared with the head {head!r}, which is private to each task. Name another "
                    "module with head=."
                )
            if id(parameter) in seen:
                continue
            seen[id(parameter)] = short
            excluded = is_excluded(name, part) or is_excluded(short, part) or not parameter.requires_grad
            if isinstance(part, NORMS):
                private.append(short)
            elif excluded:
                frozen.append(short)
            elif isinstance(part, MASKABLE) and parameter is part.weight:
                masked[name] = short
            elif isinstance(part, MASKABLE) and parameter is part.bias:
                biases.append(short)
            else:
                raise NetworkError(
                    f"{short} ({type(part).__name__}) is neither the weight of a linear or convolution layer "
                    f"nor a norm's, so it would change under finished tasks. Exclude it with "
                    f"exclude=[{short!r}]: it is then trained with the first task and frozen."
                )
        private.extend(short for short, _ in part.named_buffers(prefix=name, recurse=False))
    if not masked:
        raise NetworkError(
            f"there is nothing to mask: beside the head {head!r} the network has no linear or convolution "
            "layer that is not excluded. Give it a hidden layer, or name a smaller head with head=."
        )
    return Anatomy(head=head, masked=masked, biases=tuple(biases), private=tuple(private), frozen=tuple(frozen))


def fresh_head(head: nn.Module, n_outputs: int) -> nn.Module:
    """Make a new head like `head`, drawn anew from PyTorch's global generator, with `n_outputs` outputs.

    Raises:
        NetworkError: If the head is neither a linear nor a convolution layer.
    """
    bias = getattr(head, "bias", None) is not None
    if isinstance(head, nn.Linear):
        return nn.Linear(head.in_features, n_outputs, bias=bias)
    if isinstance(head, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        same = ("in_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        settings: dict[str, Any] = {name: getattr(head, name) for name in same}
        return type(head)(out_channels=n_outputs, bias=bias, **settings)
    raise NetworkError(
        f"a head of type {type(head).__name__} cannot be made anew for each task. Name a linear or "
        "convolution layer with head=, or give make_head=, a function of the number of outputs."
    )


def _find_head(modules: dict[str, nn.Module]) -> str:
    linear = [name for name, part in modules.items() if isinstance(part, nn.Linear)]
    if not linear:
        raise NetworkError("the network has no linear layer to be the head. Name the head with head=.")
    if not linear[-1]:
        raise NetworkError("the network is a single linear layer, its head, so there is nothing to mask.")
    return linear[-1]


def _excluder(modules: dict[str, nn.Module], exclude: Exclude) -> Callable[[str, nn.Module], bool]:
    if callable(exclude):
        return exclude
    names = [exclude] if isinstance(exclude, str) else list(exclude)
    known = {*modules, *(name for name, _ in modules[""].named_parameters())}
    unknown = [name for name in names if not name or name not in known]
    if unknown:
        raise NetworkError(f"exclude names {unknown}, which the network does not have.")
    return lambda name, part: any(_within(name, excluded) for excluded in names)


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
