"""`Answers`: outputs and scores of an agent's tasks, which change nothing."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from daynight.data.roll import Roll, Views
from daynight.data.signatures import Form
from daynight.data.splits import fitted
from daynight.data.tasks import Task
from daynight.errors import DataError, StateError
from daynight.networks.identify import Answer
from daynight.networks.masked import MaskedNetwork
from daynight.networks.prediction import outputs_of, portions, predict
from daynight.support import seeding
from daynight.training.day import Day
from daynight.training.gatekeeper import widened
from daynight.training.keepsakes import Keepsakes
from daynight.training.settings import Training


@attrs.frozen(eq=False, kw_only=True)
class Answers:
    """Computes outputs and scores of the tasks that an agent knows. It is made for one call.

    Attributes:
        network: The agent's network.
        training: How the agent learns, and how outputs are measured.
        roll: The tasks that the agent knows.
        keepsakes: What finished tasks keep of their data.
        device: The network's device.
        today: The current day; None between days.
    """

    network: MaskedNetwork
    training: Training
    roll: Roll
    keepsakes: Keepsakes
    device: torch.device
    today: Day | None

    def learnt(self, task: Any) -> int:
        """Return the index of a task that has begun; write the numbers trained so far to the network."""
        index = self.roll.index_of(task)
        if self.today is not None:
            self.today.trainer.flush()
        return index

    def finished(self, call: str, task: Any) -> int:
        """Return the index of a finished task.

        Raises:
            StateError: If it is not finished; the error names `call`.
        """
        index = self.learnt(task)
        if index >= self.network.n_tasks:
            raise StateError(f"{call}: task {task} is not finished. Call finish_night before.")
        return index

    def of_task(self, inputs: Any, task: int | str) -> Tensor:
        """Return the outputs (n, outputs) of a task for inputs (n, ...) as a user gives them."""
        index = self.learnt(task)
        return self._outputs(self.roll.forms[index].read(inputs, self.network.dtype, self.device), index)

    def without_task(self, inputs: Any) -> Answer:
        """Return the outputs of all living tasks for inputs (n, ...) as a user gives them, and the chosen tasks."""
        read, probabilities = self._recognised("predict without a task", inputs)
        outputs = {index: self._outputs(read, self.learnt(index)) for index in self.network.living}
        return Answer.of(outputs, probabilities)

    def recognised(self, call: str, inputs: Any) -> Tensor:
        """Return the probabilities (n, living tasks + 1) that inputs (n, ...) belong to the tasks, or to none."""
        return self._recognised(call, inputs)[1]

    def measured(self, task: Task, index: int, split: str) -> tuple[float, float]:
        """Return loss and score of task `index` on one of its splits."""
        if index in self.roll.forms:
            self.roll.forms[index].check_outputs(task, index)
            self.roll.forms[index].check_shape(task, Form.of(task), index)
        index = self.learnt(index)
        examples = task.splits()[split]
        outputs = outputs_of(self.network, examples, index, self.training.transform, self.device)
        targets = fitted(examples.targets, self.network.dtype, self.device)
        return self.training.judge(task, outputs, targets)

    def score_without_task(self, task: Task, index: int, split: str) -> float:
        """Return the share of a split's examples that get the right task and class if nobody names the task."""
        self.roll.forms[index].check_outputs(task, index)
        living = self.network.living
        examples, own = task.splits()[split], living.index(self.learnt(index))
        outputs = outputs_of(self.network, examples, index, self.training.transform, self.device)
        chosen = torch.cat([
            self.keepsakes.probabilities(inputs, living)[:, :-1].argmax(1) for inputs, _ in portions(examples)
        ])  # fmt: skip
        return float(((outputs.argmax(1).cpu() == examples.targets.cpu()) & (chosen == own)).double().mean())

    def of_predecessor(self, task: Task) -> tuple[int, float | None, float] | None:
        """Measure the version that a task is to succeed on the task's training data (see `Agent.test_first`)."""
        index = self.roll.predecessor(task, Views.of_task(task))
        if index is None:
            return None
        self.roll.forms[index].check_shape(task, Form.of(task), self.network.n_tasks)
        outputs = outputs_of(self.network, task.train, index, self.training.transform, self.device)
        whole = widened(outputs, task.n_outputs)
        loss, score = self.training.judge(task, whole, fitted(task.train.targets, self.network.dtype, self.device))
        return index, loss if len(outputs.T) == task.n_outputs else None, score

    def probe(self, task: int) -> Tensor:
        """Return 64 inputs (64, ...) of a task's shape, as the network reads them: random numbers from 0 to 1."""
        generator = seeding.generator(0, "probe", task)
        return self.roll.forms[task].random_inputs(64, generator, self.network.dtype, self.device)

    def _recognised(self, call: str, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return inputs (n, ...) as the network reads them, and the probabilities (n, living tasks + 1)."""
        living = self.network.living
        self.keepsakes.check(call, living)
        read = self.roll.forms[living[0]].read(inputs, self.network.dtype, self.device)
        return read, self.keepsakes.probabilities(read, living).to(self.device)

    def _outputs(self, inputs: Tensor, index: int) -> Tensor:
        """Return the outputs of a task for inputs (n, ...) as the network reads them."""
        try:
            return predict(self.network, inputs, index, self.training.transform)
        except IndexError as error:
            raise DataError(
                f"the network cannot read these inputs: {error}. Whole numbers are indices, such as of an "
                "embedding, and must be within its range."
            ) from error
