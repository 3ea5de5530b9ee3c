"""`Ownership`: which task owns each weight of a module, what is a task's own beside, and what each task sees."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from daynight.anatomy import Anatomy
from daynight.heads import Heads, MakeHead, tensors_of

#: What an owner map holds for a weight that no task owns.
FREE = -1


class Ownership:
    """A module with an owner for each of its maskable weights, to be read. `MaskedNetwork` writes it.

    Args:
        module: The module, which is not copied.
        anatomy: Its anatomy.
        make_head: Makes a head from a number of outputs; None makes one of the same kind.
        has_biases: Whether each task has its own biases in masked layers.

    Attributes:
        weights: The maskable weights of each layer.
        owners: By layer, which task owns each of them: `FREE`, or its index.
        heads: The heads.
    """

    def __init__(self, module: nn.Module, anatomy: Anatomy, make_head: MakeHead | None, has_biases: bool) -> None:
        self.module, self.anatomy = module, anatomy
        parameters = dict(module.named_parameters())
        self.weights = {name: parameters[weight] for name, weight in anatomy.masked.items()}
        self.owners = {
            name: torch.full_like(weight, FREE, dtype=torch.int16, requires_grad=False)
            for name, weight in self.weights.items()
        }
        self.heads = self._make_heads(make_head)
        self._names = anatomy.private + (anatomy.biases if has_biases else ())
        self._private: list[dict[str, Tensor]] = []

    @property
    def sizes(self) -> dict[str, int]:
        """Number of maskable weights of each layer."""
        return {name: owner.numel() for name, owner in self.owners.items()}

    @property
    def n_tasks(self) -> int:
        """Number of tasks that are finished."""
        return len(self._private)

    @property
    def dtype(self) -> torch.dtype:
        """Type of its weights, to which floating-point inputs are converted."""
        return next(iter(self.weights.values())).dtype

    def count(self, owner: int) -> dict[str, int]:
        """Count the weights of each layer that belong to task `owner`, or to nobody (`FREE`)."""
        return {name: int(torch.count_nonzero(owners == owner)) for name, owners in self.owners.items()}

    def held(self) -> dict[str, Tensor]:
        """Give per layer which weights the task of the day holds: bool, of the weight's shape."""
        return {name: owners == self.n_tasks for name, owners in self.owners.items()}

    def movable(self) -> dict[str, Tensor]:
        """Give per layer which weights the task of the day may move: bool, of the weight's shape."""
        return self.held()

    def n_private(self, task: int) -> int:
        """Count the parameters and buffers that are private to `task`: head, norms, biases if per task."""
        own = [*tensors_of(self.heads.of(task)).values(), *self._private_of(task).values()]
        return sum(tensor.numel() for tensor in own)

    @contextlib.contextmanager
    def viewing(self, task: int | None = None) -> Iterator[Callable[[Tensor], Tensor]]:
        """Give the function that computes the outputs of `task` in evaluation mode.

        It sees the weights of `task` and of earlier tasks. Nothing is changed once the block has ended,
        and equal inputs of equal shape give equal bits whatever happened since `task`'s dawn.

        Args:
            task: Index of a finished task, or of the day's; None is what the day trains.

        Yields:
            A function of inputs (batch, ...), as a network reads them, to outputs (batch, n_outputs).
        """
        task = self.n_tasks if task is None else task
        weights = {self.anatomy.masked[name]: self.visible(name, task) for name in self.weights}
        with self.heads.lent(self.heads.of(task)), torch.no_grad():
            private = dict(self.module.named_buffers()) | self._private_of(task)
            # New copies for each call, since a module may change its buffers even in evaluation mode.
            yield lambda inputs: functional_call(self.module, weights | copies(private), (inputs.contiguous(),))

    def seen_by(self, task: int) -> dict[str, Tensor]:
        """Give all tensors that the outputs of a finished task are computed from, by their names in the module."""
        weights = {self.anatomy.masked[name]: self.visible(name, task) for name in self.weights}
        head = tensors_of(self.heads.of(task), f"{self.anatomy.head}.")
        return self.heads.beside() | weights | self._private_of(task) | head

    def placed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give copies of tensors, by their names, on the device where the weights are."""
        device = next(iter(self.weights.values())).device
        return {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}

    def visible(self, name: str, task: int) -> Tensor:
        """Give the weight of layer `name` as `task` sees it: later tasks' and free weights are zero.

        Always in contiguous memory, so that one kernel computes it whatever the module's own format.
        """
        owners, weight = self.owners[name], self.weights[name].detach()
        return torch.where((owners >= 0) & (owners <= task), weight, 0).contiguous()

    def _private_of(self, task: int) -> dict[str, Tensor]:
        if task < self.n_tasks:
            return self._private[task]
        assert task == self.n_tasks, task
        live = tensors_of(self.module)
        return {name: live[name] for name in self._names}

    def _make_heads(self, make_head: MakeHead | None) -> Heads:
        return Heads(self.module, self.anatomy, make_head)


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give copies of tensors, by their names."""
    return {name: tensor.clone() for name, tensor in tensors.items()}
