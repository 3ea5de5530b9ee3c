"""`check_policy`, which tries on nights of many kinds whether a sleep policy keeps the rules."""

from __future__ import annotations

import collections
import functools
import math
import pickle
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import nn

from daynight.agent import Agent
from daynight.clock import Clock
from daynight.data.splits import Split
from daynight.data.tasks import Task, TaskStream
from daynight.errors import DaynightError, PolicyError
from daynight.history import History, Record
from daynight.nights.budgets import Budget, Epochs, Steps
from daynight.nights.cycle import Cycle, Measured, Night
from daynight.nights.deadlines import Seconds, Until
from daynight.nights.policy import SleepPolicy, advance, check_end, follow, planned, require_policy
from daynight.pruning.capacity import Capacity
from daynight.rates import factor_of
from daynight.storage.identity import attributes_of
from daynight.support import checks
from daynight.testing.timers import FakeTimer
from daynight.testing.toys import toy_network, toy_stream
from daynight.training.settings import Training

#: Types of objects that a policy must not hold: each gives access to data, or to results that judge the policy.
_DATA = (Agent, Clock, History, Record, Split, Task, TaskStream, nn.Module, torch.utils.data.Dataset)
#: An array or tensor of one dimension with at most this many numbers counts as a list of settings, such as densities.
_MANY = 1000
#: Budgets of the nights. Some have fewer steps than most policies have cycles; in one, a prune has a price.
_BUDGETS: tuple[Budget, ...] = (*map(Steps, (10_000, 100, 7, 3, 1, 0)), Seconds(60), Steps(10_000, price=0.01))
_DAWNS = (0.01, 0.5, 1e-4, 1.0)
#: Courses of losses and scores for policies that react: by name, a function of the index of the cycle.
_COURSES: dict[str, Callable[[int], Measured]] = {
    "recovers": lambda cycle: Measured(0.1 + 0.5 * 0.5**cycle, 1 - 0.3 * 0.5**cycle, "validation"),
    "never recovers": lambda cycle: Measured(0.1 + 0.2 * cycle, 1 / (1 + 0.1 * cycle), "train"),
    "is zero": lambda cycle: Measured(0.0, 1.0, "train"),
    "is negative": lambda cycle: Measured(-0.5 - 0.1 * cycle, -2.0 + 0.1 * cycle, "validation"),
    "comes and goes": lambda cycle: Measured(
        1 + math.sin(2.0 * cycle), 0.5 - 0.4 * math.sin(2.0 * cycle), "validation"
    ),
}
#: A policy with more cycles than this in one night (of all courses) is asked again for two courses of each night, and
#: sleeps fewer nights on the toy network.
_MANY_CYCLES = 200
#: Of so many cycles of a night, rates are compared at many shares of the REM.
_N_SAMPLED = 20
_EQUAL = Capacity(free_at_end=0.5, days=2)
#: With the first, a night goes on down to its lowest density, and with the second, it stops its prunes early.
_CHOOSING = tuple(Capacity(free_at_end=0.5, days=2, share="need", tolerance=tolerance) for tolerance in (1e6, 0.0))
#: The values of a cycle that are compared: its density, its length, the point of the wake to which it rewinds, and the
#: factors of the learning rate in its REM.
Laid = tuple[float, float, float | None, tuple[float, ...]]


