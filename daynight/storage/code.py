"""Descriptions of functions and classes by the code that runs, since source files may have changed in the meantime."""

from __future__ import annotations

import collections
import dis
import functools
import hashlib
import logging
import site
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch

from daynight.storage.names import name_in_files

#: Number of hexadecimal digits of a digest: 80 bits, so that no two runs ever share one.
DIGITS = 20
#: Packages whose functions and classes are described by name only. Their versions are recorded elsewhere.
_KNOWN = ("daynight", "torch", "torchvision", "numpy", "builtins", "functools", "abc", "attr", "attrs", "typing")
#: Attributes of a class that have no effect on what it does, or are described in another way.
_SILENT = {
    "__dict__", "__weakref__", "__module__", "__doc__", "__abstractmethods__", "_abc_impl", "__annotations__",
    "__qualname__", "__firstlineno__", "__static_attributes__", "__match_args__", "__attrs_attrs__", "__slots__",
    "__attrs_own_setattr__", "__attrs_props__", "__dataclass_fields__", "__dataclass_params__", "__parameters__",
    "__orig_bases__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__classcell__",
    "__classdictcell__", "__conditional_annotations__", "__slotnames__",
}  # fmt: skip
#: Members that say where an attribute is, such as the fields of named tuples, which are described beside them.
_DESCRIPTORS = (
    types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType,
    type(vars(collections.namedtuple("_", "field"))["field"]),
)  # fmt: skip
_NONE = object()
Tell = Callable[[Any], Any]


def is_known(item: Any) -> bool:
    """Return whether a function or class is described by name only: of daynight, Python or an installed package."""
    root = _root(item)
    return root in _KNOWN or root in sys.stdlib_module_names or _is_installed(root)


def name_of(item: Any) -> str:
    """Return the full name of a function or class in files, with the version if it is of an installed package."""
    root = _root(item)
    name: str = getattr(item, "__qualname__", None) or getattr(item, "__name__", None) or type(item).__qualname__
    if root in ("__main__", "__mp_main__"):
        return name
    version = "" if root in _KNOWN or not _is_installed(root) else getattr(sys.modules.get(root), "__version__", "")
    return name_in_files(item.__module__, name) + (f" {version}" if version else "")


def describe_function(function: types.FunctionType, tell: Tell) -> dict[str, Any]:
    """Describe a function in JSON: its name and, for a user's own function, its code and all that the code uses.

    Args:
        function: The function.
        tell: Describes a value.
    """
    about: dict[str, Any] = {"function": name_of(function)}
    if is_known(function):
        return about
    code = function.__code__
    about["code"] = _digest(code, function.__doc__)
    if code.co_filename.startswith("<attrs generated"):
        return about  # made from the fields of its class, which are described
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    rest = {
        "closes over": {name: tell(_content(cell)) for name, cell in cells},
        "uses": dict(sorted(_used(function, tell))),
        "defaults": [tell(list(function.__defaults__ or ())), tell(function.__kwdefaults__ or {})],
        "attributes": {name: tell(item) for name, item in sorted(vars(function).items()) if name != "__wrapped__"},
    }
    return about | {key: value for key, value in rest.items() if value not in ({}, [[], {}])}


def describe_class(kind: type, tell: Tell) -> Any:
    """Describe a class in JSON: its name and, for a user's own class, its bases and attributes."""
    if is_known(kind):
        return name_of(kind)
    members = vars(kind) | {"step": _own_step(kind)} if issubclass(kind, torch.optim.Optimizer) else vars(kind)
    body = {
        name: _member(item, tell) for name, item in sorted(members.items()) if name not in _SILENT and item is not _NONE
    }
    if "__attrs_attrs__" in vars(kind):
        body["fields"] = [[a.name, tell(None if a.default is attrs.NOTHING else a.default), tell(a.converter)]
                          for a in attrs.fields(kind)]  # fmt: skip
    return {"name": name_of(kind), "bases": [tell(base) for base in kind.__bases__], "body": body}


