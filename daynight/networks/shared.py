"""`SharedNetwork`: a masked network that freezes nothing, for baselines without freezing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from daynight.networks.heads import Heads, JoinedHeads, MakeHead
from daynight.networks.masked import FREE, MaskedNetwork


class SharedNetwork(MaskedNetwork):
    """A masked network whose owned weights all go on learning, and are seen by every task.

    Owner maps and prunes are those of `MaskedNetwork`: a prune takes only what the day's task holds, so that
    the owned set grows by each night's allocation. Nothing is private to a task but its head: biases,
    norm layers and buffers are shared, and they are counted with the first task.

    Args:
        module: The module.
        joins_heads: Whether the heads of all earlier tasks are part of the day's, and go on learning. Else
            each is sealed at its task's dawn.
        settings: The other arguments of `MaskedNetwork`, but for `biases`.

    Raises:
        NetworkError: If nothing can be masked, or heads that are to be joined are not linear layers.
    """

    def __init__(self, module: nn.Module, *, joins_heads: bool, **settings: Any) -> None:
        self.joins_heads = joins_heads
        super().__init__(module, **settings)

    def movable(self) -> dict[str, Tensor]:
        """Give per layer which weights the task of the day may move: all but the free ones."""
        return {name: owners != FREE for name, owners in self.owners.items()}

    def n_private(self, task: int) -> int:
        """Count the parameters of the head of `task`, and for the first task what all share beside the weights."""
        n_earlier = _numel(self.heads.kept[task - 1]) if self.joins_heads and task else 0
        live = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        shared = () if task else self.anatomy.private + self.anatomy.biases
        head = self.heads.kept[task] if task < self.n_tasks else self.heads.live
        return _numel(head) - n_earlier + sum(live[name].numel() for name in shared)

    def visible(self, name: str, task: int) -> Tensor:
        """Give the weight of layer `name`; free weights are zero."""
        return torch.where(self.owners[name] != FREE, self.weights[name].detach(), 0).contiguous()

    @contextlib.contextmanager
    def viewing(self, task: int | None = None) -> Iterator[Callable[[Tensor], Tensor]]:
        """Give the function that computes the outputs of `task`, as the network is now, in evaluation mode."""
        with super().viewing(task) as compute:
            if task is None:
                yield compute
            else:
                columns = self.heads.columns(task)
                yield lambda inputs: compute(inputs)[:, columns]

    def _changeable(self) -> dict[str, Tensor]:
        return super()._changeable() | {
            self.anatomy.masked[name]: weight.detach() for name, weight in self.weights.items()
        }

    def _frozen_later(self) -> tuple[str, ...]:
        return ()

    def _private_of(self, task: int) -> dict[str, Tensor]:
        return {}

    def _make_heads(self, make_head: MakeHead | None) -> Heads:
        kind = JoinedHeads if self.joins_heads else Heads
        return kind(self.module, self.anatomy, make_head)


def _numel(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers()))