def check_policy(policy: SleepPolicy) -> None:
    """Raise PolicyError if a sleep policy breaks a rule.

    The policy first divides nights of many budgets and densities into cycles. Some of these nights have fewer steps
    than cycles. If the policy reacts, the nights have several courses of the loss. The policy then runs nights on a toy
    network, with budgets in epochs and in seconds, also on simulated machines that are slower than planned, and with
    nights that choose what they keep. A policy with hundreds of cycles a night sleeps fewer of the nights on the toy
    network; those in time, which merge its cycles, stay. It is also asked again for fewer courses of the loss, and
    rates of its later cycles are looked at in fewer places. In a terminal, a bar shows how far the check is. The policy
    is not changed.

    What breaks a rule only after day 7, or only in nights of more than 10,000 steps, is not found.

    Args:
        policy: The policy, ready to be used.

    Raises:
        SettingError: If `policy` is not a SleepPolicy.
        PolicyError: For the first rule that is broken. A policy must

            - hold only settings, in its class as well: no data, networks, agents or histories, no arrays or tensors of
              more than one dimension or 1,000 numbers, and no more than 8,000 bytes;
            - be picklable, for runs in other processes and for saved agents;
            - in each night reach the dawn density, never let the density rise, and never overspend, even if the budget
              is less than one step per cycle, or zero;
            - yield equal cycles for equal nights;
            - keep no state from one night to the next;
            - work with nights in seconds, which do not go as planned, and with prunes that have a small price;
            - work with nights that choose their dawn density (``Capacity(share="need")``).
    """
    require_policy(policy)
    _check_settings(policy)
    from tqdm import tqdm  # as in `daynight.loggers.ProgressBar`

    before, nights = _bytes_of(policy), list(_nights())
    n_tries = 2 * len(nights) + len(list(_toys(many=False)))
    with tqdm(total=n_tries, desc="check_policy", unit="night", leave=False, disable=None) as bar:

        def counted(items: Iterable[Any]) -> Iterator[Any]:
            for item in items:
                yield item
                bar.update()

        courses = [*_COURSES]
        first = [_laid(policy, night, courses) for night in counted(nights)]
        _check_kept(policy, before)
        many, whole = max(sum(map(len, laid.values())) for laid in first) > _MANY_CYCLES, toy_stream(2)
        for number, night in counted(reversed([*enumerate(nights)])):
            again = _laid(policy, night, [courses[(number + n) % len(courses)] for n in (0, 1)] if many else courses)
            if any(cycles != first[number].get(course) for course, cycles in again.items()):
                raise PolicyError(
                    f"check_policy: {checks.brief(policy)} is not repeatable: it yields different cycles for equal "
                    "nights. Draw random numbers from a generator that cycles() makes from a setting and night.day."
                )
        _check_kept(policy, before)
        for budget, capacity, n_days in counted(_toys(many)):
            # What is held out is measured after each prune, and a night that chooses its density needs it.
            stream = whole if many and capacity is _EQUAL else whole.hold_out(0.2)
            _sleep(policy, stream, budget, capacity, n_days)
        _check_kept(policy, before)


def _check_settings(policy: SleepPolicy) -> None:
    """Raise PolicyError if the policy holds data, directly or in an object that it holds."""
    held, seen = [*_attributes(policy).items(), *_of_classes(policy).items()], set[int]()
    while held:
        name, value = held.pop()
        if isinstance(value, _DATA) or _is_large(value):
            raise PolicyError(
                f"check_policy: {type(policy).__name__} holds data: {name} is a {type(value).__name__}. A policy holds "
                "only settings. What it may know of the data is in night.loss and night.score. An array or tensor of "
                f"settings has at most one dimension and {_MANY:,} numbers; bytes are at most {8 * _MANY:,}."
            )
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            held += [(f"{name}[{key!r}]", item) for key, item in value.items()]
        elif isinstance(value, list | tuple | set | frozenset | collections.deque):
            held += [(f"{name}[{index}]", item) for index, item in enumerate(value)]
        elif isinstance(value, functools.partial):
            held += [(name, value.func), (f"{name}.args", value.args), (f"{name}.keywords", value.keywords)]
        elif isinstance(value, types.MethodType):
            held.append((name, value.__self__))
        elif not isinstance(value, type | types.FunctionType | types.ModuleType):
            held += [(f"{name}.{key}", item) for key, item in _attributes(value).items()]


def _attributes(value: object) -> dict[str, object]:
    """Return the attributes of an object, also those that its classes keep in slots."""
    slots = [slot for each in type(value).__mro__ for slot in _names(vars(each).get("__slots__", ()))]
    return {slot: getattr(value, slot) for slot in slots if hasattr(value, slot)} | getattr(value, "__dict__", {})


def _names(slots: Any) -> Iterable[str]:
    return [slots] if isinstance(slots, str) else slots


def _of_classes(policy: SleepPolicy) -> dict[str, object]:
    """Return the attributes, without methods and properties, of the policy's class and its bases below SleepPolicy."""
    classes = [each for each in type(policy).__mro__ if issubclass(each, SleepPolicy) and each is not SleepPolicy]
    return {
        f"{each.__name__}.{name}": value
        for each in classes
        for name, value in vars(each).items()
        if not name.startswith(("__", "_abc_"))
        and (isinstance(value, _DATA) or not (callable(value) or hasattr(value, "__get__")))
    }


