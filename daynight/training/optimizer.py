"""`Optimization`: optimizer steps that cannot move frozen numbers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from daynight.errors import SettingError, TrainingError
from daynight.networks import sequences, tracing
from daynight.networks.masked import MaskedNetwork
from daynight.networks.tracing import Part
from daynight.support import interrupts
from daynight.training import resumed
from daynight.training.engines.arena import Arena, Slot
from daynight.training.engines.engine import Engine, Loss
from daynight.training.engines.stages import Units
from daynight.training.loose import FEW, Loose
from daynight.training.settings import Training
from daynight.training.together import has_modes, held_by, load, set_mode

#: Optimizers that move each number independently of the others, and do not move numbers whose gradient, decay and state
#: are zero. So the numbers can be laid out in any way, and left out where their gradient is zero.
ELEMENTWISE = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax,
    torch.optim.Adadelta, torch.optim.RMSprop,
)  # fmt: skip

#: The tensors of Adam: parameters, gradients, first and second moments, largest second moments (empty), and numbers of
#: steps.
Operands = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]

_module: Any = inspect.getmodule(torch.optim.Optimizer)
#: Hooks of all optimizers, which may be registered at any time. PyTorch has no public way to see them.
_GLOBAL_HOOKS = _module._global_optimizer_pre_hooks, _module._global_optimizer_post_hooks


class Stepper:
    """Takes the steps of an optimizer, without overhead if that is possible.

    PyTorch wraps code around a step, for hooks, schedulers and profilers. If there are none of these, this code is left
    out, and the tensors of Adam are not collected again at each step. In a sparse night, both take a good part of the
    time.

    Args:
        optimizer: The optimizer, before its first step.
        parameters: The parameters that the optimizer may train.

    Attributes:
        is_plain: Whether the optimizer does only what its class does, and moves each number independently of the
            others.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> None:
        self._optimizer, self._parameters = optimizer, list(parameters)
        # A subclass, a hook, a replaced step, or a state before the first step may do more.
        has_more = "step" in vars(optimizer) or bool(optimizer.state)
        self.is_plain = type(optimizer) in ELEMENTWISE and not (has_more or self.is_watched)
        self.begin(is_steady=False)

    @property
    def is_watched(self) -> bool:
        """Whether there are hooks now on the optimizer, or on the gradient of a parameter."""
        optimizer, parameters = self._optimizer, self._parameters
        return (
            bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks or any(_GLOBAL_HOOKS))
            or any(parameter._backward_hooks or parameter._post_accumulate_grad_hooks for parameter in parameters)
        )  # fmt: skip

    def complicate(self) -> None:
        """Take all further steps as the optimizer's class does, since there is more to do than it says."""
        self.is_plain = False
        self.begin(is_steady=False)

    def begin(self, is_steady: bool) -> None:
        """Prepare for new parameters, or for a scheduler that has wrapped the step.

        Args:
            is_steady: Whether the gradients will stay the same tensors.
        """
        is_bare = self.is_plain and "step" not in vars(self._optimizer)
        self._step = _unwrapped(type(self._optimizer)) if is_bare else None
        self._can_be_direct = is_steady and is_bare and type(self._optimizer) is torch.optim.Adam
        self._operands: list[Operands] = []

    def __call__(self) -> None:
        """Take a step."""
        if self._step is None or any(_GLOBAL_HOOKS):
            self._optimizer.step()
            return
        with torch.no_grad():
            if self._operands:
                self._step_adam()
                return
            self._step(self._optimizer)
            if self._can_be_direct and all(_is_usual(group) for group in self._optimizer.param_groups):
                self._operands = [self._operands_of(group["params"]) for group in self._optimizer.param_groups]

    def _operands_of(self, parameters: list[Tensor]) -> Operands:
        moved = [parameter for parameter in parameters if parameter.grad is not None]
        states = [self._optimizer.state[parameter] for parameter in moved]
        first, second, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        return moved, [p.grad for p in moved if p.grad is not None], first, second, [], steps

    def _step_adam(self) -> None:
        for group, operands in zip(self._optimizer.param_groups, self._operands, strict=True):
            beta1, beta2 = group["betas"]
            adam(
                *operands, foreach=False, fused=True, amsgrad=False, maximize=False, beta1=beta1, beta2=beta2,
                lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"],
            )  # fmt: skip


