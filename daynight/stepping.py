"""An optimizer's step, with no more around it than somebody hears."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

#: Optimizers that move each number by itself, and none that has a gradient, decay and state of zero. Theirs may be
#: laid out in any way, and left out where their gradient is zero.
ELEMENTWISE = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax,
    torch.optim.Adadelta, torch.optim.RMSprop,
)  # fmt: skip

#: What Adam works on: parameters, gradients, both moments, the largest second ones (none), and numbers of steps.
Operands = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]

_module: Any = inspect.getmodule(torch.optim.Optimizer)
#: Hooks of all optimizers, which may come at any time.
_GLOBAL_HOOKS = _module._global_optimizer_pre_hooks, _module._global_optimizer_post_hooks


class Stepper:
    """Takes the steps of an optimizer.

    What PyTorch wraps around a step is for hooks, schedulers and profilers. Where nobody would hear it, it is left out,
    and so is looking up at each step what Adam works on: in a sparse night both would show.

    Args:
        optimizer: As it was made.
        parameters: What it may train.

    Attributes:
        is_plain: Whether it does what its class says, number by number, and no more.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> None:
        self._optimizer = optimizer
        # A subclass, a hook, another step, or a state before the first one may do more.
        watched = [optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks]
        watched += [parameter._backward_hooks for parameter in parameters]
        has_more = any(watched) or "step" in vars(optimizer) or bool(optimizer.state)
        self.is_plain = type(optimizer) in ELEMENTWISE and not has_more
        self.begin(is_steady=False)

    def begin(self, is_steady: bool) -> None:
        """Take notice of what it works on, and of a scheduler.

        Args:
            is_steady: Whether gradients stay the tensors that they are.
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
    """Give the step that a class of PyTorch defines; None if something else is wrapped around it, too."""
    step: Any = kind.step
    while hasattr(step, "__wrapped__"):
        if not step.__globals__["__name__"].startswith("torch."):
            return None
        step = step.__wrapped__
    return step


def _is_usual(group: dict[str, Any]) -> bool:
    """Tell whether a group asks for fused Adam, and nothing unusual of it."""
    unusual = ("amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay")
    return bool(group.get("fused")) and not any(group.get(name) for name in unusual)
