"""`About`: the description of an agent in a file, besides the numbers of its network; making and reading it."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from daynight import criteria, metrics, models
from daynight.criteria import Criterion
from daynight.data.signatures import Form
from daynight.data.tasks import Task
from daynight.errors import DamagedFileError, DataError, SettingError
from daynight.history import Record
from daynight.networks.masked import Biases, MaskedNetwork, Restart
from daynight.pruning.capacity import Capacity
from daynight.storage.identity import describe_structure, digest
from daynight.storage.names import name_in_files
from daynight.storage.seals import Seal
from daynight.support import archive, digests
from daynight.training.consolidation import Consolidation, is_known
from daynight.training.consolidation import consolidation_of as named
from daynight.training.settings import Training

Network = nn.Module | Callable[[], nn.Module]
#: The functions of a `Training`. A file has only their names.
FUNCTIONS = ("optimizer", "scheduler", "loss", "metric", "transform", "augment")


@attrs.frozen(kw_only=True)
class About:
    """The description of an agent in a file.

    Attributes:
        model: Name and arguments of the network, if it is one of the library's models; None for a user's network.
        head: Name of the head.
        frozen: Names of parameters that are trained with the first task and then frozen.
        private: Names of parameters of which each task has its own copy.
        biases: See `daynight.Agent`.
        restart: See `daynight.Agent`.
        consolidation: Name of the way to consolidate.
        capacity: The capacity.
        seed: Names the agent's random streams.
        criterion: Name of the pruning criterion.
        training: The settings of the training that are not functions.
        functions: Names of the training's functions that are not the default ones, by setting.
        n_steps: Number of optimizer steps that the agent has taken.
        days: The record of each finished day.
        tasks: The `Form` of each task.
        seals: The seal of each task; empty if tasks are not sealed.
        kept: Digests of the tasks whose training data the agent keeps.
        code: Digest of the code of a user's network, and the versions of Python and PyTorch with which the digest was
            computed. None for a model of the library, or if the code cannot be described.
    """

    model: dict[str, Any] | None
    head: str
    frozen: tuple[str, ...]
    private: tuple[str, ...]
    biases: Biases
    restart: Restart
    consolidation: str
    capacity: Capacity
    seed: int
    criterion: str
    training: dict[str, Any]
    functions: dict[str, str]
    n_steps: int
    days: tuple[Record, ...]
    tasks: tuple[Form, ...]
    seals: tuple[Seal, ...]
    kept: tuple[str, ...]
    code: tuple[str, ...] | None = None


def code_of(network: MaskedNetwork) -> tuple[str, ...] | None:
    """Return the value of `About.code` for a network."""
    module = network.module
    if models.settings_of(module) is not None:
        return None
    try:
        found = digest(describe_structure(module, network.anatomy.head))
    except SettingError:  # the code cannot be described
        return None
    return found, platform.python_version(), torch.__version__


def check_code(about: About, network: MaskedNetwork) -> None:
    """Warn if a network's code differs from the code with which its agent was saved, if both can be compared."""
    code = code_of(network)
    if about.code and code and about.code[1:] == code[1:] and about.code != code:
        warnings.warn(
            "the agent was saved with a network of other code, or with other settings of its modules: its predictions "
            "for learnt tasks may differ, which verify does not notice, since it compares what the network holds. "
            "Compare predictions with earlier ones, or load it with the code that it was saved with.",
            stacklevel=3,
        )


def about(network: MaskedNetwork, training: Training, criterion: Criterion, **rest: Any) -> About:
    """Return the description of an agent in a file.

    Args:
        network: The agent's network.
        training: How the agent learns.
        criterion: The agent's pruning criterion.
        rest: The other attributes of `About`.
    """
    usual, parameters = Training(), dict(network.module.named_parameters())
    plain = {name: value for name, value in training.settings().items() if name not in FUNCTIONS}
    plain["autocast"] = None if training.autocast is None else str(training.autocast).removeprefix("torch.")
    return About(
        model=models.settings_of(network.module), head=network.anatomy.head, frozen=network.anatomy.frozen,
        private=tuple(name for name in network.anatomy.private if name in parameters), biases=network.biases,
        restart=network.restart, criterion=_name(criterion), training=plain,
        functions={name: _name(getattr(training, name)) for name in FUNCTIONS
                   if getattr(training, name) is not getattr(usual, name)},
        **rest,
    )  # fmt: skip


def read(path: str | os.PathLike[str]) -> tuple[About, dict[str, Tensor]]:
    """Read the file of an agent.

    Raises:
        DataNotFoundError: If there is no such file.
        DamagedFileError: If the file is damaged, is not an agent's, or was written by a newer version.
    """
    values, tensors = archive.read(path, "agent")
    about = from_json(path, values)
    try:
        texts = [about.head, about.criterion, about.consolidation, *about.frozen, *about.private, *about.kept]
        texts += [*about.functions.values(), *(about.code or ())]
        is_named = all(isinstance(text, str) for text in texts)
    except (TypeError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} has no valid description of an agent: {error}. It may be damaged: take an older copy."
        ) from error
    if not is_named:
        raise DamagedFileError(
            f"{path} has no valid description of an agent: a name is not a text. It may be damaged: take an older copy."
        )
    return about, tensors


