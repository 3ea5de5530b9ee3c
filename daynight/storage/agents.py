"""`About`: what a file says of an agent beside the numbers of its network, and how that is read again."""

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
#: The functions of a `Training`, of which a file has only the names.
FUNCTIONS = ("optimizer", "scheduler", "loss", "metric", "transform", "augment")


@attrs.frozen(kw_only=True)
class About:
    """What a file says of an agent.

    Attributes:
        model: Name and arguments of the network, if it is one of the library's models; None for a user's.
        head: Name of the head.
        frozen: Names of parameters that are trained with the first task and then frozen.
        private: Names of parameters of which each task has its own.
        biases: See `daynight.Agent`.
        restart: See `daynight.Agent`.
        consolidation: Name of the way to consolidate.
        capacity: The capacity.
        seed: Names the agent's random streams.
        criterion: Name of the pruning criterion.
        training: The settings of the training that are not functions.
        functions: Names of the training's functions that are not the default ones, by setting.
        n_steps: Optimizer steps that it has taken.
        days: The record of each finished day.
        tasks: The `Form` of each task.
        seals: The seal of each task, where tasks are sealed.
        kept: Digests of the tasks whose training data it keeps.
        code: Digest of the network's code, if it is a user's and can be described, and the versions of Python and
            PyTorch with which it was computed.
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
    """Return a digest of the code of a user's network, and the versions of Python and PyTorch."""
    module = network.module
    if models.settings_of(module) is not None:
        return None
    try:
        found = digest(describe_structure(module, network.anatomy.head))
    except SettingError:  # it cannot be described
        return None
    return found, platform.python_version(), torch.__version__


def check_code(about: About, network: MaskedNetwork) -> None:
    """Warn if a network's code is not that with which its agent was saved, as far as that can be compared."""
    code = code_of(network)
    if about.code and code and about.code[1:] == code[1:] and about.code != code:
        warnings.warn(
            "the agent was saved with a network of other code, or with other settings of its modules: its predictions "
            "for learnt tasks may differ, which verify does not notice, since it compares what the network holds. "
            "Compare predictions with earlier ones, or load it with the code that it was saved with.",
            stacklevel=3,
        )


def about(network: MaskedNetwork, training: Training, criterion: Criterion, **rest: Any) -> About:
    """Return what a file says of an agent beside the numbers of its network.

    Args:
        network: Its network.
        training: How it learns.
        criterion: Its pruning criterion.
        rest: The other attributes of `About`.
    """
    usual, parameters = Training(), dict(network.module.named_parameters())
    plain = {
        field.name: getattr(training, field.name) for field in attrs.fields(Training) if field.name not in FUNCTIONS
    }
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
        DamagedFileError: If it is damaged, of another kind, or was written by a newer version.
    """
    values, tensors = archive.read(path, "agent")
    about = from_json(path, values)
    try:
        texts = [about.head, about.criterion, about.consolidation, *about.frozen, *about.private, *about.kept]
        texts += [*about.functions.values(), *(about.code or ())]
        is_named = all(isinstance(text, str) for text in texts)
    except (TypeError, AttributeError) as error:
        raise DamagedFileError(f"{path} does not say what an agent is: {error}") from error
    if not is_named:
        raise DamagedFileError(f"{path} does not say what an agent is: a name is not a text")
    return about, tensors


def from_json(path: str | os.PathLike[str], values: dict[str, Any]) -> About:
    """Make an `About` of the JSON in a file.

    Raises:
        DamagedFileError: If it is of another form.
    """
    try:
        values["capacity"] = Capacity(**values["capacity"])
        values["days"] = tuple(Record(**record) for record in values["days"])
        values["tasks"] = tuple(Form(**{**form, "shape": tuple(form["shape"])}) for form in values["tasks"])
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return About(**fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFileError(f"{path} does not say what an agent is: {error}") from error


def check_counts(path: str | os.PathLike[str], about: About, way: Consolidation) -> None:
    """Raise DamagedFileError unless there are as many tasks, seals and kept tasks as the finished days ask for."""
    n_days = len(about.days)
    n_sealed, n_kept = n_days if way.freezes else 0, n_days if way.keeps_tasks else 0
    if (len(about.tasks), len(about.seals), len(about.kept)) != (n_days, n_sealed, n_kept):
        raise DamagedFileError(
            f"{path} does not say what an agent is: it has {n_days} days, and other numbers of tasks"
        )


def consolidation_of(about: About, given: Consolidation | None) -> Consolidation:
    """Return the way to consolidate to continue with.

    Raises:
        SettingError: If it is needed and was not given, or is not the one that was saved.
    """
    if given is None and not is_known(about.consolidation):
        raise SettingError(
            f"the agent was saved with the way to consolidate {about.consolidation!r}: give it with consolidation=.",
            page="files",
        )
    way = named(about.consolidation if given is None else given)
    if way.name != about.consolidation:
        raise SettingError(
            f"the agent was saved with the way to consolidate {about.consolidation!r}, and consolidation= is "
            f"{way.name!r}. Give the one that it was saved with.", page="files",
        )  # fmt: skip
    return way


def network_of(about: About, network: Network | None) -> Network:
    """Return the network that takes over what was saved.

    Raises:
        SettingError: If it is needed and was not given.
    """
    if network is not None:
        return network
    if about.model is None:
        raise SettingError("the agent was saved with a network of your own code: give it with network=.", page="files")
    return models.made_of(about.model)


def training_of(about: About, training: Training | None) -> Training:
    """Return the training to continue with.

    Raises:
        SettingError: If it is needed and was not given, or has a transform, loss or metric where the saved one had
            none, or the other way round.
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
    """Return the pruning criterion to continue with.

    Raises:
        SettingError: If it is needed and was not given.
    """
    if criterion is None and about.criterion not in _KNOWN:
        raise SettingError(
            f"the agent was saved with the criterion {about.criterion}: give it with criterion=.", page="files"
        )
    return _KNOWN[about.criterion] if criterion is None else criterion


def kept_of(about: About, kept: Sequence[Task]) -> list[Task]:
    """Return the tasks whose training data the agent keeps.

    Raises:
        DataError: If they are not those that it has learnt.
    """
    marks = [digest_of_task(task) for task in kept]
    if marks != list(about.kept):
        raise DataError(
            f"the agent rehearses the {len(about.kept)} tasks that it has learnt, and kept= has {len(marks)}, or "
            "others: give all of them, with the same training data and in the same order."
        )
    return list(kept)


def _name(function: Any) -> str:
    """Return the name of a function, or of what it calls."""
    part = getattr(function, "func", None)  # of a functools.partial
    if part is not None:
        return f"{_name(part)}(...)"
    owner = getattr(function, "__objclass__", function)  # of a method that is written in C
    return name_in_files(owner.__module__, getattr(function, "__qualname__", type(function).__qualname__))


#: The library's own functions, which are found again by their names.
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
