"""What an optimizer trains, laid out in one flat vector: few calls, and nothing moved that is not needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Stretches of an arena begin at multiples of so many numbers, so that kernels find them aligned.
ALIGNMENT = 16
#: Held numbers are put back one by one if they are at most this share of all, else with a mask.
_FEW = 1 / 16


class Slot:
    """Some of the numbers of one parameter, which an engine computes with.

    Args:
        parameter: The network's own, which is read now and when the arena is made, and written by `Arena.flush`.
        index: int64, which numbers of it, by their places in logical order; None is all of them.
        mine: bool, as long as `index`: which of these the day's task may move; None is all of them.

    Attributes:
        values: The numbers (n,); once there is an arena, a stretch of it.
        gradient: Where the engine puts their gradient (n,), a stretch of the arena.
    """

    values: Tensor
    gradient: Tensor

    def __init__(self, parameter: Tensor, index: Tensor | None = None, mine: Tensor | None = None) -> None:
        assert isinstance(parameter, nn.Parameter)
        self.parameter, self.index = parameter, index
        self.values = self.read(parameter)
        self.mine = None if mine is None or bool(mine.all()) else mine
        self._is_whole = index is None and self.mine is None
        # Where to write from and to: places in the slot, None for all, and in the parameter.
        self._from = None if self.mine is None else torch.nonzero(self.mine)[:, 0]
        places = torch.arange(parameter.numel(), device=parameter.device) if index is None else index
        self._to = places if self._from is None else places[self._from]

    def __len__(self) -> int:
        return self.parameter.numel() if self.index is None else len(self.index)

    def read(self, full: Tensor) -> Tensor:
        """Give those numbers (n,) of a tensor of the parameter's shape that the slot stands for."""
        flat = full.detach().reshape(-1)
        return flat if self.index is None else flat[self.index]

    def write(self, full: Tensor, values: Tensor) -> None:
        """Write to a tensor of the parameter's shape what the day's task may move of `values` (n,)."""
        if self._is_whole:
            full.copy_(values.view(full.shape))
            return
        own = values if self._from is None else values.index_select(0, self._from)
        flat = full.reshape(-1).index_copy_(0, self._to, own)  # a view only if the tensor is contiguous
        if flat.data_ptr() != full.data_ptr():
            full.copy_(flat.view(full.shape))


class Arena:
    """The slots of one group of an optimizer's parameters, in one vector.

    Numbers that may not move are given back their value after each step (`hold`), so that a slot may
    hold some where the engine needs them between the others.

    Args:
        slots: At least one; all of one type, on one device.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = list(slots)
        starts, size = [], 0
        for slot in self.slots:
            starts.append(size)
            size += -(-len(slot) // ALIGNMENT) * ALIGNMENT
        like = self.slots[0].parameter.detach()
        self.vector = nn.Parameter(like.new_zeros(size))
        self.vector.grad = torch.zeros_like(self.vector)
        self._held = torch.zeros(size, dtype=torch.bool, device=like.device)
        self._stretches = [slice(start, start + len(slot)) for start, slot in zip(starts, self.slots, strict=True)]
        for slot, stretch in zip(self.slots, self._stretches, strict=True):
            slot.values, slot.gradient = self.vector.detach()[stretch], self.vector.grad[stretch]
            slot.values.copy_(slot.read(slot.parameter))
            if slot.mine is not None:
                self._held[stretch] = ~slot.mine
        values, places = self.vector.detach(), torch.nonzero(self._held)[:, 0]
        self._places = places if len(places) <= _FEW * size else None
        if self._places is not None:
            self._anchor = values[self._places]
        else:
            self._anchor, self._free = values.masked_fill(~self._held, 0), (~self._held).to(values)

    def hold(self) -> None:
        """Give the numbers that may not move their value again."""
        values = self.vector.detach()
        if self._places is None:
            torch.addcmul(self._anchor, values, self._free, out=values)
        elif len(self._places):
            values.index_copy_(0, self._places, self._anchor)

    def mute(self) -> None:
        """Set the gradient of the numbers that may not move to zero."""
        assert self.vector.grad is not None
        if self._places is None:
            self.vector.grad.mul_(self._free)
        elif len(self._places):
            self.vector.grad.index_fill_(0, self._places, 0)

    def flush(self) -> None:
        """Write to the network's own parameters what has been trained."""
        for slot in self.slots:
            slot.write(slot.parameter.detach(), slot.values)

    def spread(self, state: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        """Turn an optimizer's state of the vector into such of the parameters: zero where there is none."""
        found: dict[int, tuple[nn.Parameter, Tensor]] = {}
        for slot, stretch in zip(self.slots, self._stretches, strict=True):
            _, full = found.setdefault(id(slot.parameter), (slot.parameter, torch.zeros_like(slot.parameter)))
            slot.write(full, state[stretch])
        return list(found.values())

    def gather(self, states: dict[int, Tensor]) -> Tensor:
        """Turn an optimizer's state of the parameters, by their `id`, into such of the vector."""
        state = torch.zeros_like(self.vector)
        for slot, stretch in zip(self.slots, self._stretches, strict=True):
            if id(slot.parameter) in states:
                state[stretch] = slot.read(states[id(slot.parameter)])
        return state.masked_fill_(self._held, 0)
