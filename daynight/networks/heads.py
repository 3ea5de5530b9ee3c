"""The heads of a network: for each task, a new module that computes the outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from daynight.errors import DaynightError, NetworkError
from daynight.networks import sequences
from daynight.networks.anatomy import NORMS, Anatomy, tensors
from daynight.networks.copies import copied, has_gradient_hooks
from daynight.support import checks

MakeHead = Callable[[int], nn.Module]


class Heads:
    """The heads of the finished tasks, and the head that is in the module now.

    Args:
        module: The module, which holds one head at a time.
        anatomy: The module's anatomy.
        make_head: Makes a head from a number of outputs; None makes heads of the same kind as the module's.

    Attributes:
        kept: The head of each living finished task, by its index.
    """

    def __init__(self, module: nn.Module, anatomy: Anatomy, make_head: MakeHead | None) -> None:
        self.kept: dict[int, nn.Module] = {}
        self._module, self._names, self._make_head = module, anatomy.heads, make_head
        self._template = self.live
        self._known = frozenset[str](tensors_of(module))
        self._like = next(value for name, value in module.named_parameters() if name in anatomy.masked.values())

    @property
    def live(self) -> nn.Module:
        """The head in the module."""
        return self._module.get_submodule(self._names[0])

    def new(self, n_outputs: int) -> nn.Module:
        """Return a new head. Draws from PyTorch's global generator.

        Raises:
            NetworkError: If the head cannot be made.
        """
        if self._make_head is None:
            head = new_head(lambda n_outputs: fresh_head(self._template, n_outputs), n_outputs)
        else:
            head = new_head(self._make_head, n_outputs, {self._module, *self.kept.values()})
        return head.to(self._like.device, self._like.dtype)

    def for_day(self, n_outputs: int) -> nn.Module:
        """Return a new head for a day to train."""
        return self.new(n_outputs)

    def of(self, task: int) -> nn.Module:
        """Return the head that computes the outputs of a finished task, or of the day's task."""
        found = self.kept.get(task)
        return self.live if found is None else found  # finding the live one takes longer

    def columns(self, task: int) -> slice:
        """Return the slice of the outputs of a task's head that belong to the task."""
        return slice(None)

    def n_own(self, task: int) -> int:
        """Count the numbers in a task's head that only this task uses."""
        return _numel(self.of(task))

    def alone(self, task: int) -> nn.Module:
        """Return a copy of a task's head, with only the outputs of the task."""
        return copied(self.of(task))

    def keep(self, task: int) -> None:
        """Store the head that is in the module now as the head of a task."""
        self.kept[task] = self.live.requires_grad_(False)

    def forget(self, task: int) -> None:
        """Drop the head of a task that is not the only one."""
        gone = self.kept.pop(task)
        if gone is self.live and self.kept:
            self.put(self.kept[max(self.kept)])

    def grown(self, task: int, n_outputs: int) -> nn.Module:
        """Return a copy of a finished task's head that can be trained, with more outputs if `n_outputs` is larger.

        The first outputs are the old ones. Draws from PyTorch's global generator.

        Raises:
            NetworkError: If the head cannot be made, or differs in more than its outputs.
        """
        old, new = tensors_of(self.kept[task]), self.new(n_outputs)
        with torch.no_grad():
            for name, tensor in tensors_of(new).items():
                known = old.get(name)
                if (
                    known is None
                    or known.dim() != tensor.dim()
                    or known.shape[1:] != tensor.shape[1:]
                    or (len(known) > len(tensor) if tensor.dim() else False)
                ):
                    raise NetworkError(
                        f"the head of task {task} cannot get {n_outputs} outputs: its {name} has another shape. Give "
                        "the successor as many outputs, or a make_head= whose heads differ in their first dimension."
                    )
                (tensor[: len(known)] if tensor.dim() else tensor).copy_(known)
        return new

    def put(self, head: nn.Module) -> None:
        """Put a head into the module, under all names that the module has for its head."""
        for alias in self._names:
            parent, _, name = alias.rpartition(".")
            setattr(self._module.get_submodule(parent), name, head)

    @contextlib.contextmanager
    def lent(self, head: nn.Module) -> Iterator[None]:
        """Put `head` into the module, and the module into evaluation mode, during a block.

        Modules that keep values computed from their parameters drop them in training mode. So, unless it is plain, the
        module is put into that mode before and after the block, in which it may compute with other parameters.
        """
        modes = [(part, part.training) for part in self._module.modules()]
        live, keeps = self.live, not sequences.is_plain(self._module, head)
        try:
            self.put(head)
            (self._module.train() if keeps else self._module).eval()
            yield
        finally:
            if keeps:
                self._module.train()
            self.put(live)
            for part, mode in modes:
                part.training = mode

    def beside(self) -> dict[str, Tensor]:
        """Return the module's parameters and buffers by name, except those of its head.

        A buffer that was None, and that a pass has filled, is not among them: a new network does not have it.
        """
        within = tuple(f"{name}." for name in self._names)
        own = tensors_of(self._module).items()
        return {name: value for name, value in own if name in self._known and not name.startswith(within)}


