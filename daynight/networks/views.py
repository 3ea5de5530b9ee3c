"""Views: the weights that tasks see, kept while nothing that they were made from has changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from daynight.networks import sequences

#: Views of up to this many bytes in all are kept, and the last one in any case.
KEPT_BYTES = 2**26


@attrs.frozen(eq=False)
class View:
    """What the outputs of a task are computed with.

    Attributes:
        weights: The weights that the task sees, by their names in the module.
        run: Computes the outputs of inputs (batch, ...) if the network is a plain sequence; None if it is not.
        parts: The modules that `run` was made from.
    """

    weights: dict[str, Tensor]
    run: Callable[[Tensor], Tensor] | None = None
    parts: tuple[nn.Module, ...] = ()

    @classmethod
    def of(
        cls, module: nn.Module, weights: dict[str, Tensor], private: dict[str, Tensor], head: nn.Module,
        heads: Iterable[str],
    ) -> View:  # fmt: skip
        """Return the view of a task.

        Args:
            module: The module. It may hold the tensors of another task.
            weights: The maskable weights as the task sees them, by their names in the module.
            private: The tensors, besides the head, that are private to the task, by their names in the module.
            head: The task's head.
            heads: All names that the module has for its head.
        """
        if not sequences.is_plain(module, head):
            return cls(weights)
        named = dict(module.named_parameters())
        swapped = {id(named[name]): tensor for name, tensor in (weights | private).items()}
        run = sequences.computing(module, swapped, dict.fromkeys(heads, head))
        return cls(weights, run, (*module.modules(), *head.modules()))

    @property
    def n_bytes(self) -> int:
        """Number of bytes of the weights."""
        return sum(tensor.nbytes for tensor in self.weights.values())


@attrs.frozen(eq=False)
class Viewed:
    """A function from inputs (batch, ...), as the network reads them, to outputs (batch, n_outputs).

    Attributes:
        compute: The function.
        is_heard: Whether hooks of modules hear what it computes.
    """

    compute: Callable[[Tensor], Tensor]
    is_heard: bool

    def __call__(self, inputs: Tensor) -> Tensor:
        """Compute outputs (batch, n_outputs) of inputs (batch, ...)."""
        return self.compute(inputs)


class KeptViews:
    """The views of some tasks. Copies, and those in other processes, begin without any."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Any, View, Any]] = {}  # by task, the last used one at the end

    def __reduce__(self) -> tuple[type[KeptViews], tuple[()]]:
        return type(self), ()

    def clear(self) -> None:
        """Drop all views."""
        self._kept.clear()

    def of(self, task: int, sources: tuple[Tensor, ...], sees: object, make: Callable[[], View]) -> View:
        """Return the view of a task: the one that is kept, or a new one if a source or part has changed since.

        Whether a source has changed is found out by `stamp_of`.

        Args:
            task: Index of the task.
            sources: The tensors from which the view is made.
            sees: What else it depends on, compared by ``==``.
            make: Makes the view.
        """
        stamp = stamp_of(sources), sees
        if stamp[0] is None:
            return make()
        known = self._kept.pop(task, None)
        is_new = known is None or known[0] != (stamp, _outline(known[1]))
        if known is None or is_new:
            view = make()
            # What the stamp names is held, so that no other object gets its `id`.
            held = sources, [(*vars(part).values(), *_inner(part)) for part in view.parts]
            known = (stamp, _outline(view)), view, held
        self._kept[task] = known
        n_bytes = sum(kept.n_bytes for _, kept, _ in self._kept.values()) if is_new else 0
        while n_bytes > KEPT_BYTES and len(self._kept) > 1:
            n_bytes -= self._kept.pop(next(iter(self._kept)))[1].n_bytes
        return known[1]


def stamp_of(tensors: Iterable[Tensor]) -> list[tuple[int, int, int]] | None:
    """Return what changes if tensors are replaced, get other memory, or are written to in a way that PyTorch counts.

    PyTorch does not count what is written through `Tensor.data`, shared memory of other libraries, or in inference
    mode. Whoever keeps a stamp must hold the tensors, so that no other object gets the `id` of one.

    Returns:
        A stamp for each tensor; None in inference mode, or if a tensor was made there, since nothing is counted then.
    """
    if torch.is_inference_mode_enabled():
        return None
    try:
        return [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors]
    except RuntimeError:  # one was made in inference mode
        return None


def _outline(view: View) -> list[Any]:
    """Return the `id` of all that a view's modules consist of, whether they have hooks, and what was written to it."""
    found: list[Any] = [id(value) for part in view.parts for value in (*vars(part).values(), *_inner(part))]
    written = [tensor._version for tensor in view.weights.values()]
    return [*found, any(sequences.hooks_of(view.parts)), *written]


def _inner(part: nn.Module) -> Iterator[object]:
    return itertools.chain(vars(part)["_parameters"].values(), vars(part)["_modules"].values())
