"""Statistics of norm layers, taken anew after a prune that no training follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

#: Statistics are taken anew on this many training examples, or on all if there are fewer, in one pass.
N_EXAMPLES = 256


def running(module: nn.Module) -> list[Any]:
    """Return the norm layers of a module whose running statistics training changes.

    A layer that its network keeps in evaluation mode during training, or whose momentum is 0, is not among them.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    found = [
        part for part in module.modules() if isinstance(part, _BatchNorm | _InstanceNorm) and part.training
        and part.track_running_stats and part.running_mean is not None and part.momentum != 0
    ]  # fmt: skip
    for part, mode in modes:
        part.training = mode
    return found


def take_anew(module: nn.Module, inputs: Tensor) -> None:
    """Set the running statistics of a module's norm layers to those of some inputs.

    All other parts are in evaluation mode, as in a prediction, so that no random numbers are drawn.

    Args:
        module: The module.
        inputs: (batch, ...), as the module reads them; two or more.
    """
    norms, modes = running(module), [(part, part.training) for part in module.modules()]
    if not norms or len(inputs) < 2:
        return
    momenta = [norm.momentum for norm in norms]
    try:
        module.eval()
        for norm in norms:
            norm.training, norm.momentum = True, 1.0
        with torch.no_grad():
            module(inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, mode in modes:
            part.training = mode
