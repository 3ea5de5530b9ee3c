import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from daynight import Capacity, Cycle, Epochs, ExplicitCycles, Steps, Task, Training, UniformCycles
from daynight.errors import SettingError
from daynight.support import checks, seeding


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_takes_any_kind_of_integer(value):
    assert type(checks.integer("n", value, 0)) is int


@pytest.mark.parametrize("value", [True, 3.0, "3", None, np.float64(3), -1])
def test_whole_refuses_what_is_none(value):
    with pytest.raises(SettingError, match=r"^n must be a whole number from 0 up, not "):
        checks.integer("n", value, 0)


@pytest.mark.parametrize("value", [3, 3.5, np.float32(3.5), np.int64(3), Fraction(7, 2)])
def test_finite_takes_any_kind_of_number(value):
    assert type(checks.finite("x", value)) is float


def test_numbers_above_the_limit_are_refused():
    assert (checks.integer("n", 9, 0, most=9), checks.finite("x", 2000, most=2000)) == (9, 2000.0)
    with pytest.raises(SettingError, match=r"(?m)^n must be at most 9, not 10\.$"):
        checks.integer("n", 10, 0, most=9)
    with pytest.raises(SettingError, match=r"(?m)^x must be at most 2,000, not 2000\.5\.$"):
        checks.finite("x", 2000.5, most=2000)


@pytest.mark.parametrize(
    "value", [True, "3", None, math.nan, -math.inf, np.float64("nan"), 3j, pytest.param(10**400, id="huge")]
)
def test_finite_refuses_what_is_none(value):
    with pytest.raises(SettingError, match=r"^x must be a finite number, not "):
        checks.finite("x", value)


def test_settings_take_numpy_numbers_and_hold_pythons_own():
    assert UniformCycles(np.int64(8)).n == 8
    assert seeding.derive(np.int64(3), "x") == seeding.derive(3, "x")
    settings = [
        Epochs(np.float32(2)).n, Steps(np.int32(2)).n, Cycle(keep=np.float64(0.5), length=np.float32(1)).keep,
        Capacity(free_at_end=np.float64(0.5), days=np.int64(3)).days, Training(batch_size=np.int64(5)).batch_size,
        Capacity(keep_per_night=np.float32(0.5)).keep_per_night, ExplicitCycles(np.array([1, 2])).relative_lengths[1],
    ]  # fmt: skip
    assert {type(value) for value in settings} == {int, float}


@pytest.mark.parametrize("n_outputs", [0, 2.0, True])
def test_task_refuses_numbers_of_outputs_that_are_none(n_outputs):
    pair = (np.zeros((2, 3)), np.array([0, 1]))
    with pytest.raises(SettingError, match="Task: n_outputs must be a whole number from 1 up, not"):
        Task(train=pair, test=pair, n_outputs=n_outputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_found_among_many(dtype, bad):
    numbers = torch.randn(7, 300).to(dtype)
    assert checks.all_finite(numbers)
    for place in (0, 1, 1000, 2099):
        spoilt = numbers.clone()
        spoilt.view(-1)[place] = bad
        assert not checks.all_finite(spoilt)
        assert not checks.all_finite(spoilt.T)
    assert checks.all_finite(torch.empty(0))
    assert checks.all_finite(torch.tensor([1, 2]))