class JoinedHeads(Heads):
    """Heads that all keep learning: the head of a day holds the heads of all earlier days, side by side."""

    def new(self, n_outputs: int) -> nn.Module:
        """Return a new head; raise NetworkError unless it is a linear layer."""
        head = super().new(n_outputs)
        if not isinstance(head, nn.Linear):
            raise NetworkError(
                f"heads of type {type(head).__name__} cannot be joined, as consolidation='rehearse' does. Name a "
                "linear layer with head=."
            )
        return head

    def for_day(self, n_outputs: int) -> nn.Module:
        """Return a head for a day to train, with all earlier heads in it."""
        new = self.new(n_outputs)
        if not self.kept:
            return new
        old = self.kept[max(self.kept)]
        assert isinstance(old, nn.Linear)
        assert isinstance(new, nn.Linear)
        joined = nn.Linear(
            new.in_features, old.out_features + new.out_features, bias=new.bias is not None,
            device=new.weight.device, dtype=new.weight.dtype,
        )  # fmt: skip
        with torch.no_grad():
            for name, parameter in joined.named_parameters():
                parameter.copy_(torch.cat([getattr(old, name), getattr(new, name)]))
        return joined

    def of(self, task: int) -> nn.Module:
        """Return the head that computes the outputs of all tasks, as it is now."""
        return self.live

    def columns(self, task: int) -> slice:
        """Return the slice of the outputs that belong to a task."""
        begin, end = (self._of_day(index).out_features if index >= 0 else 0 for index in (task - 1, task))
        return slice(begin, end)

    def n_own(self, task: int) -> int:
        """Count the numbers in the joined head that only this task uses."""
        return _numel(self._of_day(task)) - (_numel(self._of_day(task - 1)) if task else 0)

    def alone(self, task: int) -> nn.Module:
        """Return a head with copies of the parameters that a task uses."""
        head, columns = super().alone(task), self.columns(task)
        assert isinstance(head, nn.Linear)
        head.out_features = columns.stop - columns.start
        for name, parameter in list(head.named_parameters()):
            setattr(head, name, nn.Parameter(parameter.detach()[columns].clone()))
        return head

    def _of_day(self, task: int) -> nn.Linear:
        """Return the head that the day of a task trained; it includes the heads of earlier tasks."""
        head = self.kept.get(task, self.live)
        assert isinstance(head, nn.Linear)
        return head


def check_hooks(module: nn.Module, head: str) -> None:
    """Raise NetworkError if a parameter of the module named `head` has hooks of its gradient, which new heads lack."""
    of_head = {id(parameter) for parameter in module.get_submodule(head).parameters()}
    heard = [
        name for name, parameter in module.named_parameters()
        if id(parameter) in of_head and has_gradient_hooks(parameter)
    ]  # fmt: skip
    if heard:
        raise NetworkError(
            f"{heard[0]} has hooks of its gradient, which would be lost, since each task has a new head. Give "
            "make_head=, a function of the number of outputs that returns a head with these hooks."
        )


