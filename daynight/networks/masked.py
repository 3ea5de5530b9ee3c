"""`MaskedNetwork`: any module, with an owner for each of its weights."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import attrs
import torch
from torch import Tensor, nn
from torch.func import functional_call

from daynight.errors import NetworkError
from daynight.networks.anatomy import Anatomy, Exclude, dissect, redrawn
from daynight.networks.heads import Heads, MakeHead, check_alike, tensors_of
from daynight.support import checks, interrupts

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


Biases = Literal["freeze-after-first", "per-task"]
Restart = Literal["zero", "redraw", "keep"]
#: What a night may change, as it was: the module's tensors, owner maps, and what pruned weights were.
Mark = dict[str, dict[str, Tensor]]


@attrs.frozen(eq=False)
class Trainable:
    """A parameter that the day's task may move, and where: `mask` is bool of its shape, None for all of it."""

    parameter: nn.Parameter
    mask: Tensor | None


class MaskedNetwork(Ownership):
    """Wraps a module, unmodified, and says of each maskable weight which task owns it.

    An owner map per masked layer holds `FREE`, or the index of the owning task. During a day its task
    holds all that was free at wake; each prune frees some of it; what it holds at dawn it keeps. A free
    weight is exactly zero except while a wake trains it, so while a day lasts the module itself computes
    that day's task, and training needs no masks in the forward pass.

    The network is the only writer of the owner maps and of what is private to a task: its head, the
    parameters of norm layers and all buffers, and, unless `biases` says otherwise, the biases.

    Args:
        module: The module; it is copied, so the caller's own stays as it is.
        head: Name of the module that is replaced per task; None finds the last linear layer.
        make_head: Makes a head from a number of outputs, a new one at each call; None makes one of the same kind.
        exclude: Layers whose weights are not masked but trained with the first task and then frozen:
            names (each with all that is in it), or a function of (name, module).
        private: What each task is to have its own of; likewise.
        biases: ``"per-task"``: each task has its own biases in masked layers, which start from the day
            before's. ``"freeze-after-first"``: they are shared, trained with the first task and then frozen.
        restart: What free weights are at the next wake: ``"zero"`` as pruning left them, ``"redraw"`` drawn
            anew as the layer draws its first ones, or ``"keep"`` as they were when they were pruned.
        device: Where it is to live.

    Raises:
        NetworkError: If nothing can be masked, or something would move unseen.
        SettingError: If `biases` or `restart` is none of these, or `exclude` or `private` of another form.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        head: str | None = None,
        make_head: MakeHead | None = None,
        exclude: Exclude = (),
        private: Exclude = (),
        biases: Biases = "per-task",
        restart: Restart = "zero",
        device: torch.device | str = "cpu",
    ) -> None:
        checks.one_of("biases", biases, ("freeze-after-first", "per-task"))
        checks.one_of("restart", restart, ("zero", "redraw", "keep"))
        if not isinstance(module, nn.Module):
            raise NetworkError(f"the network must be a torch.nn.Module, not {type(module).__name__}.")
        if make_head is not None and (isinstance(make_head, nn.Module) or not callable(make_head)):
            raise NetworkError(f"make_head must be a function of the number of outputs, not {make_head!r}.")
        anatomy = dissect(module, head, exclude, private)
        for name, value in module.named_parameters():
            if value.is_meta or not checks.all_finite(value):
                raise NetworkError(f"{name} has no values, or some that are not finite. Initialise the network first.")
        super().__init__(copy.deepcopy(module).to(device), anatomy, make_head, has_biases=biases == "per-task")
        self.biases, self.restart = biases, restart
        self._pruned: dict[str, Tensor] = {}
        self._is_day = False

    @interrupts.deferred()
    def begin_day(self, n_outputs: int) -> None:
        """Give all free weights to a new task, restart them, and make its head.

        Draws from PyTorch's global generator; call it under `daynight.support.seeding.forked`.

        Raises:
            NetworkError: If the head cannot be made.
        """
        assert not self._is_day
        first = self.n_tasks == 0
        head = self.heads.for_day(n_outputs)
        self._before = copies(self._changeable()), dict(self._pruned)
        for name, owners in self.owners.items():
            if self.n_tasks > torch.iinfo(owners.dtype).max:
                owners = self.owners[name] = owners.to(torch.int32)
            if not first:
                self._restart(name, owners == FREE)
            owners[owners == FREE] = self.n_tasks
        self.heads.put(head)
        named = dict(self.module.named_parameters())
        if not first:
            for name in self._frozen_later():
                named[name].requires_grad_(False)
        self._is_day = True

    @interrupts.deferred()
    def release(self, keep: Mapping[str, Tensor]) -> None:
        """Prune: free the weights that the task of the day holds and that are not in `keep`.

        Args:
            keep: Per layer, bool of the weight's shape.
        """
        assert self._is_day
        for name, mask in keep.items():
            dropped = (self.owners[name] == self.n_tasks) & ~mask
            with torch.no_grad():
                if self.restart == "keep":
                    before = self._pruned.get(name, torch.zeros_like(self.weights[name]))
                    self._pruned[name] = torch.where(dropped, self.weights[name], before)
                self.weights[name].masked_fill_(dropped, 0)
            self.owners[name][dropped] = FREE

    def mark(self) -> Mark:
        """Give what a night may change, as it is now, for `put_back`."""
        assert self._is_day
        kept = {name for name, parameter in self.module.named_parameters() if not parameter.requires_grad}
        tensors = {name: tensor for name, tensor in tensors_of(self.module).items() if name not in kept}
        return {"tensors": copies(tensors), "owners": copies(self.owners), "pruned": dict(self._pruned)}

    @interrupts.deferred()
    def put_back(self, mark: Mark) -> None:
        """Put back what a night has changed since a mark was made."""
        now = tensors_of(self.module)
        for name, tensor in mark["tensors"].items():
            now[name].copy_(tensor)
        self.owners, self._pruned = self.placed(mark["owners"]), self.placed(mark["pruned"])

    def learnt(self) -> dict[str, Tensor]:
        """Give copies of all that the day trains, by name."""
        return {name: p.detach().clone() for name, p in self.module.named_parameters() if p.requires_grad}

    @interrupts.deferred()
    def rewind(self, learnt: Mapping[str, Tensor]) -> None:
        """Give what the day may still move the values that it had once; what is pruned stays so.

        Args:
            learnt: What `learnt` gave then.
        """
        assert self._is_day
        masks = {self.anatomy.masked[name]: mask for name, mask in self.movable().items()}
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                if name in learnt:
                    mask = masks.get(name)
                    parameter.copy_(learnt[name] if mask is None else torch.where(mask, learnt[name], parameter))

    @interrupts.deferred()
    def end_day(self) -> None:
        """Seal the task of the day: what it holds it owns, and what is private to it is put away."""
        assert self._is_day
        private = copies(self._private_of(self.n_tasks))
        self.heads.keep()
        self._private.append(private)
        self._is_day = False

    @interrupts.deferred()
    def abandon_day(self) -> None:
        """Give the day up: free what its task holds, and put back what was there before it."""
        assert self._is_day
        (before, self._pruned), self._is_day = self._before, False
        if self.heads.kept:
            self.heads.put(self.heads.kept[-1])
        with torch.no_grad():
            for name, owners in self.owners.items():
                self.weights[name].masked_fill_(owners == self.n_tasks, 0)
                owners[owners == self.n_tasks] = FREE
            now = self._changeable()
            for name, value in before.items():
                now[name].copy_(value)

    def trainables(self) -> list[Trainable]:
        """Give the parameters that the task of the day may move."""
        assert self._is_day
        movable, found = self.movable(), []
        masks = {id(weight): movable[name] for name, weight in self.weights.items()}
        for parameter in self.module.parameters():
            mask = masks.get(id(parameter))
            if parameter.requires_grad:
                found.append(Trainable(parameter, None if mask is None or bool(mask.all()) else mask))
        return found

    def state(self) -> dict[str, Tensor]:
        """Give all that makes the network what it is, between days or in one, by names of its own, for `restore`."""
        found = {f"module.{name}": tensor for name, tensor in self.heads.beside().items()}
        found |= {f"owners.{name}": owners for name, owners in self.owners.items()}
        found |= {f"pruned.{name}": pruned for name, pruned in self._pruned.items()}
        for task in range(self.n_tasks):
            found |= tensors_of(self.heads.kept[task], f"heads.{task}.")
            found |= {f"private.{task}.{name}": tensor for name, tensor in self._private[task].items()}
        if self._is_day:
            before, pruned = self._before
            found |= tensors_of(self.heads.live, "today.head.")
            found |= {f"today.before.{name}": tensor for name, tensor in before.items()}
            found |= {f"today.pruned.{name}": tensor for name, tensor in pruned.items()}
        return found

    @interrupts.deferred()
    def restore(self, state: Mapping[str, Tensor], n_outputs: Sequence[int], today: int | None = None) -> None:
        """Take up what `state` gave, in a network with no or fewer days. Draws from PyTorch's global generator.

        Args:
            state: What it gave.
            n_outputs: Number of outputs of each finished task.
            today: Number of outputs of the task of the day, if it was in one.

        Raises:
            NetworkError: If a tensor is missing, left over, or of another shape or type.
        """
        assert not self._is_day
        zeros = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in self.weights.items()}
        for name, owners in self.owners.items():
            self.owners[name] = owners.to(state.get(f"owners.{name}", owners).dtype)
        for n in n_outputs[self.n_tasks :]:
            self.heads.put(self.heads.for_day(n))
            self.heads.keep()
            self._private.append(copies(self._private_of(self.n_tasks)))
        if today is not None:
            self.begin_day(today)
            pruned = {name: zero.clone() for name, zero in zeros.items() if f"today.pruned.{name}" in state}
            self._before = self._before[0], pruned
        self._pruned = {name: zero for name, zero in zeros.items() if f"pruned.{name}" in state}
        own = self.state()
        check_alike(own, state)
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _changeable(self) -> dict[str, Tensor]:
        """Give what a day may change beside its head and the free weights, which on all but the first are zero."""
        names = set(self.anatomy.private + self.anatomy.biases + self.anatomy.frozen)
        names |= set() if self.n_tasks else set(self.anatomy.masked.values())
        live = tensors_of(self.module)
        return {name: live[name] for name in names}

    def _frozen_later(self) -> tuple[str, ...]:
        """Give the names of the parameters that are trained on the first day and then frozen."""
        return self.anatomy.frozen + (self.anatomy.biases if self.biases == "freeze-after-first" else ())

    def _restart(self, name: str, free: Tensor) -> None:
        """Set the free weights of a layer; pruning has left them at zero."""
        if self.restart == "zero":
            return
        if self.restart == "keep":
            fresh = self._pruned.get(name, self.weights[name])
        else:
            fresh = redrawn(self.module, self.anatomy.masked[name])
        with torch.no_grad():
            self.weights[name].copy_(torch.where(free, fresh, self.weights[name]))
