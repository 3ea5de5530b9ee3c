"""What a network does on a few examples, tried without training or changing it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from daynight.errors import NetworkError
from daynight.networks.masked import MaskedNetwork
from daynight.support import checks, interrupts

#: What PyTorch raises for inputs that a module cannot read.
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError)


def probe(network: MaskedNetwork, inputs: Tensor, n_outputs: int) -> Tensor:
    """Make sure that a network reads `inputs`, that its head makes its outputs, and that they can be repeated.

    Args:
        network: The network.
        inputs: (batch, ...), as a network reads them.
        n_outputs: Number of outputs to ask for.

    Returns:
        The outputs, (batch, n_outputs).

    Raises:
        NetworkError: If not.
    """
    with interrupts.deferred(), _trying(network, n_outputs) as run, torch.no_grad():
        try:
            outputs, again = (run(inputs.clone()) for _ in range(2))
        except _FAILURES as error:
            whole = "" if inputs.is_floating_point() else "Whole numbers are indices: make others floating point. "
            raise NetworkError(
                f"the network cannot read inputs of shape {tuple(inputs.shape[1:])}, {inputs.dtype}: {error}. {whole}"
                "Give inputs of the shape and type that its first layer takes, and name the layer that makes the "
                f"outputs with head=, if it is not {network.anatomy.head!r}."
            ) from error
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if not isinstance(outputs, Tensor) or shape != (len(inputs), n_outputs):
        raise NetworkError(
            f"with {n_outputs} outputs asked of the head {network.anatomy.head!r}, the network gives {shape} "
            f"for a batch of {len(inputs)}, and must give {(len(inputs), n_outputs)}. Name the module that makes the "
            "outputs with head=, or take away what reshapes them after it, such as squeeze."
        )
    if not torch.equal(outputs, again) and checks.all_finite(outputs):
        raise NetworkError(
            "the network gives other outputs for equal inputs in evaluation mode, so that no prediction could be kept. "
            "Let it draw in training only, as in functional.dropout(x, training=self.training)."
        )
    return outputs


def try_step(network: MaskedNetwork, inputs: Tensor, n_outputs: int, loss: Callable[[Tensor], Tensor]) -> None:
    """Make sure that gradients can be computed in training mode.

    Args:
        network: The network.
        inputs: (batch, ...), as a network reads them; more than one.
        n_outputs: Number of outputs to ask for.
        loss: Function of the outputs to a scalar.

    Raises:
        NetworkError: If not.
    """
    with interrupts.deferred(), _trying(network, n_outputs) as run:
        network.module.train()
        named = network.module.named_parameters()
        parameters = {name: p.detach().clone().requires_grad_(p.requires_grad) for name, p in named}
        try:
            loss(run(inputs.clone(), parameters)).backward()
        except _FAILURES as error:
            raise NetworkError(
                f"no gradients can be computed of the network in training mode: {error}. If that is none of its "
                "own errors, look for operations in place, on what a gradient needs later."
            ) from error


def trains_on(network: MaskedNetwork, inputs: Tensor, n_outputs: int) -> bool:
    """Tell whether a network's norm layers can train on such a batch.

    Args:
        network: The network.
        inputs: (batch, ...), as a network reads them.
        n_outputs: Number of outputs to ask for.
    """
    with interrupts.deferred(), _trying(network, n_outputs) as run, torch.no_grad():
        network.module.train()
        try:
            run(inputs)
        except ValueError:  # batch normalisation of one value
            return False
    return True


@contextlib.contextmanager
def _trying(network: MaskedNetwork, n_outputs: int) -> Iterator[Callable[..., Any]]:
    """Give a function that runs a network with a new head, which changes nothing, in evaluation mode at first.

    Draws from PyTorch's global generator.

    Args:
        network: The network.
        n_outputs: Number of outputs to ask for.

    Yields:
        A function of inputs (batch, ...) and, if there are to be others, parameters by name.

    Raises:
        NetworkError: If the head cannot be made.
    """

    def run(inputs: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Any:
        buffers = {name: buffer.clone() for name, buffer in network.module.named_buffers()}
        return functional_call(network.module, buffers | dict(parameters or {}), (inputs,))

    with network.heads.lent(network.heads.new(n_outputs)):
        network.heads.new(n_outputs)  # so that a function that makes one head for all is refused before the first day
        yield run
