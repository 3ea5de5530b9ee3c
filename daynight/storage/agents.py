"""The file of an agent: making and reading its description, and what an agent that continues from it needs."""

from __future__ import annotations

import contextlib
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn

from daynight import criteria, history, metrics, models
from daynight.criteria import Criterion
from daynight.data.signatures import Form
from daynight.data.tasks import Task
from daynight.errors import DamagedFileError, DataError, DaynightError, SealError, SettingError
from daynight.history import Record, record_of
from daynight.networks.anatomy import Stored
from daynight.networks.masked import MaskedNetwork
from daynight.nights.gate import Gate
from daynight.pruning.capacity import NEED, Capacity
from daynight.storage import contents
from daynight.storage.contents import FUNCTIONS, About
from daynight.storage.identity import Snapshot, describe, describe_structure, digest
from daynight.storage.names import name_in_files
from daynight.support import archive, digests
from daynight.training.consolidation import Consolidation, is_known
from daynight.training.consolidation import consolidation_of as named
from daynight.training.settings import Training

Network = nn.Module | Callable[[], nn.Module]
#: Fields that older files do not have.
_LATER = ("mask", "transform", "n_days", "sees", "succeeds", "line", "keep_per_task", "gate", "gate_held",
           "refused", "keeps", "replay", "connected", "share", *NEED, *history.LATER)  # fmt: skip
_NOTHING: tuple[Any, ...] = (None, "", (), {})


def to_json(about: About | Record | Form) -> dict[str, Any]:
    """Return the JSON of an `About`, which `from_json` reads, without what is empty and older files do not have.

    Records and forms, as an `About` holds them, have the same JSON there as alone.
    """
    return attrs.asdict(
        about, filter=lambda field, value: field.name not in _LATER or value not in (*_NOTHING, field.default)
    )  # fmt: skip


def code_of(network: MaskedNetwork, snapshot: Snapshot | None = None, keeps: bool = False) -> tuple[str, ...] | None:
    """Return the value of `About.code` for a network.

    Args:
        network: The network.
        snapshot: The attributes of its modules when it was given; None is those that they have now.
        keeps: Whether attributes that may hold what a module has kept of its passes count, as in older files.
    """
    module = network.module
    if models.settings_of(module) is not None:
        return None
    return _code_of(lambda: describe_structure(module, network.anatomy.head, snapshot, keeps))


def _code_of(describes: Callable[[], Any]) -> tuple[str, ...] | None:
    """Return a digest of what a function describes, with the versions of Python and PyTorch; None if it cannot."""
    try:
        return digest(describes()), platform.python_version(), torch.__version__
    except SettingError:
        return None


def check_code(about: About, network: MaskedNetwork, snapshot: Snapshot) -> None:
    """Warn if the code of a network is not that of the file, if both can be compared.

    Args:
        about: The description of the agent in the file.
        network: The network.
        snapshot: The attributes of its modules when it was given.
    """
    code = code_of(network, snapshot)
    if not about.code or not code or about.code[1:] != code[1:]:
        return
    if about.code not in (code, code_of(network, snapshot, keeps=True)):
        warnings.warn(
            "the agent was saved with a network of other code, or with other settings of its modules: its predictions "
            "for learnt tasks may differ, which verify does not notice, since it compares what the network holds. "
            "Compare predictions with earlier ones, or load it with the code that it was saved with.",
            stacklevel=3,
        )


def code_of_transform(training: Training) -> tuple[str, ...] | None:
    """Return the value of `About.transform`."""
    return None if training.transform is None else _code_of(lambda: describe(training.transform))


def check_transform(about: About, training: Training) -> None:
    """Warn if the code of a transform is not that of the file, if both can be compared."""
    code = code_of_transform(training)
    if about.transform and code and about.transform[1:] == code[1:] and about.transform != code:
        warnings.warn(
            "the agent was saved with a transform of the same name and other code, or with other values in it: its "
            "predictions for learnt tasks may differ, which verify does not notice. Give the transform that it was "
            "saved with.", stacklevel=3,
        )  # fmt: skip


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
        restart=network.restart, mask=network.anatomy.chosen, criterion=_name(criterion), training=plain,
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
    return from_json(path, values), tensors


def from_json(path: str | os.PathLike[str], values: dict[str, Any]) -> About:
    """Make an `About` from the JSON in a file.

    Raises:
        DamagedFileError: If the JSON has another form.
    """
    with fitting(path):
        contents.DESCRIPTION("", values)
        try:
            values["capacity"] = Capacity(**values["capacity"])
            _training(values["training"])  # raises an error unless its settings are valid
            if values.get("gate") is not None:
                Gate(**values["gate"])
        except SettingError as error:
            raise ValueError(str(error)) from error
        if "replay" in values:
            contents.check_replay(values["replay"])
        values["days"] = tuple(map(record_of, values["days"]))
        if values.get("refused") is not None:
            values["refused"] = record_of(values["refused"])
        values["tasks"] = tuple(_form(form) for form in values["tasks"])
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return About(**fields)


