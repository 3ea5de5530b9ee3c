import re

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, OneShot, Steps, Task, Training
from daynight.errors import NetworkError, SettingError
from daynight.networks.anatomy import dissect
from daynight.networks.masked import MaskedNetwork
from daynight.testing import toy_stream
from daynight.training.preflight import probe

ONE_HEAD = nn.Linear(5, 2)


def mlp():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def test_finds_linear_and_convolution_layers_of_all_kinds():
    class Everything(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.c2, self.c3 = nn.Conv1d(2, 4, 3, groups=2), nn.Conv2d(2, 3, 1, bias=False), nn.Conv3d(1, 2, 2)
            self.t1, self.t2, self.t3 = nn.ConvTranspose1d(2, 2, 2), nn.ConvTranspose2d(2, 4, 2, groups=2), \
                nn.ConvTranspose3d(1, 1, 2)  # fmt: skip
            self.lin, self.act, self.head = nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)

    anatomy = dissect(Everything())
    assert list(anatomy.masked) == ["c1", "c2", "c3", "t1", "t2", "t3", "lin"]
    assert (anatomy.head, anatomy.heads) == ("head", ("head",))
    assert set(anatomy.biases) == {"c1.bias", "c3.bias", "t1.bias", "t2.bias", "t3.bias"}
    assert MaskedNetwork(Everything()).sizes == {"c1": 12, "c2": 6, "c3": 16, "t1": 8, "t2": 16, "t3": 8, "lin": 9}


class Twice(nn.Module):
    """Registers its head under two names, and calls it by one of them."""

    def __init__(self, called="out"):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 5), nn.Linear(5, 2)])
        self.out = self.layers[-1]
        self.called = called

    def forward(self, inputs):
        return self.get_submodule(self.called)(torch.relu(self.layers[0](inputs)))


@pytest.mark.parametrize("head", [None, "out", "layers.1"])
def test_head_is_found_under_all_its_names(head):
    anatomy = dissect(Twice(), head)
    assert (anatomy.head, anatomy.heads) == ("layers.1", ("layers.1", "out"))
    assert (anatomy.masked, anatomy.biases) == ({"layers.0": "layers.0.weight"}, ("layers.0.bias",))


@pytest.mark.parametrize("called", ["out", "layers.1"])
def test_head_of_two_names_is_replaced_under_both_and_no_task_is_forgotten(called):
    agent = Agent(Twice(called), capacity=Capacity(free_at_end=0.5, days=2))
    first, second = toy_stream(2)
    agent.wake(first, Steps(20))
    agent.sleep(OneShot(), Steps(5))
    before = agent.predict(first.test.inputs, 0)
    agent.wake(second, Steps(20))
    assert agent.network.module.out is agent.network.module.layers[1]
    agent.sleep(OneShot(), Steps(5))
    assert torch.equal(agent.predict(first.test.inputs, 0), before)
    # 5 biases, and a head of 2 x 5 weights and 2 biases.
    assert agent.network.n_private(0) == 5 + 12


def test_tensors_that_the_head_shares_with_the_rest_are_refused():
    norm = nn.BatchNorm1d(5, affine=False)
    module = nn.Sequential(nn.Linear(4, 5), norm, nn.Sequential(norm, nn.Linear(5, 2)))
    with pytest.raises(NetworkError, match=r"1\.running_mean is shared with the head '2'"):
        dissect(module, "2")


@pytest.mark.parametrize("exclude", ["2", "2.weight", lambda name, part: name == "2"])
def test_tied_weight_is_excluded_under_each_of_its_names(exclude):
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    module[2].weight = module[0].weight
    anatomy = dissect(module, exclude=exclude)
    assert anatomy.masked == {"1": "1.weight"}
    assert anatomy.frozen == (("0.weight",) if exclude == "2.weight" else ("0.weight", "2.bias"))


def test_module_of_two_names_is_excluded_under_each():
    module = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "out": nn.Linear(3, 2)})
    module["again"] = module["a"]
    assert dissect(module, "out", exclude=["again"]).masked == {"b": "b.weight"}


def test_shared_buffers_are_private_once():
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    module[3].running_mean = module[1].running_mean
    network = MaskedNetwork(module)
    network.begin_day(2)
    # Two times 5 scales, shifts and variances, and a counter; the mean of both; biases and head.
    assert network.n_private(0) == 2 * (3 * 5 + 1) + 5 + 2 * 5 + 12


@pytest.mark.parametrize("exclude", [3, None, nn.Conv2d, [nn.Conv2d], nn.Linear(2, 2), nn.Sequential(nn.ReLU())])
def test_exclude_of_another_form_is_refused(exclude):
    message = (
        "exclude must be names of modules or parameters, such as ['0'], or a function of (name, module), such as "
        f"lambda name, part: isinstance(part, nn.Conv2d), not {exclude!r}."
    )
    with pytest.raises(SettingError, match=f"(?m)^{re.escape(message)}$"):
        dissect(mlp(), exclude=exclude)


def test_exclude_function_of_one_argument_is_refused():
    with pytest.raises(
        SettingError, match=r"exclude must be a function of \(name, module\), and this one fails for '0'"
    ):
        dissect(mlp(), exclude=lambda name: name == "0")


def test_excluded_names_that_are_none_are_refused():
    with pytest.raises(NetworkError, match=r"exclude names \['9', '0\.scale'\], which the network does not have"):
        dissect(mlp(), exclude=["9", "0.bias", "0.scale"])


