"""`Keepsakes`: what each finished task keeps of its own day's data, to notice drift and to be recognised by."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import attrs
import torch
from torch import Tensor

from daynight.data.drift import Drift, Profile, drift
from daynight.data.signatures import Form
from daynight.data.splits import fitted
from daynight.data.tasks import Task
from daynight.errors import DamagedFileError, SettingError, StateError
from daynight.networks import identify
from daynight.networks.identify import Signature
from daynight.support import checks, expected, seeding

#: What a task can keep, as in `daynight.Agent(keeps=...)`, and what it is for, as errors say it.
KINDS = ("profile", "signature")
_FOR = {"profile": "with which new inputs are compared", "signature": "by which their inputs are recognised"}
#: What the names of keepsakes in files begin with.
PREFIX = "keepsakes."
#: The fields of a profile that are no tensors: whole numbers, or lists of them.
_PLAIN = ("n", "input_shape", "shape")
Part = TypeVar("Part", Profile, Signature)


def kinds_of(keeps: Any) -> tuple[str, ...]:
    """Return what a user lets tasks keep, in the order of `KINDS`.

    Raises:
        SettingError: If `keeps` is not a collection of these texts.
    """
    if isinstance(keeps, str) or not isinstance(keeps, Collection):
        raise SettingError(f"keeps must be a collection, such as ('profile', 'signature'), not {checks.shown(keeps)}.")
    for kind in keeps:
        checks.one_of("keeps: each value", kind, KINDS)
    return tuple(kind for kind in KINDS if kind in keeps)


@attrs.frozen(eq=False)
class Keepsake:
    """What one task keeps of its data; a part that the agent does not keep is None."""

    profile: Profile | None = None
    signature: Signature | None = None

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return all numbers as tensors, by name after a prefix, such as ``keepsakes.0.profile.values``."""
        found = dict[str, Tensor]()
        for kind, part in (("profile", self.profile), ("signature", self.signature)):
            state: Mapping[str, Any] = {} if part is None else part.state()
            for name, value in state.items():
                is_plain = not isinstance(value, Tensor)
                found[f"{prefix}.{kind}.{name}"] = torch.tensor(value, dtype=torch.int64) if is_plain else value
        return found


