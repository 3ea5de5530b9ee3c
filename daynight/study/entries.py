"""The settings of a run as its entry in a store describes them, defaults of its method included."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from daynight.agent import Agent
from daynight.storage.identity import describe

Entry = Mapping[str, Any]

#: The parts of a run's description besides its settings.
OF_RUN = ("method", "data", "version")


def setting(entry: Entry, name: str) -> Any:
    """Return the description of a run's setting, or of another name for `Results.groups`; None if the run has none.

    A setting that the run leaves out has the default of its method: of methods of the library also that of
    `daynight.Agent`, to which they pass their settings on, and of your own methods that of a keyword argument.
    """
    first, *rest = name.split(".")
    run = entry["run"]
    if first in OF_RUN:
        value = run.get(first)
    elif first == "machine":
        value = run["settings"].get(first, entry.get(first))
    elif first in run["settings"]:
        value = run["settings"][first]
    else:
        value = defaults(run.get("method")).get(first)
    for part in rest:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def defaults(method: Any) -> dict[str, Any]:
    """Return the described defaults of a described method; None is left out.

    Args:
        method: The description of a method in an entry.
    """
    if not isinstance(method, Mapping) or "function" not in method:
        return {}
    if "code" in method:  # a user's own
        return dict(method.get("defaults", [[], {}])[1])
    return _defaults_of(str(method["function"]))


@functools.cache
def _defaults_of(name: str) -> dict[str, Any]:
    """Return the described defaults of a method of the library, by its name."""
    module, _, own = name.rpartition(".")
    if not module.startswith("daynight.study."):
        return {}
    try:
        function = getattr(importlib.import_module(module), own)
    except (ImportError, AttributeError):  # of another version
        return {}
    called = [inspect.signature(Agent), inspect.signature(function)]
    if not any(one.kind is one.VAR_KEYWORD for one in called[1].parameters.values()):
        called = called[1:]
    found = {key: one.default for signature in called for key, one in signature.parameters.items()}
    return {
        key: describe(value) for key, value in found.items()
        if value not in (inspect.Parameter.empty, None) and key != "seed"
    }  # fmt: skip