def _form(values: Mapping[str, Any]) -> Form:
    # Names were once what a user gave, also numbers.
    return Form(**{**values, "shape": tuple(values["shape"]), "name": str(values["name"])})


def write(
    path: str | os.PathLike[str], about: About, tensors: Mapping[str, Tensor], check: Callable[[], None]
) -> None:  # fmt: skip
    """Write the file of an agent, whole or not at all.

    Args:
        path: The file.
        about: The description.
        tensors: All tensors, by name.
        check: Raises ValueError unless both fit the agent.

    Raises:
        SealError: If the file could not be loaded.
        OutputError: If the file cannot be written.
    """
    values = to_json(about)
    try:
        contents.DESCRIPTION("", values)
        check()
    except ValueError as error:
        raise SealError(
            f"save: the agent is not as its last night left it, and could not be loaded: {error}. Something "
            "other than the agent has written to it; load the agent from a file that was saved before."
        ) from error
    archive.write(path, "agent", values, tensors)


def settings_of(about: About) -> dict[str, Any]:
    """Return the arguments of an agent that its file holds whole, by name."""
    return {
        "capacity": about.capacity, "seed": about.seed, "biases": about.biases, "restart": about.restart,
        "head": about.head, "exclude": about.frozen, "private": about.private, "mask": Stored(about.mask),
        "replay": about.replayed, "gate": about.made_gate(), "keeps": about.keeps,
    }  # fmt: skip


@contextlib.contextmanager
def fitting(path: str | os.PathLike[str], what: str = "description of an agent") -> Iterator[None]:
    """Raise DamagedFileError for a `path` in place of the errors of values that do not fit."""
    try:
        yield
    except DaynightError:  # such as the errors of `verify` and of another network, which say more
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise DamagedFileError(
            f"{path} has no valid {what}: {error}. It may be damaged: take an older copy."
        ) from error


def check(
    path: str | os.PathLike[str],
    about: About,
    tensors: Mapping[str, Tensor],
    way: Consolidation,
    has_network: bool = False,
    is_day: bool = False,
) -> None:
    """Raise DamagedFileError unless the description and the tensors of an agent fit together.

    Args:
        path: The file.
        about: The description.
        tensors: The tensors of the network, and those that are kept beside it, by name.
        way: The way to consolidate.
        has_network: Whether the user has given the network.
        is_day: Whether a day had begun.
    """
    n_living = len(about.days)
    with fitting(path):
        contents.check_tasks(about, is_day)
        for what, wanted, found in (("seals", way.freezes, about.seals), ("kept tasks", way.keeps_tasks, about.kept)):
            if len(found) != (n_living if wanted else 0) and (found or what == "seals"):  # checkpoints keep no tasks
                raise ValueError(f"it has {n_living} days, and {len(found)} {what}")
        if not has_network:
            contents.check_model(about, tensors)
        contents.check_tensors(tensors, about, is_day, about.private if has_network else None)
        contents.check_heads(about, tensors)


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


def network_of(about: About, network: Network | None, tensors: Mapping[str, Tensor]) -> Network:
    """Return the network that takes over the saved tensors; a model of the library gets their type.

    Raises:
        SettingError: If `network` is needed and missing.
    """
    if network is not None:
        return network
    if about.model is None:
        raise SettingError("the agent was saved with a network of your own code: give it with network=.", page="files")
    # With a head of one output where a task's head takes its place: nothing in the file shows how large it was.
    module = models.made_of({**about.model, "n_outputs": 1} if about.tasks else about.model)
    cast(Any, module).settings = {name: value for name, value in about.model.items() if name != "name"}
    found = [value.dtype for name, value in tensors.items() if name.startswith("module.") and value.is_floating_point()]
    return module.to(found[0]) if found else module


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
        return _training(about.training | known)
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


def _training(plain: dict[str, Any]) -> Training:
    """Return the training with the settings in a file.

    Raises:
        SettingError: If a setting is not valid.
    """
    name = plain["autocast"]
    dtype = {str(known).removeprefix("torch."): known for known in (torch.bfloat16, torch.float16)}.get(name, name)
    return Training(**{**plain, "autocast": dtype})


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
    if not all(isinstance(task, Task) for task in kept):
        raise DataError("kept= must be tasks, as the agent learnt them: daynight.Task(train=..., test=...) each.")
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
