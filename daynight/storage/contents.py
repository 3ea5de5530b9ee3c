"""`About`: the description of an agent in a file, and the checks that it and the tensors of the file fit together.

A right digest does not mean that values fit. They are checked before a network is made, which may take memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from daynight import models
from daynight.data.replay import Kept, Memory, Replay, parts_of
from daynight.data.signatures import Form
from daynight.errors import CapacityError, DaynightError, SettingError
from daynight.history import Record
from daynight.networks.masked import FREE, Biases, MaskedNetwork, Restart
from daynight.networks.sight import Told, owned_by
from daynight.nights.gate import Gate
from daynight.pruning.capacity import Capacity
from daynight.storage.seals import Seal
from daynight.support import checks, expected
from daynight.support.expected import Form as Expected
from daynight.training.keepsakes import KINDS
from daynight.training.settings import Training

#: Integers of files are below this, so that they can be computed with in any way.
_MOST = 10**18
#: The largest number of days, of which histories have no more either.
_MOST_DAYS = 10**6
#: The largest numbers of outputs, of outputs of a head with some for each place of an image, and of numbers in a head,
#: that a file may state without tensors of that size.
_MOST_OUTPUTS, _MOST_OF_PLACES, _MOST_IN_HEAD = 10**3, 2**24, 2**26
_ANY, _NAMED = expected.anything, expected.mapping(expected.anything)
_NAME, _DIGEST, _SIZE = expected.text(r"(?s:.+)"), expected.text("[0-9a-f]{64}"), expected.whole(1, 2**31)
#: The functions of a `Training`. A file has only their names.
FUNCTIONS = ("optimizer", "scheduler", "loss", "metric", "transform", "augment")
_MLP = {"name": expected.one_of("MLP"), "widths": expected.listed(_SIZE), "n_outputs": _SIZE}
_CONVNET = {
    "name": expected.one_of("ConvNet"),
    "n_outputs": _SIZE,
    "fc8192_layer": expected.flag,
    "dropout": expected.number(0, 1),
    "side": expected.whole(4, 2**20),
}
_TASK = {
    "shape": expected.listed(expected.whole(0, 2**31)),
    "is_floating_point": expected.flag,
    "n_outputs": _SIZE,
    "name": expected.either(expected.text(), expected.whole()),
}
_LINE = {"line": _NAME}
#: What the names of held-out examples of the gate, and of examples that replay keeps, begin with.
GATE, REPLAY = "gate.", "replay."
#: The settings that each file has, and all of them: a file may lack those that are newer than it.
_OLDEST = ("batch_size", "carry_optimizer", "clip_norm", "autocast", "engine")
_SETTINGS = [field.name for field in attrs.fields(Training) if field.name not in FUNCTIONS]
#: The form of an agent's description in JSON. `Capacity`, `Training` and `Record` themselves check what they hold.
DESCRIPTION: Expected = expected.fields(
    {
        "model": expected.optional(expected.either(expected.fields(_MLP), expected.fields(_CONVNET))),
        "head": _NAME,
        "frozen": expected.listed(_NAME),
        "private": expected.listed(_NAME),
        "biases": expected.one_of("freeze-after-first", "per-task"),
        "restart": expected.one_of("zero", "redraw", "keep"),
        "consolidation": _NAME,
        "capacity": _NAMED,
        "seed": expected.whole(),
        "criterion": _NAME,
        "training": expected.fields(
            dict.fromkeys(_OLDEST, _ANY) | {"batch_size": expected.whole(1, 2**31)}, dict.fromkeys(_SETTINGS, _ANY)
        ),
        "functions": expected.mapping(_NAME, expected.one_of(*FUNCTIONS)),
        "n_steps": expected.whole(0, _MOST),
        "days": expected.listed(_NAMED),
        "tasks": expected.listed(expected.fields(_TASK, _LINE)),
        "seals": expected.listed(expected.mapping(_DIGEST)),
        "kept": expected.listed(_DIGEST),
    },
    {
        "code": expected.optional(expected.listed(_NAME, 3)),
        "mask": expected.listed(_NAME),
        "transform": expected.listed(_NAME, 3),
        "n_days": expected.whole(0, _MOST_DAYS),
        "sees": expected.mapping(expected.listed(expected.whole(0, _MOST))),
        "succeeds": expected.whole(0, _MOST),
        "replay": expected.fields(
            {"examples": expected.whole(1, _MOST), "share": expected.number(0, 1), "n_seen": expected.whole(0, _MOST),
             "below": expected.number(0, 1)}
        ),
        "gate": _NAMED,
        "gate_held": _NAMED,
        "refused": _NAMED,
        "keeps": expected.listed(expected.one_of(*KINDS)),
    },
)  # fmt: skip


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
        days: The record of each finished day whose task has not retired.
        tasks: The `Form` of each of these tasks and, during a day, of the day's task.
        seals: The seal of each of these tasks; empty if tasks are not sealed.
        kept: Digests of the tasks whose training data the agent keeps.
        code: Digest of the code of a user's network, and the versions of Python and PyTorch with which the digest was
            computed. None for a model of the library, or if the code cannot be described.
        mask: Names of parameters that are masked because the user has named them.
        transform: Digest of the code of a user's transform, and the versions, as in `code`.
        n_days: Number of finished days; None is that of `days`.
        sees: By index of a task, as text, the owners whose weights it sees, if these are not all tasks up to itself.
        succeeds: During a day, index of the task that the day's task succeeds.
        replay: The settings of `Replay`, and the plain values of `Memory.state`; None without replay.
        gate: The settings of the gate; None if there is none.
        gate_held: What belongs to the held-out examples of the gate, by index of a task, as text.
        refused: The record of the last finished day, if the gate has refused its task.
        keeps: What each task keeps of its data; see `daynight.Agent`.
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
    mask: tuple[str, ...] = ()
    transform: tuple[str, ...] | None = None
    n_days: int | None = None
    sees: Mapping[str, Sequence[int]] = attrs.field(factory=dict)
    succeeds: int | None = None
    replay: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    gate_held: Mapping[str, Any] = attrs.field(factory=dict)
    refused: Record | None = None
    keeps: tuple[str, ...] = ()

    @property
    def replayed(self) -> Replay | None:
        """How many examples of past days the agent keeps; None without replay."""
        return None if self.replay is None else Replay(self.replay["examples"], self.replay["share"])

    def made_gate(self) -> Gate | None:
        """Return the gate."""
        return None if self.gate is None else Gate(**self.gate)

    @property
    def n_finished(self) -> int:
        """Number of finished days, also of those whose tasks have retired."""
        return len(self.days) if self.n_days is None else self.n_days

    @property
    def forms(self) -> dict[int, Form]:
        """The form of each task by its index."""
        return dict(zip([*(record.day for record in self.days), self.n_finished], self.tasks, strict=False))

    def without(self, days: Collection[int]) -> About:
        """Return the description without the records, forms and seals of some finished days."""
        some = [index for index, record in enumerate(self.days) if record.day not in days]
        return attrs.evolve(
            self, days=tuple(self.days[index] for index in some),
            tasks=(*(self.tasks[index] for index in some), *self.tasks[len(self.days) :]),
            seals=tuple(self.seals[index] for index in some if self.seals),
        )  # fmt: skip

    def told(self) -> dict[int, Told]:
        """Return what a network must know of each task before its tensors are read, by the task's index."""
        return {
            task: Told(
                form.n_outputs, self.sees.get(str(task)), self.succeeds if task == self.n_finished else None
            ) for task, form in self.forms.items()
        }  # fmt: skip


