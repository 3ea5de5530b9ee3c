"""`Knowledge`: the tasks that have been learnt, to be asked about."""

from __future__ import annotations

import numbers
import os
from typing import Any

import torch
from torch import Tensor, nn

from daynight.data.signatures import Form, check_task
from daynight.data.splits import fitted
from daynight.data.tasks import Task, titled
from daynight.errors import DataError, StateError
from daynight.history import Record
from daynight.networks import compact as subnetworks
from daynight.networks.compact import plain
from daynight.networks.export import export
from daynight.networks.masked import FREE, MaskedNetwork
from daynight.networks.prediction import outputs_of, predict
from daynight.storage import seals
from daynight.storage.seals import Seal
from daynight.storage.sizes import Size, sizes
from daynight.support import seeding
from daynight.training.settings import Training


class Knowledge:
    """What is known of the tasks that a network has learnt.

    Args:
        network: The network.
        training: How they are learnt; predictions need its transform.
    """

    def __init__(self, network: MaskedNetwork, training: Training) -> None:
        self.network, self.training = network, training
        self.device = next(iter(network.weights.values())).device
        self._days: list[Record] = []
        self._tasks: list[Form] = []
        self._seals: list[Seal] = []

    @property
    def day(self) -> int:
        """Index of the day that is under way or next, which is the number of finished days."""
        return self.network.n_tasks

    @property
    def days(self) -> tuple[Record, ...]:
        """The record of each finished day."""
        return tuple(self._days)

    @property
    def task_names(self) -> tuple[str, ...]:
        """The name of each finished task, as it was learnt; empty for one that had none."""
        return tuple(form.name for form in self._tasks[: self.day])

    @property
    def n_weights(self) -> int:
        """Number of maskable weights, of which the capacity is a share."""
        return sum(self.network.sizes.values())

    @property
    def owned(self) -> tuple[int, ...]:
        """Number of weights that each finished task owns."""
        return tuple(sum(self.network.count(task).values()) for task in range(self.day))

    @property
    def n_free(self) -> int:
        """Number of weights that no task owns."""
        return sum(self.network.count(FREE).values())

    def predict(self, inputs: Any, task: int) -> Tensor:
        """Compute a task's outputs. Changes nothing, and gives the same bits whenever it is called.

        Args:
            inputs: Tensor or array (n, ...) of the shape that the task was trained on; uint8 are pixels
                and become 0 to 1.
            task: Index of a finished task, or of the one under way.

        Returns:
            Class scores before a softmax, or regression outputs, as floating point (n, outputs of the task), on the
            agent's device.

        Raises:
            StateError: If the task has not begun.
            DataError: If the inputs have another shape.
        """
        self._check_learnt(task)
        inputs = self._tasks[0].read(inputs, self.network.dtype, self.device)
        return predict(self.network, inputs, int(task), self.training.transform)

    def evaluate(self, task: Task, index: int, split: str = "test") -> tuple[float, float]:
        """Measure loss and score of task `index` on a split of it.

        Args:
            task: The task.
            index: The day on which it was learnt, from 0.
            split: ``"test"``, ``"validation"`` or ``"train"``.

        Returns:
            Loss, and metric (accuracy by default).

        Raises:
            DataError: If the task has no such split, or another number of outputs or input shape.
            StateError: If the day has not begun.
        """
        check_task(task)
        if split not in task.splits():
            raise DataError(
                f"{titled(task.name)} has no {split!r} split, only {', '.join(task.splits())}. See hold_out."
            )
        if 0 <= index < len(self._tasks):
            self._tasks[index].check_outputs(task, index)
        self._check_learnt(index)
        examples = task.splits()[split]
        with seeding.forked(0, "evaluate", int(index), device=self.device):  # for metrics that draw random numbers
            outputs = outputs_of(self.network, examples, int(index), self.training.transform, self.device)
            targets = fitted(examples.targets, self.network.dtype, self.device)
            return self.training.judge(task, outputs, targets)

    def verify(self) -> None:
        """Make sure that all numbers that finished tasks predict with are, bit for bit, what they were at their dawns.

        Raises:
            SealError: If something has moved; it names what.
            StateError: If the tasks are not sealed, because what they own goes on learning.
        """
        if len(self._seals) < self.day:
            raise StateError(
                "verify: tasks are sealed with consolidation='freeze' alone; here what is owned goes on learning."
            )
        for task, sealed in enumerate(self._seals):
            seals.check(task, sealed, seals.seal(self.network.seen_by(task)))

    def subnetwork(self, task: int, *, compact: bool = False) -> nn.Module:
        """Give what computes a finished task's outputs, as a plain module in evaluation mode.

        It reads inputs as a network does: floating point, and after the training's transform, if there is one.

        Args:
            task: Index of the task.
            compact: Whether to leave out the units, channels and inputs that have no effect, as far as the network is a
                chain of layers. Outputs are then equal but for rounding; it is checked that they are within 1e-6.

        Returns:
            A copy of the module, with the task's head, and what it does not use at zero; or a smaller one.

        Raises:
            StateError: If the task is not finished.
            ExportError: If the compact form gives other outputs.
        """
        module = plain(self.network, self._finished("subnetwork", task))
        if not compact:
            return module
        inputs = self._probe(task)
        inputs = inputs if self.training.transform is None else self.training.transform(inputs)
        return subnetworks.compact(module, {*self.network.weights, self.network.anatomy.head}, inputs)

    def export(self, task: int, path: str | os.PathLike[str], *, compact: bool = False) -> None:
        """Write what computes a finished task's outputs into a file that other programs run.

        Args:
            task: Index of the task.
            path: Its ending names the form: ``.pt`` (a state dict) or ``.safetensors``, of `subnetwork`; ``.pt2``
                (`torch.export`) or ``.onnx``, which predict as `predict` does, for any number of inputs.
            compact: See `subnetwork`.

        Raises:
            StateError: If the task is not finished.
            SettingError: If there is no such form.
            MissingPackageError: If ONNX is not installed.
            ExportError: If it cannot be exported, or what was written gives outputs that are not within 1e-5.
            OutputError: If it cannot be written.
        """
        network, inputs = self.subnetwork(task, compact=compact), self._probe(task)
        export(path, network, self.training.transform, inputs, self.predict(inputs, task))

    def sizes(self) -> tuple[Size, ...]:
        """Say how large the parts of the agent are, heads, owner maps and the optimizer's state included.

        Raises:
            StateError: If a day is under way.
        """
        if len(self._tasks) > self.day:
            raise StateError(f"sizes: day {self.day} is under way. Call finish_night, or abandon_day, before.")
        return sizes(self.network, self.training)

    def _finished(self, call: str, task: Any) -> int:
        self._check_learnt(task)
        if task >= self.day:
            raise StateError(f"{call}: task {task} is not finished. Call finish_night before.")
        return int(task)

    def _probe(self, task: int) -> Tensor:
        """Give some inputs (batch, ...) like those of a task, as a network reads them: random numbers from 0 to 1."""
        form, n = self._tasks[task], 64
        generator = seeding.generator(0, "probe", task)
        if form.is_floating_point:
            return torch.rand(n, *form.shape, generator=generator).to(self.device, self.network.dtype)
        return torch.randint(2, (n, *form.shape), generator=generator).to(self.device)

    def _check_learnt(self, task: Any) -> None:
        """Refuse a task that has not begun, and make the network ready to be asked about one that has."""
        last = len(self._tasks) - 1
        if isinstance(task, bool) or not isinstance(task, numbers.Integral) or not 0 <= int(task) <= last:
            known = f"tasks 0 to {last} have" if last > 0 else "task 0 has" if last == 0 else "none has"
            raise StateError(f"task {task!r} has not been learnt: {known} so far.")
        self._settle()

    def _settle(self) -> None:
        """Bring the network up to date with what has been trained."""