def _own_step(kind: type) -> Any:
    """Return the step that an optimizer's class defines; `_NONE` if it has that of a base.

    PyTorch wraps the step of a class as it makes the class's first instance, that of a base included.
    """
    found = [_unwrapped(vars(base)["step"]) for base in kind.__mro__ if "step" in vars(base)]
    return _NONE if "step" not in vars(kind) or found[0] is found[1] else found[0]


def _unwrapped(step: Any) -> Any:
    while hasattr(step, "hooked") and hasattr(step, "__wrapped__"):
        step = step.__wrapped__
    return step


def name_of_builtin(function: Any) -> str:
    """Return the name of a function that is written in C, the same in each process."""
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None)
    if module is None and owner is not None and not isinstance(owner, types.ModuleType):
        kind = owner if isinstance(owner, type) else type(owner)
        module = f"{kind.__module__}.{kind.__qualname__}"
    return f"{module}.{function.__name__}"


def _member(item: Any, tell: Tell) -> Any:
    if isinstance(item, staticmethod | classmethod):
        return {type(item).__name__: tell(item.__func__)}
    if isinstance(item, property):
        return {"property": [tell(function) for function in (item.fget, item.fset, item.fdel)]}
    if isinstance(item, functools.cached_property):
        return {"cached property": tell(item.func)}
    if isinstance(item, _DESCRIPTORS):
        return None
    return tell(item)


def _used(function: types.FunctionType, tell: Tell) -> Iterator[tuple[str, Any]]:
    """Yield the name and the description of each global that a function, or a function within it, uses."""
    attributes = set(_names(function.__code__))
    for name in sorted(set(_globals_of(function.__code__))):
        item = function.__globals__.get(name, function)
        if item is function:
            continue  # a builtin, a missing name, or the function itself
        if isinstance(item, types.ModuleType):
            yield name, _of_module(item, attributes, tell, ())
        elif isinstance(item, logging.Logger):
            yield name, item.name
        else:
            yield name, tell(item)


def _of_module(module: types.ModuleType, attributes: set[str], tell: Tell, above: tuple[str, ...]) -> Any:
    """Describe a module: by its name or, if it is a user's own, by its members whose names are in `attributes`."""
    root = module.__name__.partition(".")[0]
    if root in _KNOWN or root in sys.stdlib_module_names or _is_installed(root) or module.__name__ in above:
        return module.__name__
    found = {}
    for name in sorted(attributes & set(vars(module))):
        item = vars(module)[name]
        is_module = isinstance(item, types.ModuleType)
        found[name] = _of_module(item, attributes, tell, (*above, module.__name__)) if is_module else tell(item)
    return found


def _digest(code: types.CodeType, doc: str | None) -> str:
    found = hashlib.sha256()
    for part in _parts(code, doc):
        found.update(part + b"\0")
    return found.hexdigest()[:DIGITS]


def _parts(code: types.CodeType, doc: str | None = None) -> Iterator[bytes]:
    """Yield all on which the effect of code depends; not its file, its line numbers, or its docstring."""
    yield code.co_code
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    yield repr((counts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)).encode()
    for index, const in enumerate(code.co_consts):
        if not (index == 0 and doc is not None and const == doc):
            yield from _const(const)


def _const(const: Any) -> Iterator[bytes]:
    if isinstance(const, types.CodeType):
        yield from _parts(const)
    elif isinstance(const, tuple | frozenset):
        yield type(const).__name__.encode()
        items = [b"".join(_const(item)) for item in const]
        yield from items if isinstance(const, tuple) else sorted(items)
    else:
        yield f"{type(const).__name__} {const!r}".encode()


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


def _names(code: types.CodeType) -> Iterator[str]:
    for part in _codes(code):
        yield from part.co_names


def _globals_of(code: types.CodeType) -> Iterator[str]:
    for part in _codes(code):
        for instruction in dis.get_instructions(part):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                yield instruction.argval


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is still empty
        return None


def _root(item: Any) -> str:
    return (getattr(item, "__module__", None) or "").partition(".")[0]


@functools.cache
def _is_installed(root: str) -> bool:
    """Return whether a package is installed in the usual folders, and not a user's own code in development."""
    if root in ("__main__", "__mp_main__"):  # in a worker process, this is the package that runs it
        return False
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    return any(file.startswith(f"{folder}/") or file.startswith(f"{folder}\\") for folder in folders)