def check_tensors(
    tensors: Mapping[str, Tensor], about: About, is_day: bool, known: Collection[str] | None = None
) -> None:
    """Raise ValueError unless a network's tensors fit each other and the days.

    Args:
        tensors: The tensors of the network, by name (see `MaskedNetwork.state`).
        about: The description of the agent.
        is_day: Whether the network was saved during a day.
        known: Names of private tensors that have the same shape in all tasks; None is all. That of a buffer may change,
            as of a memory that grows.
    """
    last = about.n_finished - 1 + is_day
    of_days: dict[str, set[str]] = {"heads": set(), "private": set()}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "owners":
            check_owners(name, value, last)
        elif kind == "pruned":
            _check_like(name, value, tensors.get(f"owners.{rest}"), has_type=False)
        elif kind in of_days:
            of_days[kind].add(rest.partition(".")[0])
            own = rest.partition(".")[2]
            if kind == "private" and (known is None or own in known):
                _check_like(name, value, tensors.get(f"module.{own}"))
        elif name.startswith("today.before."):
            own = rest.partition(".")[2]
            if known is None or own in known:
                _check_like(name, value, tensors.get(f"module.{own}"))
        elif name.startswith("today.settled"):
            _check_like(name, value, tensors.get(f"owners.{rest.partition('.')[2]}"), has_type=False)
            if name.startswith("today.settled_owners."):
                check_owners(name, value, last - 1)
        elif name.startswith("today.") and not is_day:
            raise ValueError(f"{name} is of a day, and no day had begun")
    days = {str(record.day) for record in about.days}
    for kind, found in of_days.items():
        if not found <= days:
            raise ValueError(f"there are tensors {kind}... of other tasks than the {len(days)} finished ones")


