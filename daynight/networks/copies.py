"""Copies of tensors, and of modules that keep more than parameters and buffers from one pass to the next."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)
#: Attributes of a module that hold its parts and tensors by name.
PARTS = ("_modules", "_parameters", "_buffers")
#: Objects whose attributes are no values that a pass has kept.
_CODE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType, nn.Module, Tensor)


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors, by their names."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def copied(module: _Module) -> _Module:
    """Return a deep copy of a module. Tensors of a pass that it keeps are copied without their graph.

    PyTorch copies no tensor that was computed with gradients, such as an activation that ``forward`` keeps as an
    attribute.
    """
    return copy.deepcopy(module, without_graph([module]))


def copied_with_hooks(module: _Module) -> _Module:
    """Return what `copied` returns, with the hooks of the gradients of parameters."""
    memo = without_graph([module])
    twin = copy.deepcopy(module, memo)
    carry_hooks(module, memo)
    return twin


def without_graph(modules: Iterable[nn.Module]) -> dict[int, Any]:
    """Return the memo for `copy.deepcopy` with which tensors that modules keep are copied without their graph."""
    found: dict[int, Any] = {}
    for module in modules:
        for part in module.modules():
            found |= {id(item): item.detach().clone() for item in _kept(part) if isinstance(item, Tensor)
                      and not item.is_leaf}  # fmt: skip
    return found


def carry_hooks(module: nn.Module, memo: dict[int, Any]) -> None:
    """Register the hooks of the gradients of a module's parameters with the copies of these parameters.

    PyTorch copies the hooks of a module, and not those of a tensor.

    Args:
        module: The module that was copied.
        memo: The memo of `copy.deepcopy`, after the copy. A method of a part becomes that of its copy.
    """
    for parameter in module.parameters():
        twin = memo[id(parameter)]
        hooks = [(twin.register_hook, hook) for hook in (parameter._backward_hooks or {}).values()]
        hooks += [
            (twin.register_post_accumulate_grad_hook, hook)
            for hook in (getattr(parameter, "_post_accumulate_grad_hooks", None) or {}).values()
        ]
        needs_grad = twin.requires_grad
        for register, hook in hooks:
            twin.requires_grad_()  # those of a frozen parameter wait
            register(copy.deepcopy(hook, memo))
            twin.requires_grad_(needs_grad)


def has_gradient_hooks(parameter: Tensor) -> bool:
    """Return whether there are hooks of the gradient of a parameter."""
    return bool(parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None))


def kept_tensors(part: nn.Module) -> list[Tensor]:
    """Return the tensors that a module keeps in attributes, or in containers there, besides what it registers.

    A buffer that was registered as None counts as an attribute.
    """
    registered = {id(tensor) for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False))}
    return [item for item in _kept(part) if isinstance(item, Tensor) and id(item) not in registered]


@contextlib.contextmanager
def attributes_kept(module: nn.Module) -> Iterator[None]:
    """Give the parts of a module, after a block, the attributes that they had before, apart from tensors and parts."""
    parts = [(part, _attributes(part)) for part in module.modules()]
    containers = [
        (item, item.copy()) for part, _ in parts for item in _kept(part) if isinstance(item, dict | list | set)
        and item is not part._buffers
    ]  # fmt: skip
    try:
        yield
    finally:
        for part, before in parts:
            for name in _attributes(part).keys() - before.keys():
                del vars(part)[name]
            vars(part).update(before)
        for item, values in containers:
            item.clear()
            item.extend(values) if isinstance(item, list) else item.update(values)


def _attributes(part: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(part).items() if name not in PARTS}


def _kept(part: nn.Module) -> Iterator[Any]:
    """Yield the values and containers that a module keeps, at any depth, but not those of its parts."""
    seen, rest = set[int](), [value for name, value in vars(part).items() if name not in PARTS[:2]]
    while rest:
        item = rest.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if isinstance(item, dict):
            rest.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            rest.extend(item)
        elif not isinstance(item, _CODE):
            rest.extend(getattr(item, "__dict__", {}).values())
