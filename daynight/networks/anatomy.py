"""What each tensor of a module is: a masked weight, a bias, private to a task, frozen, or not allowed."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, cast, get_args

import attrs
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from daynight.errors import NetworkError, SettingError
from daynight.networks.copies import copied
from daynight.support import checks, seeding

#: Modules whose own parameters are masked if "weight" is in their name, and are biases otherwise.
MASKABLE = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase,
)  # fmt: skip
#: Names of the parameters that these modules define; those of all others are "weight" and "bias".
_DEFINED = (
    (nn.MultiheadAttention, r"in_proj_(weight|bias)|[qkv]_proj_weight|bias_[kv]"),
    (nn.RNNBase, r"(weight|bias)_(ih|hh|hr)_l\d+(_reverse)?"), (nn.RNNCellBase, r"(weight|bias)_(ih|hh)"),
    (nn.Module, r"weight|bias"),
)  # fmt: skip
NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)

Kind = Literal["masked", "bias", "private", "frozen"]
#: Names of modules (each includes the modules within it) or of single parameters, or a function of (name, module).
Exclude = Iterable[str] | Callable[[str, nn.Module], bool]


class Stored(tuple[str, ...]):
    """The names of masked weights in a file, given as `mask`.

    A file names what a subclass of a known layer has beyond that layer. Older files do not: for them, such parameters
    count as those of the layer itself.
    """


@attrs.frozen(kw_only=True)
class Anatomy:
    """The kinds of a module's tensors, by their names within it.

    Attributes:
        head: Name of the module that is replaced per task.
        heads: All names under which that module is registered.
        masked: By name of each masked layer, the name of its weight.
        biases: Other parameters of masked layers: frozen after the first task, or private to each.
        private: Parameters of norm layers, vectors of unknown modules and those that a subclass adds to a layer, and
            all buffers: private to each task.
        frozen: Parameters of excluded layers: trained with the first task and then frozen.
        chosen: Masked weights that are masked because the user has named them.
    """

    head: str
    heads: tuple[str, ...]
    masked: dict[str, str]
    biases: tuple[str, ...]
    private: tuple[str, ...]
    frozen: tuple[str, ...]
    chosen: tuple[str, ...]


def dissect(
    module: nn.Module, head: str | None = None, exclude: Exclude = (), private: Exclude = (), mask: Exclude = ()
) -> Anatomy:
    """Return the kind of each tensor of `module`.

    Args:
        module: Any module. It is not changed.
        head: Name of the module that is replaced per task; None finds the last linear layer, in the
            order in which the module registers its parts.
        exclude: Layers whose weights are not masked.
        private: Modules or parameters of which each task has its own copy.
        mask: Modules whose parameters of two or more dimensions are masked, or such parameters, besides those of the
            layers that are known.

    Raises:
        NetworkError: If the head cannot be found, there are no weights to mask, or the module has a tensor that could
            change unnoticed.
        SettingError: If `exclude`, `private` or `mask` is of the wrong type.
    """
    modules = dict(module.named_modules(remove_duplicate=False))
    _refuse_foreign(module)
    head = _last_linear(module) if head is None else _checked_head(head, modules)
    of_head = {id(tensor) for _, tensor in tensors("", modules[head], recurse=True)}
    heads = tuple(name for name, part in modules.items() if part is modules[head])
    outside = [item for item in modules.items() if not any(_within(item[0], name) for name in heads)]
    is_excluded, is_own = _chooser("exclude", module, exclude), _chooser("private", module, private)
    is_chosen = _chooser("mask", module, mask)
    # A tensor that several layers share is excluded if one of these layers is.
    excluded = {
        id(tensor)
        for name, part in outside
        for short, tensor in tensors(name, part)
        if is_excluded(name, part) or is_excluded(short, part)
    }
    found: dict[Kind | None, list[tuple[str, str]]] = {kind: [] for kind in (*get_args(Kind), None)}
    seen, chosen = set[int](), list[str]()
    _refuse_untouchable(outside)
    if shared := [short for name, part in outside for short, tensor in tensors(name, part) if id(tensor) in of_head]:
        raise NetworkError(
            f"{shared[0]} is shared with the head {head!r}, which is private to each task. Name another module with "
            f"head=.{checks.also(shared[1:])}"
        )
    for name, part in outside:
        picked = {short for short, _ in tensors(name, part) if is_chosen(name, part) or is_chosen(short, part)}
        for short, tensor in tensors(name, part):
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            if id(tensor) in excluded or (isinstance(tensor, nn.Parameter) and not tensor.requires_grad):
                kind: Kind | None = "private" if _is_kept_per_task(part, tensor) else "frozen"
            elif is_own(name, part) or is_own(short, part) or _is_kept_per_task(part, tensor):
                kind = "private"
            else:
                kind = _kind_of(part, short, tensor, picked, isinstance(mask, Stored))
                # A vector is masked only by the rule of older files, which do not name it.
                is_named = kind == "masked" and tensor.dim() > 1 and not _is_known(part, short)
                chosen += [short] if is_named else []
            found[kind].append((name, short))
    _check_chosen(mask, module)
    if unknown := [(name, modules[where]) for where, name in found.pop(None)]:
        raise _unknown(unknown)
    masked = {name if short == f"{name}.weight" else short: short for name, short in found["masked"]}
    if not masked:
        raise NetworkError(
            f"there is nothing to mask: apart from the head {head!r}, the network has no layer with "
            "weights that is not excluded. Give it a hidden layer, or name a smaller head with head=."
        )
    names = {kind: tuple(short for _, short in items) for kind, items in found.items()}
    return Anatomy(
        head=heads[0], heads=heads, masked=masked, biases=names["bias"], private=names["private"],
        frozen=names["frozen"], chosen=tuple(chosen),
    )  # fmt: skip


def check_norms(module: nn.Module, anatomy: Anatomy) -> None:
    """Raise NetworkError if the forward of an embedding scales down rows of a weight that finished tasks own."""
    frozen = {*anatomy.masked.values(), *anatomy.frozen}
    names = {id(tensor): short for short, tensor in module.named_parameters()}
    found = [
        name for name, part in module.named_modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)
        and part.max_norm is not None and names[id(part.weight)] in frozen
    ]  # fmt: skip
    if found:
        raise NetworkError(
            f"{', '.join(found)}: an embedding with max_norm= writes to its weight in each forward, also to rows that "
            "finished tasks own. Leave max_norm out, and scale what the embedding returns to bound the norm; or give "
            f"each task its own copy with private={found!r}."
        )


def check_numbers(module: nn.Module) -> None:
    """Raise NetworkError if a parameter is complex, sparse, of a type with 8 bits, without values, or not finite."""
    found = [
        (name, parameter) for name, parameter in module.named_parameters() if parameter.is_complex()
        or parameter.layout != torch.strided or (parameter.is_floating_point() and parameter.dtype.itemsize == 1)
    ]  # fmt: skip
    if not found:
        spoilt = [name for name, value in module.named_parameters() if value.is_meta or not checks.all_finite(value)]
        if spoilt:
            raise NetworkError(
                f"{spoilt[0]} has no values, or some that are not finite. Initialise the network first."
                + checks.also(spoilt[1:])
            )
        return
    name, parameter = found[0]
    more = checks.also([name for name, _ in found[1:]])
    if parameter.is_complex():
        what = "complex"
        how = (
            "Let the parameter hold real and imaginary parts in one more dimension of size 2, and call "
            "torch.view_as_complex in forward; or make numbers that are not trained a buffer."
        )
    elif parameter.layout != torch.strided:
        what, how = "sparse", "Give the network a dense parameter, to_dense(): daynight keeps track of its zeros."
    else:
        what, how = f"of the type {parameter.dtype}", "Give the network in a type of 16 or more bits."
    raise NetworkError(f"{name} is {what}, and parameters must be plain floating-point numbers. {how}{more}")


def check_redrawn(module: nn.Module, anatomy: Anatomy, is_tried: bool = True) -> None:
    """Raise SettingError if new initial values of a masked weight cannot be drawn by its module.

    Args:
        module: The network.
        anatomy: The kinds of its tensors.
        is_tried: Whether layers that are not PyTorch's own draw values, on copies.
    """
    parts = {name: module.get_submodule(name.rpartition(".")[0]) for name in anatomy.chosen}
    lacking = [name for name, part in parts.items() if not hasattr(part, "reset_parameters")]
    if lacking:
        kinds = ", ".join(sorted({type(parts[name]).__name__ for name in lacking}))
        raise SettingError(
            f"restart='redraw' draws new values by the method reset_parameters() of each masked module, and {kinds} "
            f"has none, for {', '.join(lacking)}. Add that method, or choose restart='zero' or 'keep'.",
            page="networks",
        )
    with seeding.forked(0, "redraw"):
        for name in anatomy.masked.values():
            if is_tried and not type(module.get_submodule(name.rpartition(".")[0])).__module__.startswith("torch.nn."):
                _try_redrawn(module, name)


def _try_redrawn(module: nn.Module, name: str) -> None:
    """Raise SettingError unless new values of a parameter can be drawn; tried on a copy of its module."""
    weight = module.get_parameter(name)
    kind = type(module.get_submodule(name.rpartition(".")[0])).__name__
    try:
        drawn = redrawn(module, name, math.nan)
        shape = tuple(drawn.shape)
        reason = f"makes a tensor {shape}, and it is {tuple(weight.shape)}" if drawn.shape != weight.shape else ""
        reason = reason or ("" if checks.all_finite(drawn) else "leaves values as they were, or makes some not finite")
    except Exception as error:
        reason = f"failed: {error!r}"
    if reason:
        raise SettingError(
            f"restart='redraw' draws new values of {name} by the method reset_parameters() of {kind}, which {reason}. "
            "Let it draw all values of this parameter, without arguments; or choose restart='zero' or 'keep'.",
            page="networks",
        )


def redrawn(module: nn.Module, name: str, before: float | None = None) -> Tensor:
    """Return new initial values for a parameter, drawn by its module's own method from PyTorch's global generator.

    Args:
        module: The network; it is not changed.
        name: Name of the parameter.
        before: Value of the parameter's numbers when the method is called; None leaves them as they are.
    """
    where, _, short = name.rpartition(".")
    part: Any = copied(module.get_submodule(where))
    if before is not None:
        with torch.no_grad():
            part.get_parameter(short).fill_(before)
    (part.reset_parameters if hasattr(part, "reset_parameters") else part._reset_parameters)()
    drawn: Tensor = getattr(part, short)
    return drawn


def _is_kept_per_task(part: nn.Module, tensor: Tensor) -> bool:
    """Return whether a tensor is a buffer or belongs to a norm layer. Both are private, even in excluded layers."""
    return isinstance(part, NORMS) or not isinstance(tensor, nn.Parameter)


def _is_known(part: nn.Module, name: str) -> bool:
    """Return whether a parameter is one that a known layer defines; a subclass may have others beside them."""
    names = next(names for kind, names in _DEFINED if isinstance(part, kind))
    return isinstance(part, MASKABLE) and re.fullmatch(names, name.rpartition(".")[2]) is not None


def _kind_of(part: nn.Module, name: str, tensor: Tensor, picked: Collection[str], is_stored: bool) -> Kind | None:
    """Return the kind of a parameter, or None if it could be anything.

    Args:
        part: The module that has the parameter; it is no norm layer.
        name: Name of the parameter.
        tensor: The parameter.
        picked: Names of the module's parameters that the user has named to be masked.
        is_stored: Whether the names come from a file (see `Stored`).
    """
    short, is_layer = name.rpartition(".")[2], isinstance(part, MASKABLE)
    if name in picked and tensor.dim() > 1 and not _is_known(part, name):
        return "masked"
    if _is_known(part, name) or (is_layer and is_stored):
        return "masked" if "weight" in short else "bias"
    if sum(size > 1 for size in tensor.shape) <= 1:
        is_bias = "bias" in short and ("weight" not in short if is_layer else bool(picked))
        return "bias" if is_bias else "private"
    return None


def _unknown(found: Sequence[tuple[str, nn.Module]]) -> NetworkError:
    """Return the error about parameters that could be anything, given by their names and modules."""
    names, many, it = [name for name, _ in found], len(found) > 1, "them" if len(found) > 1 else "it"
    kinds = [type(part).__name__ for _, part in found]
    shapes = [tuple(getattr(part, name.rpartition(".")[2]).shape) for name, part in found]
    listed = ", ".join(f"{name} ({kind}, {shape})" for name, kind, shape in zip(names, kinds, shapes, strict=True))
    by_function = (
        " Each also takes a function in place of names, such as mask=lambda name, part: type(part).__name__ == "
        f"{kinds[0]!r}."
    )
    return NetworkError(
        f"{listed} {'are parts of modules' if many else 'is part of a module'} that daynight does not know, and would "
        f"change under finished tasks. Choose what {'they are' if many else 'it is'}: private={names!r} gives each "
        f"task its own copy, exclude={names!r} trains {it} with the first task and then freezes {it}, and "
        f"mask={names!r} masks {it} as the weights of a linear layer.{by_function if many else ''}"
    )


def _check_chosen(mask: Exclude, module: nn.Module) -> None:
    """Raise NetworkError if a name that `mask` gives has nothing that can be masked."""
    if callable(mask):
        return
    given = [mask] if isinstance(mask, str) else list(mask)
    shapes = {name: parameter.dim() for name, parameter in module.named_parameters(remove_duplicate=False)}
    if idle := [name for name in given if not any(shapes[own] > 1 for own in shapes if _within(own, name))]:
        raise NetworkError(
            f"mask names {idle}, which {'have' if idle[1:] else 'has'} no parameter of two or more dimensions. Vectors "
            "and numbers are private to each task without being named."
        )


def _last_linear(module: nn.Module) -> str:
    linear: list[str] = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise NetworkError("the network has no linear layer to be the head. Name the head with head=.")
    if not linear[-1]:
        raise NetworkError("the network is a single linear layer, its head, so there is nothing to mask.")
    return linear[-1]


def _checked_head(head: str, modules: dict[str, nn.Module]) -> str:
    if not isinstance(head, str) or not head or head not in modules:
        linear = [name for name, part in modules.items() if name and isinstance(part, nn.Linear)]
        raise NetworkError(f"head={head!r} is not a part of the network. Its linear layers are: {linear}.")
    return head


def tensors(name: str, part: nn.Module, recurse: bool = False) -> list[tuple[str, Tensor]]:
    """Return the parameters and buffers of a part, with their names within the network."""
    return [*part.named_parameters(name, recurse), *part.named_buffers(name, recurse)]


def _chooser(what: str, module: nn.Module, choice: Exclude) -> Callable[[str, nn.Module], bool]:
    """Return a function of (name, module) that is true for members of `choice`; `what` names the choice in errors."""
    if callable(choice) and not isinstance(choice, type | nn.Module):
        return functools.partial(_ask, what, choice)
    given: Any = [choice] if isinstance(choice, str) or not isinstance(choice, Iterable) else choice
    names = list(given)
    if not all(isinstance(name, str) for name in names):
        raise SettingError(
            f"{what} must be names of modules or parameters, such as ['0'], or a function of (name, module), such as "
            f"lambda name, part: isinstance(part, nn.Conv2d), not {choice!r}."
        )
    known = {name for name, _ in module.named_modules(remove_duplicate=False)}
    known |= {name for name, _ in module.named_parameters(remove_duplicate=False)}
    unknown = [name for name in names if not name or name not in known]
    if unknown:
        raise NetworkError(f"{what} names {unknown}, which the network does not have.")
    return lambda name, part: any(_within(name, chosen) for chosen in names)


def _ask(what: str, choose: Callable[[str, nn.Module], bool], name: str, part: nn.Module) -> bool:
    try:
        return bool(choose(name, part))
    except TypeError as error:
        raise SettingError(
            f"{what} must be a function of (name, module), and this one fails for {name!r}: {error}. Let it take two "
            "arguments, or give names of modules."
        ) from error


def _within(name: str, parent: str) -> bool:
    return name == parent or name.startswith(parent + ".")


def _refuse_foreign(module: nn.Module) -> None:
    """Raise NetworkError if a module is compiled, or has no linear layer because its layers cannot be masked."""
    if isinstance(module, torch.jit.ScriptModule):
        raise NetworkError(
            f"the network ({type(module).__name__}) is a ScriptModule, whose layers cannot be masked. Give the module "
            "before torch.jit.script or torch.jit.trace."
        )
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise NetworkError(
            f"the network is wrapped in {type(module).__name__}, which daynight does not use. Give the module that it "
            "wraps, network.module."
        )
    if not any(isinstance(part, nn.Linear) for part in module.modules()):
        _refuse_untouchable([(name, part) for name, part in module.named_modules() if name])


def _refuse_untouchable(parts: Iterable[tuple[str, nn.Module]]) -> None:
    """Raise NetworkError if single weights of a part cannot be masked; the error names all parts with that reason."""
    found: dict[str, list[str]] = {}
    for name, part in parts:
        if type(part).__name__ == "LinearPackedParams":
            continue  # of a quantized layer, which is named itself
        if reason := _why_untouchable(part):
            found.setdefault(reason, []).append(f"{name or 'the network'} ({type(part).__name__})")
    for reason, (first, *others) in found.items():
        raise NetworkError(f"{first} {reason}{checks.also(others)}")


def _why_untouchable(part: nn.Module) -> str:
    """Return why single weights of a part cannot be masked, and what to do; empty if they can."""
    if any(is_lazy(tensor) for tensor in part.parameters(recurse=False)):
        return "is lazy. Run the network once on an example before you wrap it."
    if type(part).__module__.startswith(("torch.ao.nn.", "torch.nn.quantized", "torch.nn.intrinsic")):
        return "is quantized, so its weights cannot be trained. Wrap the network before you quantize it."
    if isinstance(part, _BatchNorm) and part.running_mean is None:
        return (
            "keeps no running statistics, so a prediction would depend on the other inputs of its batch. Build it with "
            "track_running_stats=True."
        )
    return _why_computed(part)


def _why_computed(part: nn.Module) -> str:
    """Return by what a part computes its weight before each forward, and what to do; empty if it does not."""
    hooks = list(part._forward_pre_hooks.values())
    if any(kind.__name__ == "BasePruningMethod" for hook in hooks for kind in type(hook).__mro__):
        own = [name for name, _ in part.named_parameters(recurse=False)]
        pruned = [name.removesuffix("_orig") for name in own if name.endswith("_orig")]
        calls = ", ".join(f"torch.nn.utils.prune.remove(module, {name!r})" for name in pruned)
        return f"is pruned by torch.nn.utils.prune, and computes its weight before each forward. Call {calls} first."
    if any(type(hook).__name__ in ("WeightNorm", "SpectralNorm") for hook in hooks):
        return (
            "computes its weight from others before each forward, so single weights cannot be masked. Call "
            "torch.nn.utils.remove_weight_norm or remove_spectral_norm first."
        )
    if is_parametrized(part):
        names = list(cast(Any, part).parametrizations)
        calls = ", ".join(f"torch.nn.utils.parametrize.remove_parametrizations(module, {name!r})" for name in names)
        return (
            "computes its weight from others (a parametrization), so single weights cannot be masked. Call "
            f"{calls} first."
        )
    return ""
