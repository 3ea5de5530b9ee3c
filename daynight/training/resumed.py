"""Checks of the state of a day in a checkpoint: that it fits the day's task, network, budgets and optimizer.

They are made before anything is taken over. What a policy, an optimizer or a scheduler of the user's own holds is
compared with that of a new one, as far as that tells what belongs there.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from daynight.history import SEES
from daynight.networks.heads import sizeable
from daynight.networks.masked import MaskedNetwork
from daynight.nights.cycle import BY_NEED, TOLERANCE, Night
from daynight.support import checks, expected
from daynight.support.expected import Form, anything, fields, flag, listed, number, one_of, optional, tensor, whole

#: Shares of a budget are at most 1, and may exceed it by rounding; cycles may plan for more than is left.
_SHARE, _STATE, _LENGTH = number(0, 1 + 1e-6), expected.mapping(anything), number(0, 1e12)
_MEASURED = fields({"loss": number(is_finite=False), "score": number(is_finite=False),
                    "split": one_of("validation", "train")})  # fmt: skip


def check_day(state: Any, network: MaskedNetwork, dusk: Night, n_steps: int) -> None:
    """Raise ValueError unless the state of a day has the form that `Day.state` gives it, and fits.

    Args:
        state: The state.
        network: The network, restored already, within that day.
        dusk: The snapshot, at dusk, of the day's night.
        n_steps: Number of optimizer steps before the day.
    """
    learnt = expected.tensors(network.learnt())
    weights = expected.tensors({name: weight.detach() for name, weight in network.weights.items()})
    fields({
        "is_woken": flag, "seconds": number(0), "start": lambda where, value: value == {} or weights(where, value),
        "learnt": expected.mapping(learnt, number(0, 1)), "wake": optional(_STATE),
        "batches": optional(fields({"left": tensor(None, torch.int64), "generator": tensor(None, torch.uint8)})),
        "sleep": optional(_sleep(network, dusk)), "lesson": _LESSON,
    }, {"choice": fields({"label": expected.text(SEES), "ledger": _STATE})})("", state)  # fmt: skip
    running, is_night = state["lesson"]["running"], state["sleep"] is not None
    one_of(n_steps)("n_before", state["lesson"]["n_before"])
    if is_night and not state["is_woken"]:
        raise ValueError("a night has begun before its wake was over")
    if (state["batches"] is not None) != (not state["is_woken"] and state["wake"] is not None):
        raise ValueError("the wake has batches after its end, or none before")
    is_rem = is_night and "rem" in state["sleep"]
    if is_rem != (is_night and "script" in state["sleep"]) or (running is None and is_rem):
        raise ValueError("a REM was interrupted without all that it needs to be resumed")
    if running is not None and not is_rem and (is_night or state["is_woken"] or state["batches"] is None):
        raise ValueError("training was interrupted outside of a phase that trains")


def _sleep(network: MaskedNetwork, dusk: Night) -> Form:
    """Return the form of a night's state."""
    mark, sizes = network.mark(), sizeable(network.module)
    tensors = {
        name: tensor(None if name in sizes else known.shape, known.dtype) for name, known in mark["tensors"].items()
    }
    night = _night(dusk)

    def owners(where: str, value: Any) -> None:
        fields({name: tensor(known.shape, torch.int16, torch.int32) for name, known in mark["owners"].items()})(
            where, value
        )
        for name, owner in value.items():
            if owner.numel() and not -1 <= int(owner.min()) <= int(owner.max()) <= dusk.day:
                raise ValueError(f"{where}.{name} has owners that are no tasks")

    pruned = {name: tensor(weight.shape, weight.dtype) for name, weight in network.weights.items()}
    rem = fields({
        "is_last": flag, "takes_all": flag, "is_given": flag, "cut": number(0, 1), "end": _LENGTH, "before": night,
        "keep": expected.either(one_of("dawn"), number(0, 1)), "length": _LENGTH,
        "mark": fields({"tensors": fields(tensors), "owners": owners, "pruned": fields({}, pruned)}),
    }, {"pruned_at": optional(whole())})  # fmt: skip
    script = fields({"asked": night, "heard": listed(_pair(night, _LENGTH))})
    batches = fields({"left": tensor(None, torch.int64), "generator": tensor(None, torch.uint8)})
    given = {"night": night, "ledger": _STATE, "batches": batches}
    more = {"script": script, "rem": rem, "pruned_at": whole(), "limit": _pair(number(is_finite=False), number())}
    return fields(given, more)