class Keepsakes:
    """What the living finished tasks keep, by index of the task.

    Args:
        kinds: What each task keeps (see `KINDS`).
        dtype: Type of the network's weights, to which inputs are converted before they are looked at.
        device: Device of the network, whose random generators are restored after data were read.
        seed: The agent's seed.

    Attributes:
        kinds: As given.
    """

    def __init__(self, kinds: tuple[str, ...], dtype: torch.dtype, device: torch.device, seed: int) -> None:
        self.kinds, self._dtype, self._device, self._seed = kinds, dtype, device, seed
        self._of: dict[int, Keepsake] = {}

    def made(self, task: Task, day: int, others: Iterable[int]) -> Keepsake:
        """Return what a task is to keep, which only its data, the seed and `others` determine.

        The data are read in chunks, once for each part. Nothing is entered yet.

        Args:
            task: The task. The levels of the signature are those of its validation split, if it has one.
            day: Its index.
            others: The finished tasks that will live beside it.

        Raises:
            DataError: If examples cannot be read.
        """
        if not self.kinds:
            return Keepsake()
        has_profile, has_signature = (kind in self.kinds for kind in KINDS)
        earlier = self._signatures(others)
        # A user's dataset or view may draw from the global generators.
        with seeding.forked(self._seed, "keepsakes", day, device=self._device):
            return Keepsake(
                Profile.of(task.train, seed=self._seed) if has_profile else None,
                identify.fit(task.train, task.validation, earlier, self._features) if has_signature else None,
            )

    def keep(self, task: int, keepsake: Keepsake) -> None:
        """Enter what a task keeps."""
        self._of[task] = keepsake

    def forget_all_but(self, living: Collection[int]) -> None:
        """Drop what tasks other than these have kept."""
        known = set(living)  # there may be a thousand
        self._of = {task: keepsake for task, keepsake in self._of.items() if task in known}

    def drift(self, task: int, inputs: Any, level: float) -> Drift:
        """Compare inputs with the profile of a finished task (see `daynight.data.drift.drift`).

        Raises:
            StateError: If tasks keep no profile.
        """
        self._require("drift", "profile")
        profile = self._of[task].profile
        assert profile is not None
        return drift(profile, inputs, level=level, seed=self._seed)

    def check(self, call: str, tasks: Collection[int]) -> None:
        """Raise StateError, which names `call`, unless tasks keep signatures and at least one is finished."""
        self._require(call, "signature")
        if not tasks:
            raise StateError(f"{call}: no task is finished. Call finish_night before, or name the day's task.")

    def probabilities(self, inputs: Tensor, tasks: Collection[int]) -> Tensor:
        """Return the probabilities that inputs belong to each of some tasks, and to none of them.

        Args:
            inputs: (n, ...), as a network reads them.
            tasks: Indices of living finished tasks.

        Returns:
            float64 (n, tasks + 1) on the CPU; see `daynight.networks.identify.probabilities`.
        """
        return identify.probabilities(self._signatures(tasks), inputs, self._features)

    def used_by(self, task: int) -> dict[str, Tensor]:
        """Return all tensors that a task keeps, by their names in files; none for a task that is not finished."""
        return self._of[task].tensors(f"{PREFIX}{task}") if task in self._of else {}

    def state(self) -> dict[str, Tensor]:
        """Return all tensors by their names in files."""
        return {name: tensor for task in self._of for name, tensor in self.used_by(task).items()}

    def restore(self, tensors: Mapping[str, Tensor], forms: Mapping[int, Form]) -> None:
        """Take over what `state` returned.

        Args:
            tensors: The tensors by their names in files, without `PREFIX`.
            forms: The forms of the living finished tasks, by index.

        Raises:
            ValueError: If tensors are missing or left over, or have values that do not fit each other or the tasks.
        """
        groups = defaultdict[str, dict[str, Tensor]](dict)
        for name, tensor in tensors.items():
            of, _, field = name.rpartition(".")
            groups[of][field] = tensor
        found = dict[int, Keepsake]()
        for task, form in forms.items():
            state = {kind: groups.pop(f"{task}.{kind}", {}) for kind in self.kinds}
            found[task] = Keepsake(
                _profile_of(task, state["profile"], form) if "profile" in state else None,
                _signature_of(task, state["signature"], form) if "signature" in state else None,
            )
        if groups:
            first = f"{PREFIX}{min(groups)}".rstrip(".")
            raise ValueError(f"there are tensors {first}... that no living task keeps")
        self._of = found

    def _signatures(self, tasks: Iterable[int]) -> list[Signature]:
        found = [self._of[task].signature for task in tasks]
        return [signature for signature in found if signature is not None]

    def _features(self, inputs: Tensor) -> Tensor:
        """Return the features (n, features) of inputs (n, ...), converted as the network reads them."""
        read = fitted(inputs, self._dtype, torch.device("cpu"))
        return identify.sketch(torch.view_as_real(read) if read.is_complex() else read)

    def _require(self, call: str, kind: str) -> None:
        if kind not in self.kinds:
            raise StateError(
                f"{call}: the tasks of this agent keep no {kind}, {_FOR[kind]}. Give "
                f'keeps=("{kind}",) when the agent is made.'
            )


def _profile_of(task: int, tensors: Mapping[str, Tensor], form: Form) -> Profile:
    """Return the profile of a task; raise ValueError unless its tensors fit each other and the task."""
    state: dict[str, Any] = dict(tensors)
    for name in _PLAIN:
        if name in state:
            expected.tensor(None, torch.int64)(f"keepsakes.{task}.profile.{name}", state[name])
            state[name] = state[name].tolist()
    profile = _checked(task, Profile.restore, state)
    if profile.input_shape != form.shape:
        raise ValueError(f"the profile of task {task} is of inputs {profile.input_shape}, and the task's {form.shape}")
    return profile


def _signature_of(task: int, tensors: Mapping[str, Tensor], form: Form) -> Signature:
    """Return the signature of a task; raise ValueError unless its tensors fit each other and the task."""
    signature = _checked(task, Signature.restore, tensors)
    n_classes, n_features = signature.means.shape
    n_numbers = math.prod(form.shape)  # twice as many if they are complex
    if n_features not in [min(identify.N_FEATURES, n) for n in (n_numbers, 2 * n_numbers)]:
        raise ValueError(f"the signature of task {task} has {n_features:,} features, and its inputs {n_numbers:,}")
    if n_classes > form.n_outputs:
        raise ValueError(f"the signature of task {task} has {n_classes:,} classes, and the task {form.n_outputs:,}")
    return signature


def _checked(task: int, restore: Callable[[Any], Part], state: Mapping[str, Any]) -> Part:
    try:
        return restore(state)
    except (ValueError, DamagedFileError) as error:
        raise ValueError(f"keepsakes of task {task}: {str(error).rstrip('.')}") from error
