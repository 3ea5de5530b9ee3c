"""Every name that files know is that of something, which describes itself by that very name."""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
import torch

import daynight as dn
from daynight.study import Results, Store, grid, packnet
from daynight.testing import toy_stream

STORES = Path(__file__).parents[2] / "docs" / "results" / "study"
#: N, the cycles a night, of Figure 2 of the paper: PackNet on MNIST, ten seeds each.
FIGURE_2 = (1, 2, 3, 4, 6, 8, 9, 12, 18, 24, 36, 72)


@functools.cache
def entries(store):
    return list(Store(STORES / store))


def told(value):
    """Return the description of a setting, as the name of a run has it."""
    (run,) = grid(lambda stream, *, seed, value: {}, toy_stream(1), seeds=[0], value=(value,))
    return run.about["settings"]["value"][0]


def parts(description):
    """Yield a description, and all that is in it."""
    yield description
    if isinstance(description, Mapping):
        for part in description.values():
            yield from parts(part)
    elif isinstance(description, list):
        for part in description:
            yield from parts(part)


@functools.cache
def descriptions():
    """Return each different setting and method of the committed runs."""
    found = {}
    for folder in sorted(path for path in STORES.iterdir() if path.is_dir()):
        for entry in entries(folder.name):
            for part in (entry["run"]["method"], entry["run"]["views"], *entry["run"]["settings"].values()):
                found.setdefault(repr(part), part)
    return list(found.values())


@functools.cache
def known_names():
    return sorted({p for d in descriptions() for p in parts(d) if isinstance(p, str) and p.startswith("daynight.")})


@functools.cache
def everything():
    """Return all functions and classes of the package, by what they call themselves."""
    found = {}
    for info in pkgutil.walk_packages(dn.__path__, "daynight."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for item in vars(module).values():
            if (inspect.isclass(item) or inspect.isfunction(item)) and item.__module__ == info.name:
                found.setdefault(item.__qualname__, []).append(item)
    return found


@functools.cache
def named(name):
    """Return what calls itself by a name."""
    candidates = everything().get(name.rpartition(".")[2], [])
    fitting = [item for item in candidates if name in parts(told(item))]
    assert len(fitting) == 1, f"{len(fitting)} things call themselves {name}, of {candidates}"
    return fitting[0]


def made(description):
    """Make what is described, of the library's own classes and functions."""
    if isinstance(description, list):
        return [made(part) for part in description]
    if not isinstance(description, Mapping):
        return description
    if "function" in description:
        name = description["function"]
        return named(name) if name.startswith("daynight.") else importlib.import_module("torch").relu
    if "partial" in description:
        inner = description["partial"]
        function = named(inner) if isinstance(inner, str) else made(inner)
        settings = {name: made(part) for name, part in description["settings"].items()}
        return functools.partial(function, *made(description["args"]), **settings)
    kind = named(description["class"])
    fields = {name: made(part) for name, part in description.items() if name != "class"}
    if attrs.has(kind):
        tuples = {name: tuple(part) if isinstance(part, list) else part for name, part in fields.items()}
        return kind(**tuples)
    item = kind.__new__(kind)
    vars(item).update(fields)
    return item


def test_the_store_knows_28_names():
    assert len(known_names()) == 28


@pytest.mark.parametrize("name", known_names())
def test_a_known_name_is_that_of_something(name):
    assert named(name)


def test_settings_of_all_runs_describe_themselves_alike():
    plain = [d for d in descriptions() if all("torch." not in p for p in parts(d) if isinstance(p, str))]
    plain = [d for d in plain if not any(isinstance(p, Mapping) and "tensor" in p for p in parts(d))]
    assert len(plain) > 50
    for description in plain:
        if isinstance(description, str):
            assert told(named(description)) == description if description.startswith("daynight.") else True
        else:
            assert told(made(description)) == description


@pytest.mark.parametrize("free_at_end", [0.95, 0.99, 0.995])
@pytest.mark.parametrize("n", FIGURE_2)
def test_the_runs_of_figure_2_are_found(free_at_end, n):
    settings = {
        "free_at_end": free_at_end, "wake": dn.Epochs(72), "night": dn.Epochs(72), "policy": dn.UniformCycles(n),
        "training": dn.Training(batch_size=128), "network": functools.partial(dn.models.MLP, 784, 256, 256),
    }  # fmt: skip
    found = Results(entries("mnist")).select(method=packnet, **settings)
    plain = [entry for entry in found if entry["run"]["settings"].keys() == {*settings, "seed"}]
    assert sorted(entry["run"]["settings"]["seed"] for entry in plain) == list(range(10))


def test_a_run_has_the_key_that_it_had():
    settings = {
        "free_at_end": 0.995, "wake": dn.Epochs(72), "night": dn.Epochs(72), "policy": dn.UniformCycles(8),
        "training": dn.Training(batch_size=128), "network": functools.partial(dn.models.MLP, 784, 256, 256),
    }  # fmt: skip
    (entry,) = [
        entry for entry in Results(entries("mnist")).select(method=packnet, seed=0, **settings)
        if entry["run"]["settings"].keys() == {*settings, "seed"}
    ]  # fmt: skip
    (run,) = grid(packnet, toy_stream(1), seeds=[0], **settings)
    # The key is a digest of this, and all but the data are the same.
    assert {**run.about, "data": entry["run"]["data"]} == entry["run"]


def test_functions_of_other_packages_are_told_by_their_names():
    assert told(torch.relu) == {"function": "torch.relu"}