@pytest.mark.parametrize("make_head", ["x", 3, nn.Linear(5, 2)])
def test_make_head_that_is_no_function_is_refused(make_head):
    with pytest.raises(NetworkError, match=r"^make_head must be a function of the number of outputs, not "):
        MaskedNetwork(mlp(), make_head=make_head)


@pytest.mark.parametrize(
    ("make_head", "message"),
    [
        (lambda n: None, r"make_head must return a torch\.nn\.Module, and for 2 outputs returned None\."),
        (lambda: nn.Linear(5, 2), r"make_head failed for 2 outputs: TypeError: .* takes 0 positional arguments"),
        (lambda n: ONE_HEAD, "make_head must make a new module at each call"),
        (lambda n: nn.Sequential(ONE_HEAD, nn.ReLU()), "make_head must make a new module at each call"),
    ],
)
def test_make_head_that_makes_no_new_head_is_refused_before_the_first_day(make_head, message):
    network = MaskedNetwork(mlp(), make_head=make_head)
    with pytest.raises(NetworkError, match=f"^{message}"):
        probe(network, torch.rand(3, 4), 2)


def test_make_head_that_begins_to_repeat_itself_is_refused():
    heads = [nn.Linear(5, 2), nn.Linear(5, 2)]
    network = MaskedNetwork(mlp(), make_head=lambda n: heads[network.n_tasks // 2])
    network.begin_day(2)
    network.end_day()
    with pytest.raises(
        NetworkError, match=r"this one shares tensors with an earlier head or the network\. Build the layers"
    ):
        network.begin_day(2)


def test_convolution_head_whose_groups_do_not_divide_the_outputs_is_refused():
    module = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1, groups=2), nn.Flatten())
    network = MaskedNetwork(module, head="1")
    assert probe(network, torch.rand(3, 1, 1, 1), 4).shape == (3, 4)
    with pytest.raises(NetworkError, match=r"a convolution head of 2 groups cannot have 3 outputs, .* Give make_head="):
        probe(network, torch.rand(3, 1, 1, 1), 3)


class Waves(nn.Module):
    """Multiplies by complex factors, which are a parameter or a buffer, as complex numbers or as pairs of real ones."""

    def __init__(self, kind):
        super().__init__()
        self.body, self.head, self.kind = nn.Linear(6, 8), nn.Linear(8, 2), kind
        factors = torch.ones(8, dtype=torch.complex64) * (1 + 1j)
        if kind == "buffer":
            self.register_buffer("factors", factors)
        else:
            self.factors = nn.Parameter(factors if kind == "complex" else torch.view_as_real(factors).clone())

    def forward(self, inputs):
        factors = torch.view_as_complex(self.factors) if self.kind == "pairs" else self.factors
        return self.head((torch.relu(self.body(inputs)) * factors).abs())


def given(network, **settings):
    return Agent(network, capacity=Capacity(free_at_end=0.3, days=2), training=Training(batch_size=8), **settings)


def test_complex_parameters_are_refused_by_name():
    layer = nn.Sequential(nn.Linear(6, 8, dtype=torch.complex64), nn.Linear(8, 8), nn.Linear(8, 2))
    message = (
        "{} is complex, and parameters must be plain floating-point numbers. Let the parameter hold real and imaginary "
        "parts in one more dimension of size 2, and call torch.view_as_complex in forward; or make numbers that are "
        "not trained a buffer.{}"
    )
    for network, settings, expected in (
        (Waves("complex"), {}, message.format("factors", "")),
        (layer, {}, message.format("0.weight", " The same holds for 0.bias.")),
        (layer, {"private": ["0"]}, message.format("0.weight", " The same holds for 0.bias.")),
        (layer, {"exclude": ["0.bias"]}, message.format("0.weight", " The same holds for 0.bias.")),
    ):
        with pytest.raises(NetworkError) as error:
            given(network, **settings)
        assert str(error.value) == expected


def test_parameters_of_other_kinds_are_refused_by_name():
    sparse, small = (nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)) for _ in range(2))
    sparse[0].weight = nn.Parameter(torch.eye(8, 6).to_sparse())
    small[0].weight = nn.Parameter(torch.ones(8, 6).to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(NetworkError, match=r"^0\.weight is sparse, .* a dense parameter"):
        given(sparse)
    with pytest.raises(NetworkError, match=r"^0\.weight is of the type torch\.float8_e4m3fn, .* 16 or more bits"):
        given(small)


@pytest.mark.parametrize("kind", ["pairs", "buffer"])
def test_complex_numbers_are_kept_in_the_ways_that_the_error_names(kind, tmp_path):
    inputs = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
    agent = given(lambda: Waves(kind), private=["factors"] if kind == "pairs" else ())
    seen = []
    for day in range(2):
        labels = (inputs[:, day] > 0).long()
        agent.wake(Task(train=(inputs, labels), test=(inputs, labels)), Steps(4))
        agent.sleep(OneShot(), Steps(3))
        seen.append(agent.predict(inputs, 0))
    before = seen[0]
    assert torch.equal(seen[1], before)
    agent.save(tmp_path / "agent.dn")
    other = Agent.load(tmp_path / "agent.dn", lambda: Waves(kind), training=agent.training)
    assert torch.equal(other.predict(inputs, 0), before)