def from_json(path: str | os.PathLike[str], values: dict[str, Any]) -> About:
    """Make an `About` from the JSON in a file.

    Raises:
        DamagedFileError: If the JSON has another form.
    """
    try:
        values["capacity"] = Capacity(**values["capacity"])
        values["days"] = tuple(Record(**record) for record in values["days"])
        values["tasks"] = tuple(Form(**{**form, "shape": tuple(form["shape"])}) for form in values["tasks"])
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return About(**fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} has no valid description of an agent: {error}. It may be damaged: take an older copy."
        ) from error


def check_counts(path: str | os.PathLike[str], about: About, way: Consolidation) -> None:
    """Raise DamagedFileError unless the numbers of tasks, seals and kept tasks fit the number of finished days."""
    n_days = len(about.days)
    n_sealed, n_kept = n_days if way.freezes else 0, n_days if way.keeps_tasks else 0
    if (len(about.tasks), len(about.seals), len(about.kept)) != (n_days, n_sealed, n_kept):
        raise DamagedFileError(
            f"{path} has no valid description of an agent: it has {n_days} days, and other numbers of tasks. It may be "
            "damaged: take an older copy."
        )


def consolidation_of(about: About, given: Consolidation | None) -> Consolidation:
    """Return the way to consolidate with which the agent continues.

    Raises:
        SettingError: If `given` is needed and missing, or is not the way that was saved.
    """
    if given is None and not is_known(about.consolidation):
        raise SettingError(
            f"the agent was saved with consolidation={about.consolidation!r}, a way of your own: give that again.",
            page="files",
        )
    way = named(about.consolidation if given is None else given)
    if way.name != about.consolidation:
        raise SettingError(
            f"the agent was saved with consolidation={about.consolidation!r}, and consolidation={way.name!r} was "
            "given. Give the one it was saved with.", page="files",
        )  # fmt: skip
    return way


def network_of(about: About, network: Network | None) -> Network:
    """Return the network that takes over the saved tensors.

    Raises:
        SettingError: If `network` is needed and missing.
    """
    if network is not None:
        return network
    if about.model is None:
        raise SettingError("the agent was saved with a network of your own code: give it with network=.", page="files")
    return models.made_of(about.model)


def training_of(about: About, training: Training | None) -> Training:
    """Return the training with which the agent continues.

    Raises:
        SettingError: If `training` is needed and missing, or if only one of it and the saved training has a transform,
            loss or metric.
    """
    if training is None:
        known = {name: _KNOWN[what] for name, what in about.functions.items() if what in _KNOWN}
        if len(known) < len(about.functions):
            names = ", ".join(f"{name} ({what})" for name, what in about.functions.items() if name not in known)
            raise SettingError(
                f"the agent was saved with functions of its own, {names}: give them with training=.", page="files"
            )
        plain = about.training | known
        if plain["autocast"] is not None:
            plain["autocast"] = getattr(torch, plain["autocast"])
        return Training(**plain)
    usual = Training()
    for name, changed in (("transform", "predictions"), ("loss", "losses"), ("metric", "scores")):
        given = getattr(training, name)
        if (name in about.functions) != (given is not getattr(usual, name)):
            was = about.functions.get(name, "none of its own")
            raise SettingError(
                f"the agent was saved with the {name} {was}, and training has {given!r}: its {changed} would "
                "differ. Give the one that it was trained with.",
                page="files",
            )
    return training


def criterion_of(about: About, criterion: Criterion | None) -> Criterion:
    """Return the pruning criterion with which the agent continues.

    Raises:
        SettingError: If `criterion` is needed and missing.
    """
    if criterion is None and about.criterion not in _KNOWN:
        raise SettingError(
            f"the agent was saved with the criterion {about.criterion}: give it with criterion=.", page="files"
        )
    return _KNOWN[about.criterion] if criterion is None else criterion


def kept_of(about: About, kept: Sequence[Task]) -> list[Task]:
    """Return the tasks whose training data the agent keeps.

    Raises:
        DataError: If `kept` are not the tasks that the agent has learnt.
    """
    marks = [digest_of_task(task) for task in kept]
    if marks != list(about.kept):
        raise DataError(
            f"the agent rehearses the {len(about.kept)} tasks that it has learnt, and kept= has {len(marks)}, or "
            "others: give all of them, with the same training data and in the same order."
        )
    return list(kept)


def _name(function: Any) -> str:
    """Return the name of a function, or of the function that it wraps."""
    part = getattr(function, "func", None)  # of a functools.partial
    if part is not None:
        return f"{_name(part)}(...)"
    owner = getattr(function, "__objclass__", function)  # of a method that is written in C
    return name_in_files(owner.__module__, getattr(function, "__qualname__", type(function).__qualname__))


#: The library's own functions, which are found by their names in a file.
_KNOWN: dict[str, Any] = {
    _name(function): function
    for module in (criteria, metrics)
    for function in vars(module).values()
    if isinstance(function, FunctionType) and function.__module__ == module.__name__
}


def digest_of_task(task: Task) -> str:
    """Return a digest of a task's training data."""
    inputs, targets = task.train.load()
    return f"{digests.digest(inputs)[:32]}{digests.digest(targets)[:32]}"
