"""`MaskedNetwork`: any module, with an owner for each of its weights.

Longer than other files, since whatever writes owner maps is in this one class.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.func import functional_call

from daynight.errors import NetworkError, SettingError
from daynight.networks import sequences
from daynight.networks.anatomy import Exclude, Stored, check_norms, check_numbers, check_redrawn, dissect, redrawn
from daynight.networks.copies import carry_hooks, copied_with_hooks, copies, without_graph
from daynight.networks.heads import (
    Heads,
    JoinedHeads,
    MakeHead,
    check_alike,
    check_hooks,
    put_values,
    sizeable,
    tensors_of,
)
from daynight.networks.sight import Owners, Sight, Told, owned_by
from daynight.networks.views import KeptViews, View, Viewed
from daynight.support import checks, interrupts

#: What an owner map holds for a weight that no task owns.
FREE = -1

Biases = Literal["freeze-after-first", "per-task"]
Restart = Literal["zero", "redraw", "keep"]
#: Copies of all that a night may change: the module's tensors, the owner maps, and the last values of pruned weights.
Mark = dict[str, dict[str, Tensor]]


@attrs.frozen(eq=False)
class Trainable:
    """A parameter that the day's task may move: only where `mask` (bool, of its shape) is true; None is all of it."""

    parameter: nn.Parameter
    mask: Tensor | None