def check_owners(name: str, value: Any, last: int) -> None:
    """Raise ValueError unless `value` is an owner map of tasks up to `last`."""
    expected.tensor(None, torch.int16, torch.int32)(name, value)
    if value.numel() and not FREE <= int(value.min()) <= int(value.max()) <= last:
        raise ValueError(f"{name} has owners other than {FREE} (free) to {last}")


def _check_like(name: str, value: Tensor, known: Tensor | None, has_type: bool = True) -> None:
    if known is not None and (value.shape != known.shape or (has_type and value.dtype != known.dtype)):
        raise ValueError(f"{name} is {tuple(value.shape)} of {value.dtype}, and the network's is {tuple(known.shape)}")


def check_model(about: About, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless tensors are those of the library's model that a description names.

    The model is made without memory for its numbers.
    """
    if about.model is None:
        return
    for form in about.tasks[:1]:
        if about.model["name"] == "MLP":
            is_read = math.prod(form.shape) == about.model["widths"][0]
        else:
            is_read = form.shape == (3, about.model["side"], about.model["side"])
        if not (is_read and form.is_floating_point):
            raise ValueError(f"the model {about.model['name']} does not read inputs of the shape {form.shape}")
    if len(about.model.get("widths", ())) > len(tensors) + 1:
        raise ValueError("the model has more layers than tensors")
    with torch.device("meta"):
        module = models.made_of(about.model)
    if not about.tasks and sum(p.numel() for p in module.get_submodule("head").parameters()) > _MOST_IN_HEAD:
        raise ValueError("the model has more outputs than can be believed without a task")
    for name, parameter in (*module.named_parameters(), *module.named_buffers()):
        is_of_head = name.startswith(f"{about.head}.")
        if not is_of_head and (found := tensors.get(f"module.{name}")) is not None and found.shape != parameter.shape:
            raise ValueError(
                f"module.{name} is {tuple(found.shape)}, and {tuple(parameter.shape)} in the model that it describes"
            )
        if not is_of_head and found is None:
            raise ValueError(f"module.{name} is missing")


def check_heads(about: About, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a task has many more outputs than its head has numbers: making the head would take memory."""
    for day, form in about.forms.items():
        prefix = f"heads.{day}." if day < about.n_finished else "today.head."
        found = [value for name, value in tensors.items() if name.startswith(prefix)]
        n_numbers = sum(value.numel() for value in found)
        # Others than linear heads, such as convolutions, have outputs for each place of an image.
        is_linear = not found or any(value.dim() == 2 for value in found)
        if form.n_outputs > max(n_numbers, _MOST_OUTPUTS if is_linear else _MOST_OF_PLACES):
            raise ValueError(f"task {day} has {form.n_outputs:,} outputs, and its head {n_numbers:,} numbers")


def check_tasks(about: About, is_day: bool = False) -> None:
    """Raise ValueError unless tasks and records of days fit each other."""
    if any((form.shape, form.is_floating_point) != (about.tasks[0].shape, about.tasks[0].is_floating_point)
           for form in about.tasks):  # fmt: skip
        raise ValueError("the tasks have inputs of different shapes")
    if len(about.tasks) != len(about.days) + is_day:
        raise ValueError(f"it has {len(about.days)} days, and other numbers of tasks")
    step, last = 0, -1
    for record in about.days:
        day = last + 1 if about.n_days is None else record.day
        if (record.kind, record.day, record.phase) != ("day", day, "dawn") or not last < day < about.n_finished:
            raise ValueError(f"the record of day {day} is of another day, or none of a day")
        last = day
        if record.step < step:
            raise ValueError(f"the record of day {day} has fewer steps than the one before")
        step = record.step
    if about.n_days is not None and about.n_days <= len(about.days):
        raise ValueError("n_days is not more than the number of living tasks")
    for task, owners in about.sees.items():
        if not task.isdecimal() or int(task) not in about.forms or any(owner > int(task) for owner in owners):
            raise ValueError(f"sees has a task {task} that there is not, or that sees a later one")
    living = {record.day for record in about.days}
    if about.succeeds is not None and not (is_day and about.succeeds in living):
        raise ValueError(f"the day's task succeeds task {about.succeeds}, and there is no such task")
    if about.refused is not None and (about.refused.day, about.refused.accepted) != (about.n_finished - 1, 0):
        raise ValueError("the record of the refused day is of another day, or says that it was accepted")
    if about.n_steps < step:
        raise ValueError("n_steps is less than at the end of the last day")


def check_network(
    network: MaskedNetwork, about: About, tensors: Mapping[str, Tensor], is_day: bool, is_exact: bool = True
) -> None:
    """Raise ValueError unless a network's tensors have the numbers that belong there. The network does not change.

    Args:
        network: A network of the right kind, with tensors of the same names and shapes.
        about: The description of the agent.
        tensors: The tensors that the network is to take over.
        is_day: Whether they were saved during a day.
        is_exact: Whether tasks own as many weights as the capacity says, as in the library's ways to consolidate.
    """
    n_days = about.n_finished
    owners = {name: tensors[f"owners.{name}"] for name in network.owners if f"owners.{name}" in tensors}
    for name, owner in owners.items():
        weight = tensors.get(f"module.{network.anatomy.masked[name]}")
        if (
            weight is not None
            and weight.shape == owner.shape
            and (n_days or is_day)
            and bool(weight[owner == FREE].any())
        ):
            raise ValueError(f"{network.anatomy.masked[name]} has free weights that are not zero")
    parameters = {name for name, _ in network.module.named_parameters()}
    known = {
        "module": parameters, "pruned": network.owners, "private": parameters,
        "heads": {name for name, _ in network.heads.live.named_parameters()},
    }  # fmt: skip
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        named = rest.partition(".")[2] if kind in ("heads", "private") else rest
        if named in known.get(kind, ()) and not is_day and not checks.all_finite(value):
            raise ValueError(f"{name} has numbers that are not finite")
    sizes, n_before, by_need = tuple(network.sizes.values()), 0, about.capacity.share == "need"
    if about.n_days is not None or about.succeeds is not None:
        _check_owned(network, about, tensors, owners)
        return
    counts_of = _owned_by_task(owners, n_days)
    for day, record in enumerate(about.days):
        n_owned = sum(counts[day] for counts in counts_of)
        n_before += n_owned
        said = _owned_after(about.capacity, sizes, day + 1) if is_exact and not by_need else n_before
        counts = n_owned, sum(sizes) - n_before, sum(sizes)
        if said != n_before or (record.owned, record.free, record.capacity) != counts:
            raise ValueError(f"task {day} owns {n_owned:,} weights, and the capacity or its record has another number")
    if is_exact and by_need:
        _check_chosen(about.capacity, sizes, n_days, owners)


def _check_chosen(capacity: Capacity, sizes: Sequence[int], n_days: int, owners: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless tasks own numbers of weights that their nights could choose."""
    counts = [list(of_day) for of_day in zip(*_owned_by_task(owners, n_days), strict=True)]
    try:
        if len(owners) == len(sizes) and not capacity.allows(sizes, counts):
            raise ValueError("a task owns a number of weights that its night could not choose")
    except CapacityError as error:
        raise ValueError(str(error)) from error


def _check_owned(
    network: MaskedNetwork, about: About, tensors: Mapping[str, Tensor], owners: Mapping[str, Tensor]
) -> None:
    """Raise ValueError unless living tasks own what their records say, and no weight is of a task that nobody needs."""
    owners = {name: tensors.get(f"today.settled_owners.{name}", owner) for name, owner in owners.items()}
    size = sum(network.sizes.values())
    counts_of = _owned_by_task(owners, about.n_finished)
    for record in about.days:
        n_owned = sum(counts[record.day] for counts in counts_of)
        if (record.owned, record.capacity) != (n_owned, size):
            raise ValueError(f"task {record.day} owns {n_owned:,} weights, and its record has another number")
    needed = network.sight.needed
    for name, owner in owners.items():
        if bool(((owner != FREE) & (owner < about.n_finished) & ~owned_by(owner, needed)).any()):
            raise ValueError(f"{name} has weights of tasks that have retired, and that no task sees")


def _owned_by_task(owners: Mapping[str, Tensor], n_tasks: int) -> list[list[int]]:
    """Return, by layer, how many weights each finished task owns."""
    found = []
    for owner in owners.values():
        of_tasks = owner[(owner >= 0) & (owner < n_tasks)].cpu().long()
        found.append(torch.bincount(of_tasks, minlength=n_tasks).tolist())
    return found


def _owned_after(capacity: Capacity, sizes: Sequence[int], n_nights: int) -> int:
    try:
        return sum(capacity.owned_after(sizes, n_nights))
    except DaynightError as error:
        raise ValueError(str(error)) from error


def replay_of(replay: Replay | None, memory: Memory | None) -> dict[str, Any] | None:
    """Return the value of `About.replay`."""
    if replay is None or memory is None:
        return None
    return {"examples": replay.examples, "share": replay.share, **memory.values()}


def check_replay(values: Mapping[str, Any]) -> None:
    """Raise ValueError unless the value of `About.replay` in a file has valid settings."""
    try:
        Replay(values["examples"], values["share"])
    except SettingError as error:
        raise ValueError(str(error)) from error


def memory_state(about: About, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return what `Memory.restore` takes, from a file; None without replay.

    Args:
        about: The description of the agent.
        tensors: The tensors of the kept examples, by name (see `Memory.tensors`).

    Raises:
        ValueError: If parts are missing, or there are some without replay.
    """
    if about.replay is None:
        if tensors:
            raise ValueError(f"{REPLAY}{min(tensors)} is of a past day, and the agent keeps no examples of past days")
        return None
    return {**{name: about.replay[name] for name in ("n_seen", "below")}, "parts": parts_of(tensors)}


def check_memory(memory: Memory, about: About) -> None:
    """Raise ValueError unless all kept examples are of living tasks, and of these tasks' forms."""
    living = {record.day: about.forms[record.day] for record in about.days}
    for part in memory.examples():
        for task in part.tasks.unique().tolist():
            if task not in living:
                raise ValueError(f"there are kept examples of task {task}, which is no living task")
            check_examples("kept", part.at(part.tasks == task), task, living[task])


def check_examples(which: str, part: Kept, task: int, form: Form) -> None:
    """Raise ValueError unless examples, as a network reads them, are of the form of their task.

    Args:
        which: What kind of examples they are, for the error.
        part: The examples.
        task: Index of the task.
        form: Its form.
    """
    targets = part.targets
    if (tuple(part.inputs.shape[1:]), part.inputs.is_floating_point()) != (form.shape, form.is_floating_point):
        raise ValueError(f"{which} examples of task {task} have inputs of another shape or kind than the task")
    if not targets.is_floating_point() and not 0 <= int(targets.min()) <= int(targets.max()) < form.n_outputs:
        raise ValueError(f"{which} examples of task {task} have labels that are none of its {form.n_outputs}")


def check_seals(about: About, names_of: Callable[[int], Collection[str]]) -> None:
    """Raise ValueError unless the seal of each task names the tensors that it is to seal.

    Args:
        about: The description of the agent.
        names_of: Returns the names of the tensors of a finished task that its seal is to name.
    """
    for task, sealed in zip(about.forms, about.seals, strict=False):
        if sealed.keys() != names_of(task):
            raise ValueError(f"the seal of task {task} is not of all tensors that the task uses")
