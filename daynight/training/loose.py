"""`Loose`: a parameter that an optimizer trains in place, although some of its numbers may not move."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Numbers are listed by their places if they are at most this share of a parameter. A listed number takes 12 bytes and
#: twice the time of one of a whole parameter with a mask, which takes 5 bytes.
FEW = 1 / 4


class Loose:
    """A parameter that is trained in place.

    Args:
        parameter: The parameter.
        mask: Which of its numbers may move: bool, of its shape; None is all of them.
    """

    def __init__(self, parameter: nn.Parameter, mask: Tensor | None) -> None:
        self.parameter, self.mask = parameter, mask
        self._places: Tensor | None = None  # of the numbers that may not move, if they are few
        self._anchor: Tensor | None = None  # their values, or those of all numbers
        if mask is None:
            return
        values = parameter.detach()
        if parameter.is_contiguous() and mask.numel() - int(torch.count_nonzero(mask)) <= FEW * mask.numel():
            self._places = torch.nonzero(~mask.reshape(-1))[:, 0]
            self._anchor = values.view(-1)[self._places]
        else:
            self._anchor = values.clone()

    def mute(self) -> None:
        """Set the gradient of the numbers that may not move to zero, if there is a gradient."""
        gradient = self.parameter.grad
        if gradient is None or self.mask is None:
            return
        if self._places is not None and gradient.layout is torch.strided and gradient.is_contiguous():
            gradient.view(-1).index_fill_(0, self._places, 0)
        else:
            gradient.mul_(self.mask)

    def hold(self) -> None:
        """Restore the values of the numbers that may not move."""
        values = self.parameter.detach()
        if self._places is not None and self._anchor is not None:
            values.view(-1).index_copy_(0, self._places, self._anchor)
        elif self._anchor is not None and self.mask is not None:
            torch.where(self.mask, values, self._anchor, out=values)