def new_head(make_head: Callable[[int], nn.Module], n_outputs: int, others: Iterable[nn.Module] = ()) -> nn.Module:
    """Return a new head that shares no tensors with other modules.

    Args:
        make_head: Makes the head.
        n_outputs: Number of outputs.
        others: Modules with which the head must not share tensors: the network, and the heads of other tasks.

    Raises:
        NetworkError: If `make_head` fails, or does not return a new module.
    """
    try:
        head = make_head(n_outputs)
    except DaynightError:
        raise
    except Exception as error:
        raise NetworkError(f"make_head failed for {n_outputs} outputs: {type(error).__name__}: {error}") from error
    if not isinstance(head, nn.Module):
        raise NetworkError(f"make_head must return a torch.nn.Module, and for {n_outputs} outputs returned {head!r}.")
    taken = {id(tensor) for other in others for _, tensor in tensors("", other, recurse=True)}
    if any(id(tensor) in taken for _, tensor in tensors("", head, recurse=True)):
        raise NetworkError(
            "make_head must make a new module at each call: this one shares tensors with an earlier head or the "
            "network. Build the layers within make_head."
        )
    return head


def fresh_head(head: nn.Module, n_outputs: int) -> nn.Module:
    """Return a new head like `head`, drawn from PyTorch's global generator, with `n_outputs` outputs.

    Raises:
        NetworkError: If the head is neither a linear nor a convolution layer, or its groups do not divide the outputs.
    """
    bias = getattr(head, "bias", None) is not None
    if isinstance(head, nn.Linear):
        return nn.Linear(head.in_features, n_outputs, bias=bias)
    if isinstance(head, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if n_outputs % head.groups:
            raise NetworkError(
                f"a convolution head of {head.groups} groups cannot have {n_outputs} outputs, which must be a "
                "multiple. Give make_head=, a function of the number of outputs, or another n_outputs."
            )
        same = ("in_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        settings: dict[str, Any] = {name: getattr(head, name) for name in same}
        return type(head)(out_channels=n_outputs, bias=bias, **settings)
    raise NetworkError(
        f"a head of type {type(head).__name__} cannot be made anew for each task. Name a linear or "
        "convolution layer with head=, or give make_head=, a function of the number of outputs."
    )


def tensors_of(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Return a module's parameters and buffers, detached, by their names after a prefix."""
    found = dict(module.named_parameters()) | dict(module.named_buffers())
    return {prefix + name: tensor.detach() for name, tensor in found.items()}


def sizeable(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Return the buffers of a module to which a pass may give another shape, by their names after a prefix.

    Those of norm layers keep theirs.
    """
    return {
        f"{prefix}{where}{'.' if where else ''}{name}": buffer for where, part in module.named_modules()
        if not isinstance(part, NORMS) for name, buffer in part.named_buffers(recurse=False)
    }  # fmt: skip


def put_values(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Write values into a module's parameters and buffers, by name. A buffer takes the shape and type of its value."""
    now, buffers = tensors_of(module), sizeable(module)
    for name, value in values.items():
        if name in buffers and (value.shape, value.dtype) != (buffers[name].shape, buffers[name].dtype):
            where, _, short = name.rpartition(".")
            setattr(module.get_submodule(where), short, value.to(buffers[name].device, copy=True))
        else:
            now[name].copy_(value)


def _numel(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in tensors_of(module).values())


def check_alike(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Raise NetworkError unless a network's tensors have the names, shapes and types of saved ones.

    Raises:
        NetworkError: If a tensor is missing or left over, or has another shape or type.
    """
    for which, names in (
        ("this network and not in the saved one", sorted(own.keys() - saved.keys())),
        ("the saved network and not in this one", sorted(saved.keys() - own.keys())),
    ):
        if names:
            more = checks.also(names[1:])
            raise NetworkError(f"{names[0]} is in {which}. Give the network that was saved.{more}")
    for name, tensor in own.items():
        if (tensor.shape, tensor.dtype) != (saved[name].shape, saved[name].dtype):
            raise NetworkError(
                f"{name} is {tuple(tensor.shape)} of {tensor.dtype} in the network, and was saved as "
                f"{tuple(saved[name].shape)} of {saved[name].dtype}. Give the network that was saved."
            )