def _night(dusk: Night) -> Form:
    """Return the form of the snapshots of the night whose snapshot at dusk is `dusk`."""
    snapshot = fields({
        "day": one_of(dusk.day), "steps_per_epoch": one_of(dusk.steps_per_epoch), "n_steps": optional(whole()),
        "price": number(0, is_finite=False), "density": number(0, 1), "dawn_density": number(0, 1), "spent": _SHARE,
        "cycle": whole(0, 10**9), "measured": optional(_MEASURED),
    }, dict.fromkeys(BY_NEED, anything))  # fmt: skip

    def check(where: str, value: Any) -> None:
        snapshot(where, value)
        dawn, has_chosen = value["dawn_density"], dusk.chooses and "is_settled" in value
        highest = min(dusk.highest_density or 1.0, value["density"]) if has_chosen else dusk.dawn_density
        number(dusk.dawn_density * (1 - TOLERANCE), highest * (1 + TOLERANCE))(f"{where}.dawn_density", dawn)
        like = (dusk.settled(dawn) if has_chosen else dusk).to_json()
        for name in BY_NEED:
            one_of(like.get(name))(f"{where}.{name}", value.get(name))

    return check


def _pair(first: Form, second: Form) -> Form:
    def check(where: str, value: Any) -> None:
        listed(anything, 2)(where, value)
        first(f"{where}[0]", value[0])
        second(f"{where}[1]", value[1])

    return check


def _losses(where: str, value: Any) -> None:
    fields({"begin": _SHARE, "end": _LENGTH, "losses": tensor(None), "sizes": listed(whole(1))})(where, value)
    losses = value["losses"]
    if losses.dim() != 1 or not losses.is_floating_point() or len(losses) != len(value["sizes"]):
        raise ValueError(f"{where} has {len(value['sizes'])} batches, and losses {tuple(losses.shape)}")
    if not value["begin"] < value["end"]:
        raise ValueError(f"{where} ends before it begins")


def check_optimization(state: Any, new: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ValueError unless the state of an optimizer and a scheduler is of the kind that new ones have.

    Args:
        state: The state, as `Optimization.state` returned it.
        new: The state of the new ones, which have the same settings.
        known: Which of ``"optimizer"`` and ``"scheduler"`` do only what PyTorch's own do. Steps of others may add
            settings to those of a new one, and change their kinds.
    """
    for name in ("narrows", "carries", "is_scaled"):
        flag(name, state[name])
    for name in ("optimizer", "scheduler"):
        if (state[name] is None) != (new[name] is None):
            raise ValueError(f"the {name} is missing, or there was none")
    groups, own_groups = state["optimizer"].get("param_groups"), new["optimizer"].get("param_groups")
    if "optimizer" in known and groups is not None and own_groups is not None:
        listed(anything, len(own_groups))("param_groups", groups)
        for group, own in zip(groups, own_groups, strict=True):
            rest = {name: value for name, value in own.items() if name != "params"}
            # Steps may add values to a group.
            expected.like(rest)("param_groups", {name: group[name] for name in rest})
            settings = _SETTINGS if new["scheduler"] is None else ()
            if changed := [name for name in settings if name in rest and group[name] != rest[name]]:
                raise ValueError(f"the optimizer has another {changed[0]}: {group[changed[0]]!r}")
    if new["scheduler"] is not None and "scheduler" in known:
        own = new["scheduler"]
        expected.like(own)("scheduler", {name: state["scheduler"][name] for name in own})


def check_states(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless the state of one of PyTorch's elementwise optimizers fits its parameters."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                is_right = value.numel() == 1 or (value.shape == parameter.shape and value.is_floating_point())
                least = 0.0 if name in _POSITIVE or value.numel() == 1 else -math.inf
                if not is_right or not checks.all_finite(value) or bool((value < least).any()):
                    raise ValueError(f"the optimizer's {name} does not fit its parameter")
            elif name == "step":
                number(0)(name, value)
    if optimizer.state and {frozenset(state) for state in optimizer.state.values()} != {_names_of(optimizer)}:
        raise ValueError("the optimizer's state lacks values, or has others")


def _names_of(optimizer: torch.optim.Optimizer) -> frozenset[str]:
    """Return the names of the state of an optimizer of PyTorch, which a step of a new one on one number shows."""
    probe = torch.nn.Parameter(torch.zeros(1))
    probe.grad = torch.zeros(1)
    group = {name: value for name, value in optimizer.param_groups[0].items() if name in optimizer.defaults}
    twin = type(optimizer)([probe], **{name: group[name] for name in _accepted(optimizer) if name in group})
    twin.step()
    return frozenset(twin.state[probe])


def _accepted(optimizer: torch.optim.Optimizer) -> list[str]:
    return list(inspect.signature(type(optimizer)).parameters)


#: Settings of an optimizer that only a scheduler could change.
_SETTINGS = ("eps", "weight_decay", "amsgrad", "maximize", "nesterov", "dampening", "centered", "alpha", "rho", "fused")
#: Parts of the states of optimizers that are 0 or more.
_POSITIVE = ("step", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "acc_delta")
_RANDOM = fields({"cpu": tensor(None, torch.uint8), "python": listed(anything, 3), "numpy": listed(anything, 5)},
                 {"cuda": tensor(None, torch.uint8)})  # fmt: skip
_RUNNING = fields({"n_steps": optional(whole()), "optimization": _STATE, "stretch": _losses, "seconds": number(0),
                   "random": optional(_RANDOM)})  # fmt: skip
_LESSON = fields({"n_before": whole(0, 10**18), "is_whole": optional(flag), "running": optional(_RUNNING)})
