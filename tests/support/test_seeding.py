import pytest
import torch

from daynight.errors import SettingError
from daynight.support import seeding


def test_generator_same_name_gives_same_numbers():
    first = torch.rand(5, generator=seeding.generator(3, "wake", 2))
    assert torch.equal(first, torch.rand(5, generator=seeding.generator(3, "wake", 2)))


def test_derive_differs_between_names_that_look_alike():
    seeds = [
        seeding.derive(*parts)
        for parts in [(0,), (1,), (0, "wake"), (0, "wake", 1), (0, "wake", 11), (0, "wake", 1, 1), (0, "1"), (0, 1)]
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_forked_restores_the_global_generator_even_after_an_error():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    def draw_and_fail():
        with seeding.forked(0, "x"):
            torch.rand(100)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        draw_and_fail()
    assert torch.equal(torch.rand(3), expected)


def test_forked_block_depends_on_its_name_alone():
    draws = []
    for outer, name in [(1, "a"), (2, "a"), (2, "b")]:
        torch.manual_seed(outer)
        with seeding.forked(0, name):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])


def test_forked_block_draws_what_manual_seed_would():
    with seeding.forked(3, "a"):
        drawn = torch.rand(4)
    torch.manual_seed(seeding.derive(3, "a"))
    assert torch.equal(drawn, torch.rand(4))


@pytest.mark.parametrize("seed", [-1, 1.5, "0", True, None])
def test_derive_refuses_what_is_no_seed(seed):
    with pytest.raises(SettingError, match=r"seed must be a whole number from 0 up, not"):
        seeding.derive(seed)
