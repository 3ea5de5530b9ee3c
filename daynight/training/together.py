"""`Together`: several optimizers as one; and how optimizers that hold others are read and loaded.

Other optimizers also hold optimizers, as look-ahead and sharpness-aware ones do, and those that users write themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer


class Together(Optimizer):
    """Several optimizers, each of its own parameters, as one.

    Its parameter groups are those of its parts, the very same dicts, so that schedulers reach all of them.

    Args:
        parts: The optimizers, one or more. No parameter may be in two of them.

    Attributes:
        parts: As given.
    """

    def __init__(self, parts: Iterable[Optimizer]) -> None:
        self.parts = tuple(parts)
        first, *rest = (part.defaults for part in self.parts)
        common = {name: value for name, value in first.items() if all(name in defaults for defaults in rest)}
        super().__init__([p for group in _groups_of(self.parts) for p in group["params"]], common)
        self.param_groups = _groups_of(self.parts)

    def step(self, closure: Any = None) -> Any:
        """Take a step of each optimizer, in order."""
        assert closure is None
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the optimizers, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            load(part, state)
        self.param_groups = _groups_of(self.parts)

    def train(self) -> None:
        """Put those parts that have modes into training mode."""
        for part in self.parts:
            set_mode(part, "train")

    def eval(self) -> None:
        """Put those parts that have modes into evaluation mode."""
        for part in self.parts:
            set_mode(part, "eval")


def held_by(optimizer: Optimizer) -> list[Optimizer]:
    """Return an optimizer and all those that it holds in attributes, or in lists or dicts of its attributes."""
    found, left = list[Optimizer](), [optimizer]
    while left:
        one = left.pop(0)
        if all(one is not known for known in found):
            found.append(one)
            left += _parts_of(one)
    return found


def has_modes(optimizer: Optimizer) -> bool:
    """Return whether an optimizer has modes, as schedule-free ones do: in evaluation mode, weights are others."""
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def set_mode(optimizer: Optimizer, mode: Literal["train", "eval"]) -> None:
    """Put an optimizer into a mode, if it has modes."""
    if has_modes(optimizer):
        getattr(optimizer, mode)()


@torch.no_grad()
def load(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Let a new optimizer take over what ``state_dict`` returned, in evaluation mode if there are modes.

    The parameters are not changed.

    Raises:
        Exception: Whatever the optimizer raises if it cannot take over the state.
    """
    parameters: list[Tensor] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    before = [parameter.detach().clone() for parameter in parameters] if has_modes(optimizer) else []
    set_mode(optimizer, "eval")
    # `load_state_dict` of an optimizer gives it new dicts as groups. Whoever has the groups of others needs them again.
    linked = [(one, parts) for one in held_by(optimizer) if _has_groups_of(one, parts := _parts_of(one))]
    optimizer.load_state_dict(state)
    for one, parts in reversed(linked):
        if not _has_groups_of(one, parts):
            one.param_groups = _groups_of(parts)
    for parameter, value in zip(parameters, before, strict=False):
        parameter.copy_(value)


def _parts_of(optimizer: Optimizer) -> list[Optimizer]:
    found = list[Any]()
    for value in vars(optimizer).values():
        found += value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    return [item for item in found if isinstance(item, Optimizer)]


def _groups_of(parts: Iterable[Optimizer]) -> list[dict[str, Any]]:
    return [group for part in parts for group in part.param_groups]


def _has_groups_of(optimizer: Optimizer, parts: list[Optimizer]) -> bool:
    """Return whether the groups of an optimizer are those of its parts, as the same objects."""
    own, others = optimizer.param_groups, _groups_of(parts)
    return bool(parts) and len(own) == len(others) and all(map(lambda one, other: one is other, own, others))