def _unwrapped(kind: type[torch.optim.Optimizer]) -> Any:
    """Return the step that a class of PyTorch defines; None if code from outside PyTorch is wrapped around the step."""
    step: Any = kind.step
    while hasattr(step, "__wrapped__"):
        if not step.__globals__["__name__"].startswith("torch."):
            return None
        step = step.__wrapped__
    return step


def _is_usual(group: dict[str, Any]) -> bool:
    """Return whether the settings of a group are those of fused Adam, with none that is unusual."""
    unusual = ("amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay")
    return bool(group.get("fused")) and not any(group.get(name) for name in unusual)


State = dict[str, Any]


class Optimization:
    """The optimizer of one phase, which cannot move frozen numbers.

    Numbers that an engine computes with are trained in arenas, other parameters in place. In place, the gradients of
    frozen weights are set to zero, so that they have no effect in optimizers that use several weights at once. After
    each step, frozen weights get back their values, since weight decay and momentum move weights that have no gradient.

    Args:
        network: The network, during a day. `flush` writes the trained numbers to it.
        training: The settings.
        loss: Function of (outputs, targets) to a scalar.
        n_steps: Number of steps that this optimizer will take, for the scheduler; None if unknown.
        parts: The network as a chain; None leaves the network whole.
        live: Which of the network's flattened inputs are not zero in all training data; None if unknown.
        narrows: Whether inputs that are not read may be left out of the batches, too.
        hooked: What `sequences.hooked` returned when the chain was made.

    Raises:
        SettingError: If `training` makes an optimizer that is not valid.
    """

    def __init__(
        self,
        network: MaskedNetwork,
        training: Training,
        loss: Loss,
        n_steps: int | None,
        parts: Sequence[Part] | None = None,
        live: Units = None,
        narrows: bool = False,
        hooked: frozenset[int] = frozenset(),
    ) -> None:
        self._network, self._training, self._loss = network, training, loss
        named = {name: p for name, p in network.module.named_parameters() if p.requires_grad}
        self._optimizer = training.make_optimizer(list(named.values()), list(named))
        self._held, self._has_modes = held_by(self._optimizer), has_modes(self._optimizer)
        self._is_stepping = False  # whether an optimizer with modes is in training mode
        #: The values of the parameters in training mode, while an optimizer with modes is in evaluation mode.
        self._stepped: list[Tensor] | None = None
        self._step = Stepper(self._optimizer, named.values())
        self._modules, self._hooked = list(network.module.modules()), hooked
        self._hooks = sequences.hooks_of(self._modules)
        self._is_cut = parts is not None and self._step.is_plain and not self._has_modes and not self._has_new_hooks()
        self._parts = parts if parts is not None and self._is_cut else tracing.uncut(network, training.autocast)
        self._live, self._was_cut = live if self._is_cut else None, self._is_cut
        # Whether numbers may be gathered, and convolutions be computed from the list of their visible weights.
        self._gathers = self._lists = self._is_cut
        self._groups = [list(group["params"]) for group in self._optimizer.param_groups]
        self._narrows = self._carries = False
        self._loose: list[Loose] = []  # parameters that are trained in place
        #: The numbers that may move of parameters of which they are few, and that no engine has in an arena.
        self._gathered: list[Slot] = []
        self._arenas: list[Arena | None] = []  # of each group of parameters
        self._engine = self._engage(narrows)
        self._scheduler = None if n_steps is None else training.make_scheduler(self._optimizer, n_steps)
        self._step.begin(is_steady=not self._loose)
        self._decays = self._found_decays()
        rates = [group.get("lr") for group in self._optimizer.param_groups]
        # Schedulers write into rates that are tensors.
        self._rates = [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]
        self._is_scaled = False

    @property
    def features(self) -> Units:
        """Which flattened inputs the batches must hold; None is the inputs as the network reads them."""
        return self._engine.features

    def forget_pruned(self, narrows: bool = False) -> None:
        """Continue after a prune: read the masks again, and clear the optimizer's state of frozen numbers."""
        states = self._spread_states()
        self._stepped = None  # the network has other values now
        self._engine = self._engage(narrows, carries=True)
        for group, arena in zip(self._optimizer.param_groups, self._arenas, strict=True):
            group["params"] = [p for p in group["params"] if arena is None or p is not arena.vector]
            if arena is not None:
                group["params"].insert(0, arena.vector)
                self._optimizer.state[arena.vector] = _gathered(arena, states)
        for item in self._loose:
            if id(item.parameter) in states:
                self._optimizer.state[item.parameter].update(states[id(item.parameter)])
            if item.mask is not None:
                found = [held.state[item.parameter] for held in self._held if item.parameter in held.state]
                for value in [value for state in found for value in state.values()]:
                    # Masks and codes, which have no sign, are no numbers that could move a weight.
                    if isinstance(value, Tensor) and value.shape == item.mask.shape and value.dtype.is_signed:
                        value.mul_(item.mask)
        self._step.begin(is_steady=not self._loose)

    def heed_hooks(self) -> None:
        """Continue with the network itself, by autograd, if there are hooks that a chain of engines would not call."""
        if self._is_cut and (self._step.is_watched or self._has_new_hooks()):
            self.flush()
            self._uncut()
            self.forget_pruned(self._narrows)

    def known(self) -> set[str]:
        """Return which of ``"optimizer"`` and ``"scheduler"`` do only what classes of PyTorch do."""
        is_own = self._step.is_watched or "step" in vars(self._optimizer)
        parts = {"optimizer": None if is_own else self._optimizer, "scheduler": self._scheduler}
        return {name for name, part in parts.items() if type(part).__module__.startswith("torch.optim.")}

    def state(self) -> State:
        """Return the optimizer's state, without the network; `restore` takes it. Call `flush` first."""
        state = {
            "narrows": self._narrows, "carries": self._carries, "is_scaled": self._is_scaled, "gathers": self._gathers,
            "lists": self._lists,
            "optimizer": self._optimizer.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
        }  # fmt: skip
        # Most checkpoints need none of these.
        more = {"stepped": self._stepped} if self._has_modes else {}
        return state | more | ({"was_watched": True} if self._was_cut and not self._is_cut else {})

    def restore(self, state: State) -> None:
        """Take over what `state` returned. The network must be restored already, and the settings be the same."""
        if state.get("was_watched") and self._is_cut:
            self._uncut()
        self._gathers, self._lists = state.get("gathers", False), state.get("lists", False)  # older files say nothing
        if self._is_cut:
            for group, saved in zip(self._optimizer.param_groups, state["optimizer"]["param_groups"], strict=True):
                group.update({name: value for name, value in saved.items() if name != "params"})
        self._engine = self._engage(state["narrows"], state["carries"])
        load(self._optimizer, state["optimizer"])
        self._stepped = state.get("stepped")
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])
        self._decays, self._is_scaled = self._found_decays(), state["is_scaled"]
        self._step.begin(is_steady=not self._loose)
        if self._step.is_plain:
            resumed.check_states(self._optimizer)

    def scale_rate(self, factor: float | None) -> None:
        """Set the learning rates to `factor` times their first values; with None, stop scaling them.

        Raises:
            SettingError: If the optimizer has no learning rate.
        """
        if factor is None and not self._is_scaled:
            return
        self._is_scaled = factor is not None
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            if rate is None:
                raise SettingError(
                    f"Cycle: rate shapes the learning rate, and {type(self._optimizer).__name__} has no 'lr'."
                )
            group["lr"] = rate * (1.0 if factor is None else factor)

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Take one optimizer step on a batch, and return its loss.

        Args:
            inputs: (batch, features), or as the network reads them if `features` is None.
            targets: The targets of the batch.
        """
        if self._has_modes and not self._is_stepping:
            self._begin_step()
        for item in self._loose:
            item.parameter.grad = None
        for slot in self._gathered:
            slot.parameter.grad = None
        loss = self._gradients(inputs, targets)
        self._gather()
        for item in self._loose:
            item.mute()
        if self._training.clip_norm is not None:
            for arena in self._arenas:
                if arena is not None:
                    arena.mute()
            moved = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(moved, self._training.clip_norm)
        try:
            self._step()
        except (RuntimeError, ArithmeticError) as error:
            raise TrainingError(
                f"the optimizer failed in a step: {error!r}. Call abandon_day, and lower the learning rate, or take "
                "another optimizer."
            ) from error
        finally:
            self._hold()
        if self._scheduler is not None and not self._is_scaled:
            self._schedule(self._scheduler)
        return loss

    @interrupts.deferred()
    def flush(self) -> None:
        """Write the trained numbers to the network. After a prune, call `forget_pruned` before this.

        An optimizer with modes is in evaluation mode afterwards, until the next step.
        """
        for arena in self._arenas:
            if arena is not None:
                arena.flush()
        for item in self._loose:
            item.parameter.grad = None  # what is done between steps has its memory
        if self._is_stepping:
            # The way back may round: so that no look at the network changes the training, its numbers are kept.
            self._stepped = [item.parameter.detach().clone() for item in self._loose]
            self._is_stepping = False
            set_mode(self._optimizer, "eval")
            self._hold()

    @interrupts.deferred()
    def _begin_step(self) -> None:
        """Put an optimizer with modes into training mode, with the numbers of the last step if they are known."""
        set_mode(self._optimizer, "train")
        self._hold()
        for item, value in zip(self._loose, self._stepped or (), strict=False):
            item.parameter.detach().copy_(value)
        self._stepped, self._is_stepping = None, True

    def _gradients(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the gradients of the mean loss of a step's examples, a batch at a time, and return that loss."""
        if self._training.accumulate == 1:
            return self._engine.gradients(self._changed(inputs), targets, self._loss)
        arenas = [arena.vector.grad for arena in self._arenas if arena is not None and arena.vector.grad is not None]
        sums, loss = [torch.zeros_like(gradient) for gradient in arenas], torch.zeros(())
        size = self._training.batch_size
        for some, theirs in zip(inputs.split(size), targets.split(size), strict=True):
            share = len(some) / len(inputs)
            loss = loss + share * self._engine.gradients(self._changed(some), theirs, self._loss, share)
            for total, gradient in zip(sums, arenas, strict=True):
                total += gradient
        for total, gradient in zip(sums, arenas, strict=True):
            gradient.copy_(total)
        return loss

    def _gather(self) -> None:
        """Copy the gradients of the numbers that were gathered into their arenas.

        If a parameter has no gradient, or one that its stage does not know, the network itself computes all further
        steps.
        """
        missed = {id(slot.parameter) for slot in self._engine.missed()}
        if missed or any(slot.parameter.grad is None for slot in self._gathered):
            # An optimizer leaves out a parameter without a gradient, and an arena has one for each number.
            own = missed | {id(slot.parameter) for slot in self._gathered}
            for arena in self._arenas:
                if arena is not None and arena.vector.grad is not None:
                    arena.flush()
                    for parameter, gradient in arena.spread(arena.vector.grad):
                        if id(parameter) in missed and parameter.grad is not None:
                            parameter.grad.add_(gradient)
                        parameter.grad = parameter.grad if id(parameter) in own else gradient
            self._uncut()
            self.forget_pruned(self._narrows)
        for slot in self._gathered:
            assert slot.parameter.grad is not None
            slot.gradient.copy_(slot.read(slot.parameter.grad))
            slot.parameter.grad = None

    def _changed(self, inputs: Tensor) -> Tensor:
        if self._training.augment is not None:
            inputs = self._training.augment(inputs)
        return inputs if self._training.transform is None else self._training.transform(inputs)

    def _has_new_hooks(self) -> bool:
        """Return whether a module has hooks that the chain was made without."""
        return any(self._hooks) and not sequences.hooked(self._modules) <= self._hooked

    def _uncut(self) -> None:
        """Let the engine that is made next compute the network as one part."""
        self._is_cut, self._gathers, self._live = False, False, None
        self._parts = tracing.uncut(self._network, self._training.autocast)
        self._step.complicate()

    def _schedule(self, scheduler: Any) -> None:
        try:
            scheduler.step()
        except Exception as error:
            raise SettingError(
                f"Training: the scheduler cannot take another step: {error!r}. Make it for the number of steps given."
            ) from error
        if self._found_decays() != self._decays:
            # Numbers without a gradient were left out because nothing moved them. Now weight decay may move them.
            self._decays = self._found_decays()
            self.flush()
            self.forget_pruned(self._narrows)

    def _found_decays(self) -> list[bool]:
        return [bool(group.get("weight_decay", 0) != 0) for group in self._optimizer.param_groups]

    def _engage(self, narrows: bool, carries: bool = False) -> Engine:
        """Make the engine for the current masks, and give the optimizer its parameters."""
        training, network = self._training, self._network
        self._narrows, self._carries = narrows, carries
        engine = Engine(self._parts, network, training.engine, self._live, training.batch_size, narrows, self._lists)
        slots: dict[int, list[Slot]] = {}
        for slot in engine.slots():
            slots.setdefault(id(slot.parameter), []).append(slot)
        trainables = network.trainables()
        masks = {id(item.parameter): item.mask for item in trainables}
        rest = [item for item in trainables if id(item.parameter) not in slots]
        self._gathered = [
            Slot(item.parameter, torch.nonzero(item.mask.reshape(-1))[:, 0]) for item in rest
            if self._gathers and item.mask is not None and int(item.mask.count_nonzero()) <= FEW * item.mask.numel()
        ]  # fmt: skip
        for slot in self._gathered:
            slots[id(slot.parameter)] = [slot]
        self._loose = [Loose(item.parameter, item.mask) for item in rest if id(item.parameter) not in slots]
        self._arenas = []
        for group, parameters in zip(self._optimizer.param_groups, self._groups, strict=True):
            packed = [p for p in parameters if id(p) in slots]
            found = [slot for p in packed for slot in slots.pop(id(p))]
            if carries or group.get("weight_decay", 0) != 0:
                # Weight decay and momentum of an earlier cycle also move numbers without a gradient.
                found += [left for p in packed if (left := _rest_of(p, masks[id(p)], found)) is not None]
            arena = Arena(found) if found else None
            self._arenas.append(arena)
            others = [p for p in parameters if all(p is not q for q in packed)]
            group["params"] = ([] if arena is None else [arena.vector]) + others
        # The engine also computes with parameters that the optimizer does not train; they do not change.
        if slots:
            Arena([slot for untrained in slots.values() for slot in untrained])
        engine.bind()
        return engine

    def _hold(self) -> None:
        for arena in self._arenas:
            if arena is not None:
                arena.hold()
        for item in self._loose:
            item.hold()
        for slot in self._gathered:
            slot.write(slot.parameter.detach(), slot.values)

    def _spread_states(self) -> dict[int, State]:
        """Remove the optimizer's state, and return the state by the `id` of the network's own parameters.

        What it keeps under other keys than parameters stays. Nothing is removed if optimizers hold others: they have no
        arenas.
        """
        if len(self._held) > 1:
            return {}
        kept = {key: state for key, state in self._optimizer.state.items() if not isinstance(key, Tensor)}
        states: dict[int, State] = {id(p): s for p, s in self._optimizer.state.items() if isinstance(p, Tensor)}
        for arena in self._arenas:
            if arena is None:
                continue
            for key, value in states.pop(id(arena.vector), {}).items():
                if isinstance(value, Tensor) and value.shape == arena.vector.shape:
                    for parameter, full in arena.spread(value):
                        states.setdefault(id(parameter), {})[key] = full
                else:
                    for slot in arena.slots:  # optimizers count the steps of each parameter in place
                        own = value.clone() if isinstance(value, Tensor) else value
                        states.setdefault(id(slot.parameter), {})[key] = own
        self._optimizer.state.clear()
        self._optimizer.state.update(kept)
        return states


def _gathered(arena: Arena, states: dict[int, State]) -> State:
    """Return the optimizer's state of an arena's vector, made from its states of the parameters."""
    own = [states[id(slot.parameter)] for slot in arena.slots if id(slot.parameter) in states]
    gathered: State = {}
    for key in own[0] if own else ():
        value = own[0][key]
        is_full = isinstance(value, Tensor) and value.shape == arena.slots[0].parameter.shape
        if is_full:
            value = arena.gather({name: state[key] for name, state in states.items() if key in state})
        gathered[key] = value.clone() if isinstance(value, Tensor) else value
    return gathered


def _rest_of(parameter: nn.Parameter, mask: Tensor | None, slots: Sequence[Slot]) -> Slot | None:
    """Return a slot of the numbers of a parameter that may move and are not in `slots`; None if there are none."""
    left = torch.ones_like(parameter, dtype=torch.bool) if mask is None else mask.clone()
    left = left.reshape(-1)
    for slot in slots:
        if slot.parameter is parameter:
            left[slice(None) if slot.index is None else slot.index] = False
    return Slot(parameter, torch.nonzero(left)[:, 0]) if bool(left.any()) else None
