"""What is said of networks, inputs and outputs that do not fit; and types and memory formats that do."""

import functools

import pytest
import torch
from torch import nn

from daynight import Agent, Capacity, OneShot, Steps, Task, Training
from daynight.errors import DataError, ExportError, NetworkError, TrainingError

INPUTS = torch.rand(32, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(32) % 2
TASK = Task(train=(INPUTS[:24], LABELS[:24]), test=(INPUTS[24:], LABELS[24:]), n_outputs=2)


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs))


class Outputs(dict):
    @property
    def logits(self):
        return self["logits"]


class ByObject(Body):
    def forward(self, inputs):
        return Outputs(logits=super().forward(inputs))


class ByTuple(Body):
    def forward(self, inputs):
        return super().forward(inputs), inputs


class ByDict(Body):
    def forward(self, inputs):
        return {"out": super().forward(inputs)}


@pytest.mark.parametrize(
    ("kind", "what", "part"), [(ByObject, "Outputs", ".logits"), (ByTuple, "tuple", "[0]"), (ByDict, "dict", "['out']")]
)
def test_networks_that_return_more_than_a_tensor_are_refused_with_what_helps(kind, what, part):
    with pytest.raises(NetworkError) as error:
        Agent(kind, capacity=Capacity(free_at_end=0.5, days=2)).check(TASK)
    assert str(error.value) == (
        f"the network gives {what}, and must give one tensor (7, 2) for a batch of 7. Wrap it in a module whose "
        f"forward returns that tensor, such as self.network(inputs){part}."
    )


class FromDict(Body):
    def forward(self, inputs):
        return super().forward(inputs["x"])


class FromTuple(Body):
    def forward(self, inputs):
        first, second = inputs
        return super().forward(first + second)


class FromTwo(Body):
    def forward(self, first, second):
        return super().forward(first + second)


@pytest.mark.parametrize("kind", [FromDict, FromTuple, FromTwo])
def test_networks_that_take_more_than_a_tensor_are_refused_with_what_helps(kind):
    with pytest.raises(NetworkError, match="wrap it in a module whose forward takes one tensor and takes it apart"):
        Agent(kind, capacity=Capacity(free_at_end=0.5, days=2)).check(TASK)


@pytest.mark.parametrize("inputs", [{"x": INPUTS}, (INPUTS, INPUTS)])
def test_inputs_of_several_tensors_are_refused_with_what_helps(inputs):
    message = r"the inputs are a (dict|tuple), and must be one tensor: .* wrap the network in a module whose forward"
    with pytest.raises(DataError, match=message):
        Task(train=(inputs, LABELS), test=(inputs, LABELS))


class Sorted(nn.Module):
    """Reads texts whose ends are zeros, and can read no text that is empty."""

    def __init__(self):
        super().__init__()
        self.embed, self.read, self.head = nn.Embedding(9, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, numbers):
        lengths = (numbers != 0).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(numbers), lengths, True, enforce_sorted=False)
        return self.head(self.read(packed)[1][-1])


def test_predictions_of_no_examples_are_empty_whatever_the_network_reads():
    texts = torch.randint(1, 9, (32, 5), generator=torch.Generator().manual_seed(1))
    texts[::2, 3:] = 0
    task = Task(train=(texts[:24], LABELS[:24]), test=(texts[24:], LABELS[24:]), n_outputs=2)
    agent = Agent(Sorted, capacity=Capacity(free_at_end=0.5, days=2), training=Training(batch_size=8))
    agent.wake(task, Steps(2))
    agent.finish_night()
    assert agent.predict(texts[:0], 0).shape == (0, 2)
    assert torch.equal(agent.predict(texts[3:4], 0), agent.predict(texts, 0)[3:4])


def lived(network, task=TASK, **settings):
    agent = Agent(network, capacity=Capacity(free_at_end=0.5, days=2), training=Training(batch_size=8, **settings))
    agent.wake(task, Steps(3))
    agent.sleep(OneShot(), Steps(2))
    return agent


def convolutions(conv, pool, *shape):
    layers = [conv(3, 16, 3, padding=1), nn.ReLU(), conv(16, 8, 3, stride=2, padding=1), nn.ReLU(), pool(1)]
    inputs = torch.rand(256, 3, *shape)
    labels = torch.arange(256) % 2
    task = Task(train=(inputs[:32], labels[:32]), test=(inputs[32:64], labels[32:64]), n_outputs=2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 2)), inputs, task


@pytest.mark.parametrize("exclude", [(), ["2"]])
@pytest.mark.parametrize(
    ("kinds", "shape", "memory"),
    [
        ((nn.Conv2d, nn.AdaptiveAvgPool2d), (8, 8), torch.channels_last),
        ((nn.Conv3d, nn.AdaptiveAvgPool3d), (4, 4, 4), torch.channels_last_3d),
    ],
)
def test_subnetworks_give_the_bits_of_predictions_in_every_memory_format(kinds, shape, memory, exclude):
    network, inputs, task = convolutions(*kinds, *shape)
    agent = Agent(
        network.to(memory_format=memory), capacity=Capacity(free_at_end=0.5, days=2), exclude=exclude,
        training=Training(batch_size=8),
    )  # fmt: skip
    agent.wake(task, Steps(3))
    agent.finish_night()
    with torch.no_grad():
        assert torch.equal(agent.subnetwork(0)(inputs), agent.predict(inputs, 0))


def test_types_that_onnxruntime_cannot_run_are_errors_of_export(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    agent = lived(lambda: Body().bfloat16())
    with pytest.raises(ExportError, match=r"onnxruntime cannot run the exported network of torch\.bfloat16: .*\.pt2"):
        agent.export(0, tmp_path / "task.onnx")
    assert not list(tmp_path.iterdir())
    agent.export(0, tmp_path / "task.pt2")


def test_steps_of_float16_that_fail_say_what_fails():
    adam = functools.partial(torch.optim.AdamW, lr=1e-3)
    message = r"Adam's eps=1e-8 is 0: give the optimizer eps=1e-4, or train in float32\.$"
    with pytest.raises(TrainingError, match=f"(?m){message}"):
        lived(lambda: Body().half(), optimizer=adam)
    lived(lambda: Body().half(), optimizer=functools.partial(adam, eps=1e-4))