class MaskedNetwork:
    """A module in which each maskable weight has an owner: the task that holds it, or none.

    Each masked layer has an owner map: for each weight the index of the task that owns it, or `FREE`. The task of the
    day first holds all weights that were free at wake. Each prune frees some of them; the task owns those that it still
    holds at dawn. A free weight is exactly zero unless a wake is training it, and a weight that the task of the day
    does not see is zero until its dawn. So during a day the module itself computes that day's task, and training needs
    no masks in the forward pass.

    A task may succeed an earlier one: it begins with that task's numbers, also holds the weights that no other living
    task sees, and the earlier task retires at its dawn. A task that has retired has no private tensors any more; its
    weights are free unless a living task sees them.

    Only the network writes the owner maps and the tensors that are private to a task: the head, the parameters of norm
    layers, all buffers, and, unless `biases` says otherwise, the biases.

    Its public members are `module`, `sizes`, `n_tasks`, `count` and `n_private`. All other members are for the library
    itself and may change without notice.

    Args:
        module: The module. It is copied, so the caller's module does not change.
        head: Name of the module that is replaced per task; None finds the last linear layer.
        make_head: Makes a new head from a number of outputs at each call; None makes heads of the same kind as the
            module's.
        exclude: Layers whose weights are not masked but trained with the first task and then frozen: names (each
            includes the modules within it), or a function of (name, module).
        private: Modules or parameters of which each task has its own copy, given in the same way as `exclude`.
        mask: Modules or parameters to mask, given in the same way, besides the layers that are known.
        biases: ``"per-task"``: each task has its own biases in masked layers, which start from those of the day before.
            ``"freeze-after-first"``: all tasks share the biases, which are trained with the first task and then frozen.
        restart: Values of free weights at the next wake: ``"zero"``; ``"redraw"``, new initial values drawn by the
            layer; or ``"keep"``, the values that they had when they were pruned.
        device: Device of the network.
        freezes: Whether weights that a task owns never move again. If not, all owned weights keep learning,
            every task sees all of them, and only the head is private to a task: biases, norm layers and
            buffers are shared, and are counted with the first task.
        joins_heads: Whether the day's head holds the heads of all earlier tasks, which keep learning. If not, a head is
            frozen at its task's dawn. It can be true only if `freezes` is false.

    Attributes:
        module: The copy of the module. During a day it computes the day's task.

    Raises:
        NetworkError: If there are no weights to mask, a tensor could change unnoticed, or `joins_heads` is true and the
            head is not a linear layer.
        SettingError: If `biases`, `restart` or `joins_heads` is not valid, or `exclude` or `private` is of the wrong
            type.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        head: str | None = None,
        make_head: MakeHead | None = None,
        exclude: Exclude = (),
        private: Exclude = (),
        mask: Exclude = (),
        biases: Biases = "per-task",
        restart: Restart = "zero",
        device: torch.device | str = "cpu",
        freezes: bool = True,
        joins_heads: bool = False,
    ) -> None:
        checks.one_of("biases", biases, ("freeze-after-first", "per-task"))
        checks.one_of("restart", restart, ("zero", "redraw", "keep"))
        if freezes and joins_heads:
            raise SettingError("joins_heads=True lets heads of earlier tasks learn: it needs freezes=False.")
        if not isinstance(module, nn.Module):
            raise NetworkError(f"the network must be a torch.nn.Module, not {type(module).__name__}.")
        if make_head is not None and (isinstance(make_head, nn.Module) or not callable(make_head)):
            raise NetworkError(f"make_head must be a function of the number of outputs, not {make_head!r}.")
        #: The kind of each tensor of the module.
        self.anatomy = anatomy = dissect(module, head, exclude, private, mask)
        if restart == "redraw":
            # An agent in a file predicts, whether or not it can begin another day.
            check_redrawn(module, anatomy, is_tried=not isinstance(mask, Stored))
        if freezes:
            check_norms(module, anatomy)
        check_numbers(module)
        if make_head is None:
            check_hooks(module, anatomy.head)
        self.module = copied_with_hooks(module).to(device)
        self.biases, self.restart, self.freezes, self.joins_heads = biases, restart, freezes, joins_heads
        parameters = dict(self.module.named_parameters())
        #: Whether it has been tried that the module neither writes to its weights nor keeps values of other weights.
        self.is_tried = False
        #: By layer, its maskable weights.
        self.weights = {name: parameters[weight] for name, weight in anatomy.masked.items()}
        #: By layer, the owner of each weight: the index of a task, or `FREE`.
        self.owners = {
            name: torch.full_like(weight, FREE, dtype=torch.int16, requires_grad=False)
            for name, weight in self.weights.items()
        }
        #: The heads of all tasks.
        self.heads = (JoinedHeads if joins_heads else Heads)(self.module, anatomy, make_head)
        own_biases, shared_biases = (anatomy.biases, ()) if biases == "per-task" else ((), anatomy.biases)
        # Names of the tensors that are private to each task, besides its head, and of those frozen after the first day.
        self._own_names = anatomy.private + own_biases if freezes else ()
        self._frozen_names = anatomy.frozen + shared_biases if freezes else ()
        #: Whose weights each living task sees.
        self.sight = Sight()
        self._n_tasks = 0
        self._private: dict[int, dict[str, Tensor]] = {}  # by living finished task
        # Of the day: whose weights its task sees besides its own, and which task it succeeds.
        self._seen: Owners = range(0)
        self._succeeds: int | None = None
        # By layer, the weights and owners before the day, if the day changes some of finished tasks.
        self._settled: dict[str, tuple[Tensor, Tensor]] | None = None
        self._pruned: dict[str, Tensor] = {}  # by layer, the values of weights when they were pruned, to restart with
        # Copies, made before the day, of all that it may change, and of `_pruned`, for `abandon_day`; None between
        # days.
        self._before: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None
        self._views = KeptViews()  # of finished tasks, between days

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskedNetwork:
        memo[id(self)] = twin = type(self).__new__(type(self))
        memo.update(without_graph([self.module, *self.heads.kept.values()]))
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        for module in (self.module, *self.heads.kept.values()):
            carry_hooks(module, memo)
        return twin

    @property
    def sizes(self) -> dict[str, int]:
        """Number of maskable weights of each layer."""
        return {name: owner.numel() for name, owner in self.owners.items()}

    @property
    def n_tasks(self) -> int:
        """Number of finished tasks, also of those that have retired."""
        return self._n_tasks

    @property
    def living(self) -> tuple[int, ...]:
        """The indices of the finished tasks that have not retired."""
        return tuple(self._private)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's weights, to which floating-point inputs are converted."""
        return next(iter(self.weights.values())).dtype

    def count(self, owner: int) -> dict[str, int]:
        """Return the number of weights of each layer that task `owner` owns or, with `FREE`, that no task owns."""
        return {name: int(torch.count_nonzero(owners == owner)) for name, owners in self.owners.items()}

    def n_private(self, task: int) -> int:
        """Return the number of parameters and buffers that are private to `task`.

        These are the task's head, norms and buffers, and its biases if each task has its own. Without freezing, the
        first task counts all norms, buffers and biases, which are shared.
        """
        own = self.private_of(task)
        if not self.freezes and task == 0:
            live = tensors_of(self.module)
            own = {name: live[name] for name in self.anatomy.private + self.anatomy.biases}
        return self.heads.n_own(task) + sum(tensor.numel() for tensor in own.values())

    def available(self, succeeds: int | None = None) -> dict[str, int]:
        """Return the number of weights of each layer that the task of the day may hold.

        Args:
            succeeds: Between days, index of the living task that the next one succeeds; None if there is none.
        """
        own = frozenset[int]() if succeeds is None else self.sight.own(succeeds)
        found = dict[str, int]()
        for name, owners in self.owners.items():
            mine = (owners == FREE) | (owners == self.n_tasks)
            found[name] = int(torch.count_nonzero(mine | owned_by(owners, own) if own else mine))
        return found

    def sees(self) -> dict[int, list[int]]:
        """Return the owners that each task sees, by the task's index, for those that do not see all up to themselves.

        The task of the day, if it succeeds none, is among these.
        """
        found = {task: sorted(owners) for task, owners in self.sight.of.items() if not isinstance(owners, range)}
        if self._before is not None and self._succeeds is None and not isinstance(self._seen, range):
            found[self.n_tasks] = sorted(self._seen)
        return found

    @property
    def succeeds(self) -> int | None:
        """Index of the task that the task of the day succeeds; None if there is none."""
        return self._succeeds if self._before is not None else None

    def shown(self) -> dict[str, Tensor]:
        """Return per layer which weights the task of the day holds or sees: bool, of the weight's shape."""
        if not self.freezes or isinstance(self._seen, range):
            return {name: owners != FREE for name, owners in self.owners.items()}
        return {name: owned_by(owners, {*self._seen, self.n_tasks}) for name, owners in self.owners.items()}

    def held(self) -> dict[str, Tensor]:
        """Return per layer which weights the task of the day holds: bool, of the weight's shape."""
        return {name: owners == self.n_tasks for name, owners in self.owners.items()}

    def movable(self) -> dict[str, Tensor]:
        """Return per layer which weights the task of the day may move: bool, of the weight's shape."""
        return self.held() if self.freezes else {name: owners != FREE for name, owners in self.owners.items()}

    def trainables(self) -> list[Trainable]:
        """Return the parameters that the task of the day may move."""
        assert self._before is not None
        movable, found = self.movable(), []
        masks = {id(weight): movable[name] for name, weight in self.weights.items()}
        for parameter in self.module.parameters():
            mask = masks.get(id(parameter))
            if parameter.requires_grad:
                found.append(Trainable(parameter, None if mask is None or bool(mask.all()) else mask))
        return found

    def visible(self, name: str, task: int) -> Tensor:
        """Return the weight of layer `name` as `task` sees it: free weights, and those it does not see, are zero.

        Without freezing, later tasks' weights are not zero. The returned weight is always contiguous in memory, so that
        the same kernel computes with it whatever the memory format of the module is.
        """
        weight, owners = self._before_today(name) if task < self.n_tasks else (self.weights[name], self.owners[name])
        sees = self.sight.of.get(task, range(task + 1))  # the day's task sees all that is not zero
        is_seen = owned_by(owners, sees) if self.freezes else owners != FREE
        return torch.where(is_seen, weight.detach(), 0).contiguous()

    def private_of(self, task: int) -> dict[str, Tensor]:
        """Return the tensors, besides the head, that are private to a task, by their names in the module."""
        if task < self.n_tasks:
            return self._private.get(task, {})
        assert task == self.n_tasks, task
        live = tensors_of(self.module)
        return {name: live[name] for name in self._own_names}

    def seen_by(self, task: int) -> dict[str, Tensor]:
        """Return all tensors from which the outputs of a finished task are computed, by their names in the module."""
        return self.heads.beside() | self._weights_of(task) | self.own_of(task)

    def own_of(self, task: int) -> dict[str, Tensor]:
        """Return those of these tensors that only this task uses: its head's, and those that are private to it."""
        return self.private_of(task) | tensors_of(self.heads.of(task), f"{self.anatomy.head}.")

    def names_seen_by(self, task: int) -> set[str]:
        """Return the names of all tensors from which the outputs of a finished task are computed."""
        return {*self.heads.beside(), *self.anatomy.masked.values(), *self.own_of(task)}

    def shared(self, owners: Owners) -> dict[str, Tensor]:
        """Return what several finished tasks may use, by name: the weights of `owners`, owner maps, frozen tensors."""
        own = {*self._own_names, *self.anatomy.masked.values()}
        found = {name: tensor for name, tensor in self.heads.beside().items() if name not in own}
        for name in self.weights:
            weight, owner = self._before_today(name)
            is_theirs = owned_by(owner, owners)
            found[f"weights.{name}"] = torch.where(is_theirs, weight.detach(), 0)
            found[f"owners.{name}"] = torch.where(is_theirs, owner, FREE)
        return found

    def _before_today(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the weights and owners of a layer as finished tasks see them."""
        return (self.weights[name], self.owners[name]) if self._settled is None else self._settled[name]

    @contextlib.contextmanager
    def viewing(self, task: int | None = None) -> Iterator[Viewed]:
        """Provide the function that computes the outputs of `task` in evaluation mode.

        The function uses the weights of `task` and of earlier tasks, and does not change the network. With freezing,
        equal inputs of equal shape give equal bits, whatever happened since `task`'s dawn.

        Args:
            task: Index of a finished task, or of the day's task; None is all outputs of the head that the day trains.

        Yields:
            A function from inputs (batch, ...), as the network reads them, to outputs (batch, n_outputs).
        """
        columns = slice(None) if task is None else self.heads.columns(task)
        task = self.n_tasks if task is None else task
        head, view = self.heads.of(task), self._view(task)
        if view.run is not None:
            run = view.run
            with torch.no_grad():
                yield Viewed(lambda inputs: run(inputs.contiguous())[:, columns], is_heard=False)
            return
        with interrupts.deferred(), self.heads.lent(head), torch.no_grad():
            own = dict(self.module.named_buffers()) | self.private_of(task)

            def compute(inputs: Tensor) -> Tensor:
                # New copies for each call, since a module may change its buffers even in evaluation mode.
                outputs: Tensor = functional_call(self.module, view.weights | copies(own), (inputs.contiguous(),))
                return outputs[:, columns]

            yield Viewed(compute, bool(sequences.hooked(self.module.modules())))

    def _view(self, task: int) -> View:
        """Return the view of a finished task, or of the day's task; between days, views are kept."""
        head, private = self.heads.of(task), self.private_of(task)

        def make() -> View:
            return View.of(self.module, self._weights_of(task), private, head, self.anatomy.heads)

        if self._before is not None or task not in self.sight.of:
            return make()
        sources = (*self.weights.values(), *self.owners.values(), *private.values(), *head.parameters())
        return self._views.of(task, sources, self.sight.of[task], make)

    def _weights_of(self, task: int) -> dict[str, Tensor]:
        """Return the maskable weights as `task` sees them, by their names in the module."""
        return {self.anatomy.masked[name]: self.visible(name, task) for name in self.weights}

    @interrupts.deferred()
    def begin_day(self, n_outputs: int, sees: Owners | None = None, succeeds: int | None = None) -> None:
        """Give all free weights to a new task, set their values as `restart` says, and make the task's head.

        Draws from PyTorch's global generator; call it under `daynight.support.seeding.forked`.

        Args:
            n_outputs: Number of outputs of the task.
            sees: The owners whose weights the task sees, besides its own; None is all earlier tasks.
            succeeds: Index of the living task that this one succeeds. The task begins with its biases, norms, buffers
                and head, sees what it sees, and also holds the weights that no other living task sees.

        Raises:
            NetworkError: If the head cannot be made.
        """
        assert self._before is None
        self._views.clear()
        is_first, day = self.n_tasks == 0, self.n_tasks
        head = self.heads.for_day(n_outputs) if succeeds is None else self.heads.grown(succeeds, n_outputs)
        before = copies(self._changeable()), dict(self._pruned)
        seen = self.sight.today(day, sees, succeeds)
        if not isinstance(seen, range):
            self._settled = {name: (weight.detach().clone(), self.owners[name].clone())
                             for name, weight in self.weights.items()}  # fmt: skip
        taken = frozenset[int]() if succeeds is None else self.sight.own(succeeds)
        for name, owners in self.owners.items():
            if day > torch.iinfo(owners.dtype).max:
                owners = self.owners[name] = owners.to(torch.int32)
            if not is_first:
                self._restart(name, owners == FREE)
            owners.masked_fill_(owned_by(owners, {FREE, *taken}), day)
            if not isinstance(seen, range):
                with torch.no_grad():
                    self.weights[name].masked_fill_(~owned_by(owners, {*seen, day}), 0)
        if succeeds is not None:
            put_values(self.module, self._private[succeeds])
        self._seen, self._succeeds = seen, succeeds
        self.heads.put(head)
        named = dict(self.module.named_parameters())
        if not is_first:
            for name in self._frozen_names:
                named[name].requires_grad_(False)
        self._before = before

    @interrupts.deferred()
    def release(self, keep: Mapping[str, Tensor]) -> None:
        """Prune: free the weights that the task of the day holds and that are not in `keep`.

        Args:
            keep: Per layer, which weights to keep: bool of the weight's shape.
        """
        assert self._before is not None
        for name, mask in keep.items():
            dropped = (self.owners[name] == self.n_tasks) & ~mask
            with torch.no_grad():
                if self.restart == "keep":
                    before = self._pruned.get(name, torch.zeros_like(self.weights[name]))
                    self._pruned[name] = torch.where(dropped, self.weights[name], before)
                self.weights[name].masked_fill_(dropped, 0)
            self.owners[name].masked_fill_(dropped, FREE)

    def mark(self) -> Mark:
        """Return a copy of all that a night may change; `put_back` takes it."""
        assert self._before is not None
        frozen = {name for name, parameter in self.module.named_parameters() if not parameter.requires_grad}
        tensors = {name: tensor for name, tensor in tensors_of(self.module).items() if name not in frozen}
        return {"tensors": copies(tensors), "owners": copies(self.owners), "pruned": dict(self._pruned)}

    @interrupts.deferred()
    def put_back(self, mark: Mark) -> None:
        """Undo all changes since `mark` was made."""
        put_values(self.module, mark["tensors"])
        self.owners, self._pruned = self.placed(mark["owners"]), self.placed(mark["pruned"])

    def learnt(self) -> dict[str, Tensor]:
        """Return copies of all that the day trains, by name."""
        return {name: p.detach().clone() for name, p in self.module.named_parameters() if p.requires_grad}

    @interrupts.deferred()
    def rewind(self, learnt: Mapping[str, Tensor]) -> None:
        """Set the numbers that the day may still move to earlier values; pruned weights stay pruned.

        Args:
            learnt: What `learnt` returned at that time.
        """
        assert self._before is not None
        masks = {self.anatomy.masked[name]: mask for name, mask in self.movable().items()}
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                if name in learnt:
                    mask = masks.get(name)
                    parameter.copy_(learnt[name] if mask is None else torch.where(mask, learnt[name], parameter))

    @interrupts.deferred()
    def end_day(self) -> None:
        """Finish the task of the day: it now owns the weights that it holds, and its private tensors are copied.

        A task that it succeeds retires.
        """
        assert self._before is not None
        day = self.n_tasks
        private = copies(self.private_of(day))
        for name, (weight, _) in (self._settled or {}).items():
            is_others = (self.owners[name] != FREE) & (self.owners[name] != day)
            with torch.no_grad():
                self.weights[name].copy_(torch.where(is_others, weight, self.weights[name]))
        self._settled = None
        self._keep(private, self._seen)
        self._before = None
        if self._succeeds is not None:
            self.retire(self._succeeds)

    def _keep(self, private: dict[str, Tensor], seen: Owners) -> None:
        """Enter the day's task among the finished ones."""
        day = self.n_tasks
        self.heads.keep(day)
        self._private[day] = private
        self.sight.of[day] = range(day + 1) if isinstance(seen, range) else frozenset({*seen, day})
        self._n_tasks += 1

    @interrupts.deferred()
    def retire(self, task: int) -> None:
        """Forget a finished task: its private tensors, and the weights that no other living task sees.

        These become free, and zero. Another living task must be left.
        """
        assert self._before is None
        assert self.living not in ((), (task,)), task
        del self._private[task], self.sight.of[task]
        self.heads.forget(task)
        if task > self.living[-1]:  # the module has the numbers of the last one
            put_values(self.module, self._private[self.living[-1]])
        needed = self.sight.needed
        for name, owners in self.owners.items():
            freed = (owners != FREE) & ~owned_by(owners, needed)
            owners[freed] = FREE
            with torch.no_grad():
                self.weights[name].masked_fill_(freed, 0)
            if name in self._pruned:
                self._pruned[name] = self._pruned[name].masked_fill(freed, 0)

    def skip_day(self) -> None:
        """Count a day that has left nothing behind."""
        assert self._before is None
        self._n_tasks += 1

    @interrupts.deferred()
    def abandon_day(self) -> None:
        """Abandon the day: free the weights that its task holds, and restore all other tensors."""
        assert self._before is not None
        (before, self._pruned), self._before = self._before, None
        settled, self._settled = self._settled or {}, None
        if self.heads.kept:
            self.heads.put(self.heads.kept[max(self.heads.kept)])
        with torch.no_grad():
            for name, owners in self.owners.items():
                self.weights[name].masked_fill_(owners == self.n_tasks, 0)
                owners[owners == self.n_tasks] = FREE
            for name, (weight, owners) in settled.items():
                self.weights[name].copy_(weight)
                self.owners[name] = owners
            put_values(self.module, before)

    def state(self) -> dict[str, Tensor]:
        """Return all tensors of the network, between days or during a day, by name; `restore` takes them."""
        found = {f"module.{name}": tensor for name, tensor in self.heads.beside().items()}
        found |= {f"owners.{name}": owners for name, owners in self.owners.items()}
        found |= {f"pruned.{name}": pruned for name, pruned in self._pruned.items()}
        for task in self.living:
            found |= tensors_of(self.heads.kept[task], f"heads.{task}.")
            found |= {f"private.{task}.{name}": tensor for name, tensor in self._private[task].items()}
        if self._before is not None:
            before, pruned = self._before
            found |= tensors_of(self.heads.live, "today.head.")
            found |= {f"today.before.{name}": tensor for name, tensor in before.items()}
            found |= {f"today.pruned.{name}": tensor for name, tensor in pruned.items()}
            for name, (weight, owners) in (self._settled or {}).items():
                found |= {f"today.settled.{name}": weight, f"today.settled_owners.{name}": owners}
        return found

    @interrupts.deferred()
    def restore(
        self, state: Mapping[str, Tensor], n_tasks: int, living: Mapping[int, Told], today: Told | None = None
    ) -> None:
        """Restore a saved state with at least as many finished tasks. Draws from PyTorch's global generator.

        Buffers, such as a memory that grows in training, take the shape and type that they have in the state.

        Args:
            state: What `state` returned.
            n_tasks: Number of finished tasks.
            living: Those of them that have not retired, by index.
            today: The day's task if the state was saved during a day; None if between days.

        Raises:
            NetworkError: If a tensor is missing or left over, or has another shape or type.
        """
        assert self._before is None
        zeros = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in self.weights.items()}
        for name, owners in self.owners.items():
            self.owners[name] = owners.to(state.get(f"owners.{name}", owners).dtype)
        for task in set(self.living) - living.keys():
            del self._private[task], self.sight.of[task]
            self.heads.forget(task)
        for task, told in living.items():
            if task not in self._private:
                self._n_tasks = task
                self.heads.put(self.heads.for_day(told.n_outputs))
                self._keep(copies(self.private_of(task)), range(task) if told.sees is None else told.sees)
        self._n_tasks = n_tasks
        if today is not None:
            self.begin_day(today.n_outputs, today.sees, today.succeeds)
            pruned = {name: zero.clone() for name, zero in zeros.items() if f"today.pruned.{name}" in state}
            self._before = copies(self._changeable()), pruned
        self._pruned = {name: zero for name, zero in zeros.items() if f"pruned.{name}" in state}
        self._take_sizes(state)
        own = self.state()
        check_alike(own, state)
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def placed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies of tensors, by their names, on the device of the weights."""
        device = next(iter(self.weights.values())).device
        return {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}

    def _changeable(self) -> dict[str, Tensor]:
        """Return the tensors, besides the head, that a day may change and that `abandon_day` restores.

        After the first day, weights that freeze are not among these: a day can change only free weights, which are zero
        before the day.
        """
        names = set(self.anatomy.private + self.anatomy.biases + self.anatomy.frozen)
        if self.n_tasks == 0 or not self.freezes:
            names |= set(self.anatomy.masked.values())
        live = tensors_of(self.module)
        return {name: live[name] for name in names}

    def _take_sizes(self, state: Mapping[str, Tensor]) -> None:
        """Replace buffers that have another shape or type in a saved state by those of the state."""
        modules = {"module.": self.module} | {f"heads.{task}.": head for task, head in self.heads.kept.items()}
        stores = {f"private.{task}.": own for task, own in self._private.items()}
        if self._before is not None:
            modules["today.head."], stores["today.before."] = self.heads.live, self._before[0]
        for prefix, module in modules.items():
            names = sizeable(module)
            put_values(module, {name: state[prefix + name] for name in names if prefix + name in state})
        for prefix, store in stores.items():
            known = store.keys() & sizeable(self.module).keys()
            store |= self.placed({name: state[prefix + name] for name in known if prefix + name in state})

    def _restart(self, name: str, free: Tensor) -> None:
        """Set the free weights of a layer, which are zero after pruning, as `restart` says."""
        if self.restart == "zero":
            return
        if self.restart == "keep":
            fresh = self._pruned.get(name, self.weights[name])
        else:
            fresh = redrawn(self.module, self.anatomy.masked[name])
        with torch.no_grad():
            self.weights[name].copy_(torch.where(free, fresh, self.weights[name]))
