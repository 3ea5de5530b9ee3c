"""`Arena`: the numbers that an optimizer trains, in one flat vector, so that a step takes few calls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Slots begin at multiples of this many numbers in an arena, so that kernels find them aligned.
ALIGNMENT = 16
#: Held numbers are restored one by one if they are at most this share of an arena, and with a mask otherwise.
_FEW = 1 / 16


class Slot:
    """Numbers of one parameter with which an engine computes.

    Args:
        parameter: A parameter of the network. It is read when the slot is made and when the arena is made;
            `Arena.flush` writes it.
        index: Places of the numbers in the flattened parameter, int64 (n,); None is all numbers.
        mine: Which of the slot's numbers the day's task may move, bool (n,); None is all of them.

    Attributes:
        values: The numbers (n,); a view of the arena after that is made.
        gradient: The gradient by the numbers (n,), which the engine writes; a view of the arena.
    """

    values: Tensor
    gradient: Tensor

    def __init__(self, parameter: Tensor, index: Tensor | None = None, mine: Tensor | None = None) -> None:
        assert isinstance(parameter, nn.Parameter)
        self.parameter, self.index = parameter, index
        self.values = self.read(parameter)
        self.mine = None if mine is None or bool(mine.all()) else mine
        # Which of a slot's numbers are written, by their places, if the slot has not all numbers of the parameter.
        self._from = None if index is None or self.mine is None else torch.nonzero(self.mine)[:, 0]

    def __len__(self) -> int:
        return self.parameter.numel() if self.index is None else len(self.index)

    def read(self, full: Tensor) -> Tensor:
        """Return the slot's numbers (n,) from `full`, a tensor of the parameter's shape."""
        flat = full.detach().reshape(-1)
        return flat if self.index is None else flat[self.index]

    def write(self, full: Tensor, values: Tensor) -> None:
        """Copy the entries of `values` (n,) that the day's task may move into `full`, of the parameter's shape."""
        if self.index is None:
            new = values.view(full.shape)
            full.copy_(new) if self.mine is None else torch.where(self.mine.view(full.shape), new, full, out=full)
            return
        own, places = (
            (values, self.index) if self._from is None
            else (values.index_select(0, self._from), self.index.index_select(0, self._from))
        )  # fmt: skip
        flat = full.reshape(-1).index_copy_(0, places, own)  # a view only if the tensor is contiguous
        if flat.data_ptr() != full.data_ptr():
            full.copy_(flat.view(full.shape))


class Arena:
    """The slots of one group of an optimizer's parameters, in one vector.

    Numbers that may not move get their value back after each step (`hold`). So a slot may also contain such numbers, if
    the engine needs them.

    Args:
        slots: One or more slots, all of one type and on one device.
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
        """Restore the values of the numbers that may not move."""
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
        """Write the trained numbers to the network's own parameters."""
        for slot in self.slots:
            slot.write(slot.parameter.detach(), slot.values)

    def spread(self, state: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        """Return an optimizer's state of the vector as states of the parameters, which are zero outside the slots."""
        found: dict[int, tuple[nn.Parameter, Tensor]] = {}
        for slot, stretch in zip(self.slots, self._stretches, strict=True):
            _, full = found.setdefault(id(slot.parameter), (slot.parameter, torch.zeros_like(slot.parameter)))
            slot.write(full, state[stretch])
        return list(found.values())

    def gather(self, states: dict[int, Tensor]) -> Tensor:
        """Return an optimizer's states of the parameters, given by their `id`, as a state of the vector."""
        state = torch.zeros_like(self.vector)
        for slot, stretch in zip(self.slots, self._stretches, strict=True):
            if id(slot.parameter) in states:
                state[stretch] = slot.read(states[id(slot.parameter)])
        return state.masked_fill_(self._held, 0)
