"""`Gatekeeper`: tries a task's new version beside the old one at dawn, and keeps held-out examples of past days."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from daynight import metrics
from daynight.data.replay import Kept, Memory, check_targets, parts_of
from daynight.data.splits import Split, fitted
from daynight.data.tasks import Task, titled
from daynight.errors import DataError, SettingError
from daynight.networks.masked import MaskedNetwork
from daynight.networks.prediction import outputs_of
from daynight.nights.gate import Gate, Verdict
from daynight.support import expected, seeding
from daynight.support.named import parted, prefixed
from daynight.training.settings import Training

#: Which values of the library's own metrics are better.
_BETTER = (
    (metrics.accuracy, "higher"), (metrics.label_accuracy, "higher"), (metrics.r_squared, "higher"),
    (metrics.mean_squared_error, "lower"),
)  # fmt: skip
_STATE = expected.mapping(expected.fields({"n_seen": expected.whole(), "below": expected.number(0, 1)}))


class Gatekeeper:
    """Decides by a gate whether the day's version of a task takes over from the one that it succeeds.

    Both are tried on the validation examples of the day, and on a uniform sample of those of the days before, which is
    kept with each living version.

    Args:
        gate: The rule.
        seed: Names the random streams.
    """

    def __init__(self, gate: Gate, seed: int) -> None:
        self.gate, self._seed = gate, seed
        self._held: dict[int, Memory] = {}  # by living task

    def check(self, task: Task, succeeds: bool, training: Training, index: int | None = None) -> None:
        """Raise an error if a task succeeds another, and could not be compared with it.

        Args:
            task: The task.
            succeeds: Whether it succeeds another.
            training: How outputs are measured.
            index: Index of that other; None if there is none, or it is not learnt yet.

        Raises:
            DataError: If the task has no held-out examples, or other targets than the examples that are kept.
            SettingError: If the gate takes the metric for one of which less is better, or more, and it is not.
        """
        self._check_metric(training.metric_of(task))
        if index in self._held:
            for part in self._held[index].all():
                check_targets(task, part)
        if succeeds and task.validation is None:
            raise DataError(
                f"{titled(task.name)} has no validation split, on which the gate compares it with the version that it "
                "succeeds. Hold out some of its training data: task.hold_out(0.2)."
            )

    def _check_metric(self, metric: Callable[..., Any]) -> None:
        known = metrics.given(metric)
        known = known.func if isinstance(known, functools.partial) else known
        for own, better in _BETTER:
            if known is own and better != self.gate.better:
                raise SettingError(
                    f"Gate: better={self.gate.better!r}, and of {own.__name__} the {better} value is better. Set "
                    f"better={better!r}, or another Training(metric=...)."
                )

    def judged(
        self, task: Task, succeeds: int, network: MaskedNetwork, training: Training, device: torch.device
    ) -> Verdict:
        """Compare the day's version of a task with the one that it succeeds.

        Args:
            task: The day's task, with a validation split.
            succeeds: Index of the version that it succeeds.
            network: The network, at the end of the night.
            training: How outputs are measured.
            device: The device of the network.
        """
        assert task.validation is not None
        held = self._held[succeeds].all() if succeeds in self._held else ()
        splits = [task.validation, *(Split(part.inputs, part.targets) for part in held)]
        outputs: dict[int | None, Tensor] = {}
        for version in (succeeds, None):
            found = [outputs_of(network, split, version, training.transform, device) for split in splits]
            outputs[version] = torch.cat([widened(part, task.n_outputs) for part in found])
        targets = torch.cat([fitted(split.targets, network.dtype, device) for split in splits])
        drawn = seeding.generator(self._seed, "gate", network.n_tasks)
        return self.gate.judge(
            training.metric_of(task), outputs[succeeds], outputs[None], targets, drawn, n_today=len(task.validation)
        )

    def accept(self, day: int, task: Task, succeeds: int | None) -> Callable[[], None]:
        """Return a function that enters the day's version, whose validation examples are read now.

        Args:
            day: Index of the day.
            task: The day's task.
            succeeds: Index of the version that it succeeds; None if there is none.
        """
        memory = copy.copy(self._held[succeeds]) if succeeds in self._held else None
        if self.gate.holds and task.validation is not None:
            memory = memory or Memory(self.gate.holds, self._seed)
            memory.add(day, task.validation)

        def enter() -> None:
            if memory is not None:
                self._held[day] = memory

        return enter

    def forget(self, living: Iterable[int]) -> None:
        """Drop the examples of versions that are not among the living ones."""
        self._held = {task: self._held[task] for task in living if task in self._held}

    def fork(self) -> Gatekeeper:
        """Return a copy."""
        twin = Gatekeeper(self.gate, self._seed)
        twin._held = {task: copy.copy(memory) for task, memory in self._held.items()}
        return twin

    def values(self) -> dict[str, Any]:
        """Return the plain values that belong to the tensors, by the index of a task, as text."""
        return {str(task): memory.values() for task, memory in self._held.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the kept examples by name, such as ``3.0.inputs``."""
        found = dict[str, Tensor]()
        for task, memory in self._held.items():
            found |= prefixed(f"{task}.", memory.tensors())
        return found

    def examples(self) -> Iterator[tuple[int, Kept]]:
        """Yield the index of each task, and its kept examples as a network reads them, in parts of one form each."""
        for task, memory in self._held.items():
            for part in memory.examples():
                yield task, part

    def changed(self) -> list[str]:
        """Return the names of the tensors that something other than the agent has changed."""
        return [f"{task}.{name}" for task, memory in self._held.items() for name in memory.changed()]

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor], living: Iterable[int]) -> None:
        """Take over what `values` and `tensors` returned.

        Args:
            values: The plain values.
            tensors: The tensors by name.
            living: The indices of the living tasks.

        Raises:
            ValueError: If values are missing, or do not fit each other.
        """
        _STATE("gate_held", dict(values))
        held = dict[int, Memory]()
        for task in living:
            tensors, own = parted(tensors, f"{task}.")
            if str(task) in values:
                held[task] = Memory(max(1, self.gate.holds), self._seed)
                held[task].restore({**values[str(task)], "parts": parts_of(own)})
            elif own:
                raise ValueError(f"the held-out examples of task {task} are not whole")
        if tensors or len(held) < len(values):
            raise ValueError("there are held-out examples of a task that is not a living one")
        self._held = held


def widened(outputs: Tensor, n: int) -> Tensor:
    """Return outputs with more columns: a class that a version does not know is as its least likely one.

    So it is never chosen, and losses stay finite.

    Args:
        outputs: (batch, outputs of a version).
        n: Number of columns, that many or more.
    """
    missing = n - outputs.shape[1]
    return torch.cat([outputs, outputs.amin(1, keepdim=True).expand(-1, missing)], dim=1) if missing else outputs
