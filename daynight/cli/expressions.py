"""Objects from text for the command line, such as ``UniformCycles(8)``: calls with plain values, and no other code."""

from __future__ import annotations

import ast
import difflib
import importlib
from types import ModuleType
from typing import Any

import daynight
from daynight import models, rates
from daynight.errors import DaynightError, SettingError


def made_of(text: str, what: str, example: str) -> Any:
    """Return the object that an expression makes.

    Args:
        text: A call of a name of daynight, or of ``module:name``, with plain values, names or such calls as arguments.
        what: Name of the argument, for errors.
        example: An example, for errors.

    Raises:
        SettingError: If the text is not such an expression, a name is unknown, or the call fails.
    """
    module, colon, call = text.partition(":")
    if not colon or "(" in module:
        module, call = "", text
    tree: ast.expr | None
    reason = ""
    try:
        tree = ast.parse(call.strip(), mode="eval").body
    except SyntaxError as error:
        tree, reason = None, f" ({error.msg})"
    if not isinstance(tree, ast.Call):
        raise SettingError(f"{what} must be a call, such as {example!r}, not {text!r}{reason}.", page="command")
    try:
        return _called(tree, _Names(module))
    except DaynightError:
        raise
    except Exception as error:
        raise SettingError(f"{what}, {text!r}: {type(error).__name__}: {error}", page="command") from error


class _Names:
    """The names that an expression may use: of a module of the user's, of daynight, and of its models and rates.

    Args:
        module: Name of the user's module, or ``""`` for none; or a module, if only its own names may be used.
    """

    def __init__(self, module: str | ModuleType) -> None:
        if isinstance(module, ModuleType):
            self._places = self._said = [module]
            return
        self._said = [daynight]
        if module:
            try:
                self._said = [importlib.import_module(module), daynight]
            except ImportError as error:
                is_missing = getattr(error, "name", None) == module
                what = f"there is no module {module!r} that can be imported from here" if is_missing else f"{module!r}"
                raise SettingError(f"{what}: {error}.", page="command") from error
        self._places = [*self._said, models, rates]

    def knows(self, name: str) -> bool:
        """Return whether the expression may use `name`."""
        return not name.startswith("_") and any(hasattr(place, name) for place in self._places)

    def get(self, name: str) -> Any:
        """Return the object with a name.

        Raises:
            SettingError: If the name is unknown.
        """
        if self.knows(name):
            return next(getattr(place, name) for place in self._places if hasattr(place, name))
        where = " or ".join(place.__name__ for place in self._said)
        near = difflib.get_close_matches(name, [known for place in self._places for known in dir(place)], n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise SettingError(
            f"{where} has no {name!r}.{meant} Name one of its classes or functions, or your own as module:name(...).",
            page="command",
        )


def _called(tree: ast.expr, names: _Names) -> Any:
    if isinstance(tree, ast.Name | ast.Attribute):
        return _named(tree, names)
    if not isinstance(tree, ast.Call):
        try:
            return ast.literal_eval(tree)
        except ValueError as error:
            raise SettingError(
                f"an argument must be a plain value, a name or a call, not {ast.unparse(tree)!r}. For more, write a "
                "function in a module of your own, and name it as module:function().",
                page="command",
            ) from error
    if not isinstance(tree.func, ast.Name | ast.Attribute) or any(keyword.arg is None for keyword in tree.keywords):
        raise SettingError(
            "an expression may only call names, such as Rated(UniformCycles(4), Linear()).", page="command"
        )
    arguments = [_called(argument, names) for argument in tree.args]
    settings = {str(keyword.arg): _called(keyword.value, names) for keyword in tree.keywords}
    return _named(tree.func, names)(*arguments, **settings)


def _named(tree: ast.expr, names: _Names) -> Any:
    """Return the object with a name, such as ``metrics.mean_squared_error``."""
    if isinstance(tree, ast.Name):
        return names.get(tree.id)
    if isinstance(tree, ast.Attribute):
        if isinstance(tree.value, ast.Name) and not names.knows(tree.value.id):
            own = f"{tree.value.id}:{tree.attr}"
            raise SettingError(
                f"daynight has no {tree.value.id!r}. Write a class or function of your own as {own}(...).",
                page="command",
            )
        place = _named(tree.value, names)
        if isinstance(place, ModuleType):
            return _Names(place).get(tree.attr)
    raise SettingError(
        f"{ast.unparse(tree)!r} is not a name in a module. Write it as in metrics.accuracy, or put it into a function "
        "of your own: module:function().", page="command",
    )  # fmt: skip
