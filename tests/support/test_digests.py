"""Digests of tensors, which files hold: neither memory format nor strides change them."""

import torch

from daynight.support.digests import digest


def test_a_digest_does_not_depend_on_the_order_in_memory():
    numbers = torch.arange(24.0).reshape(2, 3, 4)
    assert digest(numbers.transpose(0, 2).contiguous().transpose(0, 2)) == digest(numbers)
    assert digest(numbers[:, :1, 1:2].contiguous()) == digest(numbers[:, :1, 1:2])


def test_a_single_number_may_have_any_stride():
    for dtype in (torch.float64, torch.bfloat16, torch.int16, torch.bool):
        column = torch.ones(1, 6, dtype=dtype)[:, 3]
        assert column.stride() == (6,)
        assert digest(column) == digest(torch.ones(1, dtype=dtype))