def _is_large(value: object) -> bool:
    """Return whether `value` holds more than a list of settings.

    This is an array or tensor of two or more dimensions or more than 1,000 numbers, or more than 8,000 bytes.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return len(value) > 8 * _MANY
    return isinstance(value, torch.Tensor | np.ndarray) and (value.ndim > 1 or math.prod(value.shape) > _MANY)


def _bytes_of(policy: SleepPolicy) -> bytes:
    try:
        content = pickle.dumps((policy, _of_classes(policy)))
        pickle.loads(content)
    except Exception as error:
        raise PolicyError(
            f"check_policy: {checks.brief(policy)} cannot be pickled: {error}. Define its class and its functions at "
            "the top of a module, and keep open files, generators and lambdas out of its settings."
        ) from error
    return content


def _check_kept(policy: SleepPolicy, before: bytes) -> None:
    """Raise PolicyError if the policy has changed since it was pickled."""
    if _bytes_of(policy) == before:
        return
    old, new = (
        {name: pickle.dumps(value) for name, value in (attributes_of(each) | of_classes).items()}
        for each, of_classes in (pickle.loads(before), (policy, _of_classes(policy)))
    )
    if new == old and vars(policy).keys() - new:
        return  # only values that it derives from its settings have changed
    names = [name for name, value in new.items() if value != old.get(name)]
    raise PolicyError(
        f"check_policy: {checks.brief(policy)} keeps state between nights, which is not allowed. Changed attributes: "
        f"{', '.join(names) or 'unknown'}. Keep the state of a night in local variables of cycles()."
    )


def _nights() -> Iterator[Night]:
    for day, budget in enumerate(_BUDGETS):
        ledger = budget.open(10)
        for dawn in _DAWNS:
            yield Night(
                day=day, budget=budget, n_steps=ledger.n_steps, price=ledger.price, steps_per_epoch=10,
                dawn_density=dawn,
            )  # fmt: skip


def _toys(many: bool) -> Iterator[tuple[Budget, Capacity, int]]:
    """Yield the budget, the capacity and the number of nights of each life on the toy network.

    Args:
        many: Whether the policy has so many cycles that a night takes seconds.
    """
    n_days = 1 if many else 2
    yield Epochs(3), _EQUAL, n_days
    if not many:
        yield Epochs(0.25), _EQUAL, n_days
        yield Steps(0), _EQUAL, n_days
    for capacity in _CHOOSING:
        if not many:
            yield Epochs(3), capacity, n_days
        yield Seconds(2, timer=FakeTimer(0.05, 0.1)), capacity, 2  # the second night may take from the bank
    for slow in (FakeTimer(0.01, 0.3), FakeTimer(0.4, 0.1), FakeTimer(lambda n: 0.02 * (1 + n % 5), lambda n: 0.1 * n)):
        yield Seconds(2, timer=slow), _EQUAL, n_days
    yield Until("06:00", timer=FakeTimer(900, 100)), _EQUAL, n_days


def _laid(policy: SleepPolicy, night: Night, courses: Sequence[str]) -> dict[str, list[Laid]]:
    """Return the cycles of a night: the plan or, if the policy reacts, its cycles for each course of measurements."""
    try:
        plan = planned(policy, night)
    except PolicyError as error:
        raise _broken(policy, night.budget, f"the dawn density {night.dawn_density:g}", error) from error
    if plan is not None:
        return {"": [_comparable(cycle, index) for index, cycle in enumerate(plan)]}
    return {course: _followed(policy, night, course) for course in courses}


def _followed(policy: SleepPolicy, night: Night, course: str) -> list[Laid]:
    """Return the cycles of a night for a course of measurements."""
    measure = _COURSES[course]
    night = attrs.evolve(night, measured=measure(0))
    cycles: list[Laid] = []
    try:
        script = follow(policy, night)
        cycle = next(script, None)
        while cycle is not None:
            cycles.append(_comparable(cycle, len(cycles)))
            night = night.after(cycle, measure(night.cycle + 1))
            cycle = advance(script, night)
        check_end(policy, night)
    except PolicyError as error:
        where = f"the dawn density {night.dawn_density:g} and a loss that {course}"
        raise _broken(policy, night.budget, where, error) from error
    return cycles


def _comparable(cycle: Cycle, index: int) -> Laid:
    """Return what equal cycles share; of the rate, factors at many shares of the REM, or after many cycles at few."""
    rate, step = cycle.rate, 1 if index < _N_SAMPLED else 20
    assert not isinstance(cycle.keep, str)
    factors = () if rate is None else tuple(factor_of(rate, n / 40, 0.5) for n in range(0, 41, step))
    return cycle.keep, cycle.length, cycle.rewind, factors


def _sleep(policy: SleepPolicy, stream: TaskStream, budget: Budget, capacity: Capacity, n_days: int) -> None:
    """Run days with the policy on a toy network."""
    agent = Agent(toy_network, capacity=capacity, training=Training(batch_size=10))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the night of day [01] was to be over", UserWarning)
            Clock(agent, stream, policy=policy, wake=Epochs(1), night=budget).run(n_days)
    except DaynightError as error:
        raise _broken(policy, budget, "a toy network", error) from error


def _broken(policy: SleepPolicy, budget: Budget, where: str, error: Exception) -> PolicyError:
    return PolicyError(f"check_policy: in a night of {budget!r} with {where}: {error}")
