"""What works with which network: one row each, about fifteen seconds a row.

Every family of torchvision's classification networks and a segmentation network, families of `timm`, small random
configurations of `transformers`, graph layers of `torch_geometric`, and recurrent layers; all with random initial
weights. Each network learns two short tasks of random data:

- is it taken as it is, or what does the error advise; is it taken with that advice, or with a wrapper that a user would
  write;
- the share of its numbers that are masked, so that tasks share them;
- does the first task keep its bits and its predictions after the second day, and does `subnetwork` compute the same;
- does an agent read from its file predict the same bits; can the task be exported to ``.pt2`` and ``.onnx``;
- how long a wake step takes over a step of the network in plain PyTorch, taken in turn with it (median of 6).

About twenty-five minutes on one core:

    pip install --no-deps timm==1.0.31 transformers==5.24.0 torch_geometric==2.8.1 huggingface_hub==2.4.0 \
        tokenizers==0.23.3 regex==2026.11.19 aiohttp==3.14.5 xxhash==4.1.0
    HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 python benchmarks/works_networks.py --out docs/results/works_networks.csv

These packages need a few small others, which pip names. A run that was cut off continues.

To see what a change of the library does, add ``--new --against docs/results/works_networks.csv``. That lists the
rows whose verdict has changed, and the exit status is 1 if a row is worse.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import re
import signal
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import rows
import timm
import torch
import torch_geometric.nn as graphs
import torchvision
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize, rnn

import daynight as dn
from daynight.errors import DaynightError, ExportError
from daynight.support import seeding

PACKAGES = ("torchvision", "timm", "transformers", "torch_geometric", "onnx", "onnxruntime", "onnxscript")
COLUMNS = (
    "kind", "verdict", "as it is", "with", "parameters", "masked share", "layers", "frozen", "subnetwork", "file",
    "pt2", "onnx", "step over plain", "error",
)  # fmt: skip
N_EXAMPLES, BATCH, N_TIMED = 16, 8, 8
CAPACITY = dn.Capacity(free_at_end=0.3, days=2, min_per_layer=1)
#: Seconds that an export may take.
EXPORT_SECONDS = 25
#: Names that an error asks to be given to `private`.
NAMED = re.compile(r"private=\[([^\]]*)\]")
N_TOKENS, N_WORDS = 16, 60


@attrs.frozen(kw_only=True)
class Contestant:
    """A network, and what a user does if it is not taken as it is.

    Attributes:
        kind: Where it is from.
        make: Function that makes it.
        inputs: Shape of an input; ``"words"`` are N_TOKENS whole numbers.
        advice: Arguments of `daynight.Agent` to try if it is not taken as it is. Names that errors ask for are added.
        wrap: Module of the network that a user would write around it; None if none is needed.
        targets: Shape of a target of regression; None is labels of two classes.
    """

    kind: str
    make: Callable[[], nn.Module]
    inputs: tuple[int, ...] | str = (3, 32, 32)
    advice: Mapping[str, Any] = attrs.field(factory=dict)
    wrap: Callable[[nn.Module], nn.Module] | None = None
    targets: tuple[int, ...] | None = None

    def task(self, index: int) -> dn.Task:
        """Return a task of random data."""
        generator = seeding.generator(0, "works", index)
        if self.inputs == "words":
            inputs = torch.randint(1, N_WORDS, (N_EXAMPLES, N_TOKENS), generator=generator)
        else:
            inputs = torch.randn(N_EXAMPLES, *map(int, self.inputs), generator=generator)
        if self.targets is None:
            targets: Tensor = torch.arange(N_EXAMPLES) % 2
        else:
            targets = torch.randn(N_EXAMPLES, *self.targets, generator=generator)
        return dn.Task(train=(inputs, targets), test=(inputs[:BATCH], targets[:BATCH]), name=f"random {index}")


# ---------------------------------------------------------------------------------------- torchvision and timm
tv, tm = torchvision.models, timm.models
#: Families that have a member which is small enough, with the side of the images.
MEMBERS = {"mnasnet0_5": 32, "resnet18": 32, "squeezenet1_1": 32, "googlenet": 32, "inception_v3": 75}
#: Members with few blocks of the other families.
FEW_BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "ConvNeXt": lambda: tv.ConvNeXt(
        [tv.convnext.CNBlockConfig(32, 64, 1), tv.convnext.CNBlockConfig(64, None, 2)], num_classes=2
    ),
    "DenseNet": lambda: tv.DenseNet(growth_rate=16, block_config=(2, 2), num_init_features=32, num_classes=2),
    "EfficientNet": lambda: tv.EfficientNet(
        [tv.efficientnet.MBConvConfig(1, 3, 1, 32, 16, 1), tv.efficientnet.MBConvConfig(6, 3, 2, 16, 24, 2)], 0.2,
        num_classes=2,
    ),
    "EfficientNetV2": lambda: tv.EfficientNet(
        [tv.efficientnet.FusedMBConvConfig(1, 3, 1, 24, 24, 1), tv.efficientnet.MBConvConfig(4, 3, 2, 24, 32, 2)], 0.2,
        num_classes=2,
    ),
    "MaxVit": lambda: tv.MaxVit(
        input_size=(32, 32), stem_channels=16, partition_size=2, block_channels=[16, 32], block_layers=[1, 1],
        head_dim=16, stochastic_depth_prob=0.1, num_classes=2,
    ),
    "MobileNetV2": lambda: tv.MobileNetV2(2, 0.5, [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]]),
    "MobileNetV3": lambda: tv.MobileNetV3(
        [
            tv.mobilenetv3.InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
            tv.mobilenetv3.InvertedResidualConfig(16, 5, 72, 24, True, "HS", 2, 1, 1.0),
        ],
        64, num_classes=2,
    ),
    "RegNet X": lambda: tv.RegNet(
        tv.regnet.BlockParams([1, 1], [32, 64], [16, 16], [1.0, 1.0], [2, 2]), num_classes=2
    ),
    "RegNet Y": lambda: tv.RegNet(
        tv.regnet.BlockParams([1, 1], [32, 64], [16, 16], [1.0, 1.0], [2, 2], se_ratio=0.25), num_classes=2
    ),
    "ResNeXt": lambda: tv.ResNet(
        tv.resnet.Bottleneck, [1, 1, 1, 1], num_classes=2, groups=32, width_per_group=4
    ),
    "Wide ResNet": lambda: tv.ResNet(tv.resnet.Bottleneck, [1, 1, 1, 1], num_classes=2, width_per_group=128),
    "ShuffleNetV2": lambda: tv.ShuffleNetV2([1, 2, 1], [24, 48, 96, 192, 256], num_classes=2),
    "SwinTransformer": lambda: swin(tv.swin_transformer.SwinTransformerBlock),
    "SwinTransformer V2": lambda: swin(
        tv.swin_transformer.SwinTransformerBlockV2, downsample_layer=tv.swin_transformer.PatchMergingV2
    ),
    "VGG": lambda: vgg([16, "M", 32, "M", 32, "M"]),
    "VGG with batch norm": lambda: vgg([16, "M", 32, "M", 32, "M"], batch_norm=True),
    "VisionTransformer": lambda: tv.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=2
    ),
}  # fmt: skip
CHANNELS = {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)}
FEW = {"depths": (1, 1, 1, 1), "dims": (16, 32, 64, 128)}
NARROW = {"depth": 2, "embed_dim": 64, "num_heads": 2}
#: Names of timm, one of each family, with arguments that make it small.
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet10t": CHANNELS, "resnetv2_18": CHANNELS, "seresnet18": CHANNELS, "skresnet18": CHANNELS, "test_byobnet": {},
    "test_nfnet": {}, "test_efficientnet": {}, "lcnet_035": {}, "dla46_c": {}, "ese_vovnet19b_dw": {},
    "test_convnext": {}, "convnextv2_atto": FEW, "inception_next_atto": FEW, "test_mambaout": {},
    "starnet_s1": {"depths": (1, 1, 2, 1)}, "edgenext_xx_small": FEW | {"depths": (1, 1, 2, 1)}, "test_vit": {},
    "deit_tiny_patch16_224": NARROW, "beit_base_patch16_224": NARROW, "cait_xxs24_224": NARROW,
    "xcit_nano_12_p16_224": NARROW, "eva02_tiny_patch14_224": NARROW | {"img_size": 28},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1), "embed_dim": 32, "num_heads": (1, 2)},
    "pvt_v2_b0": {"depths": (1, 1, 1, 1)}, "pit_ti_224": {"depth": (1, 1, 1)},
    "levit_128s": {"depth": (1, 1, 1), "img_size": 64},
}  # fmt: skip
#: Families of timm whose functions do not take such arguments.
BY_CLASS: dict[str, Callable[[], nn.Module]] = {
    "GhostNet": lambda: tm.ghostnet.GhostNet([[[3, 16, 16, 0, 1]], [[3, 48, 24, 0.25, 2]]], num_classes=2, width=0.5),
    "MlpMixer": lambda: mixer(tm.mlp_mixer.MixerBlock), "ResMLP": lambda: mixer(tm.mlp_mixer.ResBlock, mlp_ratio=4),
    "gMLP": lambda: mixer(tm.mlp_mixer.SpatialGatingBlock, mlp_layer=tm.mlp_mixer.GatedMlp, mlp_ratio=4),
    "PoolFormer": lambda: tm.metaformer.MetaFormer(
        depths=(1, 1), dims=(16, 32), token_mixers=tm.metaformer.Pooling, num_classes=2
    ),
    "Nest": lambda: tm.nest.Nest(
        img_size=32, patch_size=4, num_levels=2, embed_dims=(16, 32), num_heads=(1, 2), depths=(1, 1), num_classes=2
    ),
    "FocalNet": lambda: tm.focalnet.FocalNet(depths=(1, 1), embed_dim=16, num_classes=2),
}  # fmt: skip


def mixer(block: Any, **settings: Any) -> nn.Module:
    """Make a small network of timm that mixes tokens by linear layers."""
    network: nn.Module = tm.mlp_mixer.MlpMixer(
        img_size=32, patch_size=8, num_blocks=2, embed_dim=32, block_layer=block, num_classes=2, **settings
    )
    return network


def swin(block: Any, **settings: Any) -> nn.Module:
    """Make a small Swin transformer of torchvision."""
    return tv.SwinTransformer(
        [4, 4], 32, [1, 2], [2, 2], [2, 2], stochastic_depth_prob=0.1, num_classes=2, block=block, **settings
    )  # fmt: skip


def vgg(layers: list[Any], **settings: Any) -> nn.Module:
    """Make a small VGG of torchvision, whose linear layers have 64 units instead of 4,096."""
    network = tv.VGG(tv.vgg.make_layers(layers, **settings), num_classes=2, init_weights=False)
    network.classifier = classifier(7 * 7 * [layer for layer in layers if layer != "M"][-1])
    return network


def alexnet() -> nn.Module:
    """Make AlexNet of torchvision, whose linear layers have 64 units instead of 4,096."""
    network = tv.AlexNet(num_classes=2)
    network.classifier = classifier(6 * 6 * 256)
    return network


def classifier(width: int) -> nn.Module:
    """Make the linear layers of AlexNet and VGG, with few units."""
    return nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 2))


def member(name: str) -> nn.Module:
    """Make a network of torchvision with random weights."""
    settings = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False, "aux_logits": False}}
    return tv.get_model(name, weights=None, num_classes=2, **settings.get(name, {}))


def of_timm(name: str) -> nn.Module:
    """Make a network of timm with random weights, for images of 32 x 32 if that is an argument."""
    settings = FAMILIES[name]
    try:
        return timm.create_model(name, num_classes=2, pretrained=False, **({"img_size": 32} | settings))
    except TypeError:
        return timm.create_model(name, num_classes=2, pretrained=False, **settings)


class FirstOutput(nn.Module):
    """A network that returns several outputs in training (auxiliary ones), of which the first is used."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the main output."""
        outputs = self.network(inputs)
        return outputs if isinstance(outputs, Tensor) else outputs[0]


class PixelsInARow(nn.Module):
    """A segmentation network whose map of outputs (n, classes, h, w) is flattened to (n, outputs)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Return one output for each pixel."""
        return self.network(inputs)["out"].flatten(1)


# ---------------------------------------------------------------------------------------- transformers
class Logits(nn.Module):
    """A network of transformers, of whose outputs only the logits are returned."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (n, 2)."""
        logits: Tensor = self.network(inputs).logits
        return logits


class Unparametrized(Logits):
    """As `Logits`, for a network with weight norm, which is removed first, as the error advises."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        for part in network.modules():
            if parametrize.is_parametrized(part, "weight"):
                parametrize.remove_parametrizations(part, "weight")


class Pooled(nn.Module):
    """A network of transformers without a head of its own, and a linear head on the mean over tokens."""

    def __init__(self, network: nn.Module, width: int = 32) -> None:
        super().__init__()
        self.network, self.head = network, nn.Linear(width, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (n, 2)."""
        outputs: Tensor = self.head(self.network(inputs).last_hidden_state.mean(1))
        return outputs


USUAL = {
    "vocab_size": N_WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 32, "num_labels": 2, "pad_token_id": 0,
}  # fmt: skip
PICTURES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8, "num_labels": 2,
}  # fmt: skip


def of_transformers(kind: str, task: str = "ForSequenceClassification", **settings: Any) -> nn.Module:
    """Make a network of transformers with random weights."""
    config = getattr(transformers, f"{kind}Config")(**settings)
    return getattr(transformers, f"{kind}{task}")(config)


def is_conv1d(name: str, part: nn.Module) -> bool:
    """Return whether a module is GPT-2's linear layer."""
    return type(part).__name__ == "Conv1D"


SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXTS: dict[str, dict[str, Any]] = {
    "Bert": USUAL, "Roberta": USUAL, "Electra": USUAL | {"embedding_size": 16},
    "Albert": USUAL | {"embedding_size": 16},
    "DistilBert": {"vocab_size": N_WORDS, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "num_labels": 2},
    "DebertaV2": USUAL,
    "XLNet": {"vocab_size": N_WORDS, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, **SPECIAL},
    "GPT2": {"vocab_size": N_WORDS, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32, **SPECIAL},
    "OPT": USUAL | {"ffn_dim": 64, "word_embed_proj_dim": 32}, "Llama": USUAL,
    "Mistral": USUAL | {"num_key_value_heads": 1},
    "Qwen2": USUAL | {"num_key_value_heads": 1}, "GPTNeoX": USUAL,
}  # fmt: skip
ADVICE_OF_TEXTS: dict[str, dict[str, Any]] = {"GPT2": {"mask": is_conv1d}}


# ---------------------------------------------------------------------------------------- graphs
N_NODES, N_NUMBERS = 6, 5


class OnGraph(nn.Module):
    """Two layers on one fixed graph, such as sensors along a road, and a head on the mean over its nodes.

    Args:
        layer: Function of numbers of inputs and outputs to a layer.
        width: Number of outputs of a layer.
    """

    def __init__(self, layer: Callable[[int, int], nn.Module], width: int = 16) -> None:
        super().__init__()
        self.first, self.second, self.head = layer(N_NUMBERS, width), layer(width, width), nn.Linear(width, 2)
        nodes = torch.arange(N_NODES)
        ring = torch.stack([nodes, (nodes + 1) % N_NODES])
        self.register_buffer("edges", torch.cat([ring, ring.flip(0)], 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map the numbers of nodes (n, nodes, numbers) to outputs (n, 2)."""
        n = len(inputs)
        edges = (self.edges[:, None] + N_NODES * torch.arange(n, device=inputs.device)[:, None]).flatten(1)
        hidden = self.second(self.first(inputs.flatten(0, 1), edges).relu(), edges).relu()
        outputs: Tensor = self.head(hidden.reshape(n, N_NODES, -1).mean(1))
        return outputs


class Dense(nn.Module):
    """Two dense layers on graphs that are given with the inputs, and a head on the mean over nodes."""

    def __init__(self, layer: Callable[[int, int], nn.Module], width: int = 16) -> None:
        super().__init__()
        self.first, self.second, self.head = layer(N_NUMBERS, width), layer(width, width), nn.Linear(width, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map numbers of nodes and edges (n, nodes, numbers + nodes) to outputs (n, 2)."""
        numbers, edges = inputs[..., :N_NUMBERS], (inputs[..., N_NUMBERS:] > 0).float()
        outputs: Tensor = self.head(self.second(self.first(numbers, edges).relu(), edges).relu().mean(1))
        return outputs


def is_graph_linear(name: str, part: nn.Module) -> bool:
    """Return whether a module is torch_geometric's linear layer."""
    return isinstance(part, graphs.Linear)


def gin(n_in: int, n_out: int) -> nn.Module:
    """Make a GINConv."""
    return graphs.GINConv(nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU(), nn.Linear(n_out, n_out)))


def dense_gin(n_in: int, n_out: int) -> nn.Module:
    """Make a DenseGINConv."""
    return graphs.DenseGINConv(nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU(), nn.Linear(n_out, n_out)))


SPARSE_LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "GCNConv": graphs.GCNConv, "SAGEConv": graphs.SAGEConv, "GATConv": graphs.GATConv, "GATv2Conv": graphs.GATv2Conv,
    "TransformerConv": graphs.TransformerConv, "GraphConv": graphs.GraphConv, "GINConv": gin,
    "ChebConv": functools.partial(graphs.ChebConv, K=2), "TAGConv": graphs.TAGConv,
}  # fmt: skip
DENSE_LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "DenseGCNConv": graphs.DenseGCNConv, "DenseSAGEConv": graphs.DenseSAGEConv, "DenseGraphConv": graphs.DenseGraphConv,
    "DenseGINConv": dense_gin,
}  # fmt: skip


# ---------------------------------------------------------------------------------------- recurrent layers
class Reader(nn.Module):
    """Reads sequences (n, steps, 6), by a recurrent layer, and answers at the end."""

    def __init__(self, kind: type[nn.RNNBase], is_packed: bool = False, **settings: Any) -> None:
        super().__init__()
        self.layer, self.is_packed = kind(6, 16, batch_first=True, **settings), is_packed
        width = (settings.get("proj_size") or 16) * (2 if settings.get("bidirectional") else 1)
        self.head = nn.Linear(width, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs (n, 2)."""
        if self.is_packed:
            lengths = (inputs[..., 0] > 0).sum(1).clamp(min=1).cpu()  # as if so many steps were there
            packed = rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
            hidden, _ = rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)
            return self.head(hidden.sum(1) / lengths[:, None])
        return self.head(self.layer(inputs)[0][:, -1])


class ByCells(nn.Module):
    """Reads sequences (n, steps, 6) step by step, by a cell."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell, self.head = kind(6, 16), nn.Linear(16, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs (n, 2)."""
        state = None
        for step in inputs.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Encoder(nn.Module):
    """PyTorch's transformer encoder, with an embedding of words and of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(N_WORDS, 32), nn.Parameter(torch.randn(N_TOKENS, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs (n, 2)."""
        return self.head(self.encoder(self.words(inputs) + self.places).mean(1))


RECURRENT: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: Reader(nn.RNN), "LSTM": lambda: Reader(nn.LSTM), "GRU": lambda: Reader(nn.GRU),
    "LSTM, bidirectional": lambda: Reader(nn.LSTM, bidirectional=True),
    "LSTM, two layers with dropout": lambda: Reader(nn.LSTM, num_layers=2, dropout=0.2),
    "LSTM, projected": lambda: Reader(nn.LSTM, proj_size=8), "LSTM, packed": lambda: Reader(nn.LSTM, is_packed=True),
    "GRU, packed and bidirectional": lambda: Reader(nn.GRU, is_packed=True, bidirectional=True),
    "RNNCell": lambda: ByCells(nn.RNNCell), "LSTMCell": lambda: ByCells(nn.LSTMCell),
    "GRUCell": lambda: ByCells(nn.GRUCell),
}  # fmt: skip


def contestants() -> Iterator[tuple[str, Contestant]]:
    """Yield all rows with their names."""
    for name, size in MEMBERS.items():
        yield (
            f"torchvision {name}",
            Contestant(
                kind="torchvision", make=functools.partial(member, name), inputs=(3, size, size),
                wrap=FirstOutput if name == "googlenet" else None,
                advice={"head": "classifier.1"} if name == "squeezenet1_1" else {},
            ),
        )  # fmt: skip
    yield "torchvision AlexNet", Contestant(kind="torchvision", make=alexnet, inputs=(3, 64, 64))
    for name, builder in FEW_BLOCKS.items():
        yield f"torchvision {name}", Contestant(kind="torchvision", make=builder)
    yield (
        "torchvision lraspp_mobilenet_v3_large (segmentation)",
        Contestant(
            kind="torchvision", make=lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(
                weights=None, weights_backbone=None, num_classes=1
            ),
            targets=(32 * 32,),
            wrap=PixelsInARow, advice={"head": "network.classifier.low_classifier",
            "make_head": lambda n: nn.Conv2d(40, n // 32**2, 1)},
        ),
    )  # fmt: skip
    for name, settings in FAMILIES.items():
        size = settings.get("img_size", 32)
        yield (
            f"timm {name}",
            Contestant(
                kind="timm", make=functools.partial(of_timm, name), inputs=(3, size, size),
                advice={"head": "head.fc"} if name == "resnetv2_18" else {},
            ),
        )  # fmt: skip
    for name, builder in BY_CLASS.items():
        yield f"timm {name}", Contestant(kind="timm", make=builder)
    for name, settings in TEXTS.items():
        make = functools.partial(of_transformers, name, **settings)
        advice = ADVICE_OF_TEXTS.get(name, {})
        yield (
            f"transformers {name}",
            Contestant(kind="transformers", make=make, inputs="words", wrap=Logits, advice=advice),
        )
    for name, suffix, settings in (("T5", "EncoderModel", T5), ("Mamba", "Model", MAMBA), ("Bart", "Model", BART)):
        make = functools.partial(of_transformers, name, suffix, **settings)
        yield f"transformers {name}", Contestant(kind="transformers", make=make, inputs="words", wrap=Pooled)
    for name in ("ViT", "DeiT", "Dinov2"):
        make = functools.partial(of_transformers, name, "ForImageClassification", **PICTURES)
        yield f"transformers {name}", Contestant(kind="transformers", make=make, wrap=Logits)
    make = functools.partial(of_transformers, "Wav2Vec2", **SOUNDS)
    yield "transformers Wav2Vec2", Contestant(kind="transformers", make=make, inputs=(640,), wrap=Unparametrized)
    for name, layer in SPARSE_LAYERS.items():
        yield f"torch_geometric {name}", Contestant(
            kind="torch_geometric", make=functools.partial(OnGraph, layer), inputs=(N_NODES, N_NUMBERS),
            advice={"mask": is_graph_linear},
        )  # fmt: skip
    for name, layer in DENSE_LAYERS.items():
        yield f"torch_geometric {name}", Contestant(
            kind="torch_geometric", make=functools.partial(Dense, layer), inputs=(N_NODES, N_NUMBERS + N_NODES),
            advice={"mask": is_graph_linear},
        )  # fmt: skip
    for name, make_reader in RECURRENT.items():
        yield f"torch.nn {name}", Contestant(kind="torch.nn", make=make_reader, inputs=(10, 6))
    yield "torch.nn TransformerEncoder", Contestant(kind="torch.nn", make=Encoder, inputs="words")


T5 = {"vocab_size": N_WORDS, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
MAMBA = {"vocab_size": N_WORDS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
BART = {
    "vocab_size": N_WORDS, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 32,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
SOUNDS = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "conv_dim": (16, 16),
    "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16, "num_labels": 2, "apply_spec_augment": False,
}  # fmt: skip


# ---------------------------------------------------------------------------------------- a row
class TookTooLong(BaseException):
    """An export has taken too long. No library catches it."""


class Beside:
    """Cross-entropy or mean squared error, which lets a plain step run beside each step of a wake, and times both.

    Attributes:
        step: Function that takes the plain step; None while nothing is timed.
        own: Seconds from the end of one plain step to the next call, which is a step of the wake.
        plain: Seconds of the plain steps.
    """

    def __init__(self) -> None:
        self.step: Callable[[], None] | None = None
        self.own, self.plain = list[float](), list[float]()
        self._ended: float | None = None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss."""
        if self.step is not None:
            began = time.perf_counter()
            if self._ended is not None:
                self.own.append(began - self._ended)
            with torch.enable_grad():
                self.step()
            self._ended = time.perf_counter()
            self.plain.append(self._ended - began)
        return loss_of(outputs, targets)

    def ratio(self) -> float:
        """Return the median step of the wake over the plain one, without the first two, which prepare."""
        return statistics.median(self.own[-N_TIMED + 2 :]) / statistics.median(self.plain[-N_TIMED + 2 :])


def loss_of(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the usual loss for labels or numbers."""
    return (functional.mse_loss if targets.is_floating_point() else functional.cross_entropy)(outputs, targets)


def plain_step(network: nn.Module, task: dn.Task) -> Callable[[], None]:
    """Return a function that takes a step of a plain loop."""
    inputs, targets = (part[:BATCH] for part in task.train.load())
    optimizer = adam([parameter for parameter in network.parameters() if parameter.requires_grad])
    network.train()

    def step() -> None:
        optimizer.zero_grad()
        loss_of(network(inputs), targets).backward()
        optimizer.step()

    return step


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimizer of both loops."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def possible(advice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an advice that this version of the library has arguments for."""
    known = inspect.signature(dn.Agent).parameters
    return {name: value for name, value in advice.items() if name in known}


def taken(contestant: Contestant, training: dn.Training, note: rows.Note) -> tuple[dn.Agent, dict[str, Any]] | None:
    """Return an agent that has taken the network, and its arguments besides; None if none has."""
    task = contestant.task(0)

    def attempt(make: Callable[[], nn.Module], **arguments: Any) -> dn.Agent:
        agent = dn.Agent(make, capacity=CAPACITY, training=training, **arguments)
        agent.check(task)
        return agent

    try:
        agent = attempt(contestant.make)
        note(**{"as it is": True, "with": ""})
        return agent, {"make": contestant.make}
    except Exception as error:
        what = "" if isinstance(error, DaynightError) else "raw error: "
        note(**{"as it is": f"{what}{rows.one_line(error, 300)}"})
        if what:
            note(verdict=f"raw error: {rows.one_line(error)}")
            return None
    make = contestant.make if contestant.wrap is None else functools.partial(wrapped, contestant)
    arguments: dict[str, Any] = {}
    words = [] if contestant.wrap is None else [f"wrapper {contestant.wrap.__name__}"]
    private: list[str] = []
    is_advised = False
    for _ in range(80):
        given = arguments | ({"private": private} if private else {})
        try:
            agent = attempt(make, **given)
        except DaynightError as error:
            names = [name for found in NAMED.findall(str(error)) for name in re.findall(r"'([^']+)'", found)]
            new = [name for name in names if name not in private]
            if not is_advised and possible(contestant.advice):
                arguments, is_advised = possible(contestant.advice), True
                words += [f"{name}=" for name in arguments]
            elif new:
                private += new
            else:
                note(verdict=f"refused: {rows.one_line(error)}", error=rows.one_line(error, 300))
                return None
        except Exception as error:
            note(verdict=f"raw error: {rows.one_line(error)}", error=rows.one_line(error, 300))
            return None
        else:
            words += [f"private= of {len(private)}"] if private else []
            note(**{"with": ", ".join(words)})
            return agent, {"make": make, "with": ", ".join(words), "arguments": given}
    note(verdict="refused: asks for one name after the other")
    return None


def wrapped(contestant: Contestant) -> nn.Module:
    """Make a network in its wrapper."""
    assert contestant.wrap is not None
    return contestant.wrap(contestant.make())


def live(contestant: Contestant, note: rows.Note) -> None:
    """Find out the columns of one row."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    note(kind=contestant.kind, doing="making the network")
    loss = Beside()
    training = dn.Training(batch_size=BATCH, optimizer=adam, loss=loss, metric=minus_loss)
    contestant.make()
    note(doing="giving it to an agent")
    found = taken(contestant, training, note)
    if found is None:
        return
    agent, how = found
    network = agent.network
    n_parameters = sum(parameter.numel() for parameter in network.module.parameters())
    note(**{
        "parameters": n_parameters, "masked share": agent.n_weights / n_parameters, "layers": len(network.sizes),
        "doing": "the first day",
    })  # fmt: skip
    try:
        wrong = two_days(contestant, agent, loss, how, note)
    except Exception as error:
        what = "refused late" if isinstance(error, DaynightError) else "raw error"
        note(verdict=f"{what}: {rows.one_line(error)}", error=rows.one_line(error, 300))
        return
    if wrong:
        start = "" if wrong[0].startswith("raw error") else "wrong in silence: "
        note(verdict=start + "; ".join(wrong))
    else:
        note(verdict=f"works, with {how['with']}" if how.get("with") else "works")


def two_days(
    contestant: Contestant, agent: dn.Agent, loss: Beside, how: Mapping[str, Any], note: rows.Note
) -> list[str]:
    """Run two days, read the agent from its file, export it, and return what is wrong."""
    wrong = []
    first, second = contestant.task(0), contestant.task(1)
    twin = dn.Agent(how["make"], capacity=CAPACITY, **how.get("arguments", {}))
    with seeding.forked(0, "head", 0):
        twin.network.begin_day(first.n_outputs)
    loss.step = plain_step(twin.network.module, first)
    agent.wake(first, dn.Steps(N_TIMED + 1))
    loss.step = None
    note(**{"step over plain": loss.ratio(), "doing": "the first night"})
    del twin
    agent.sleep(dn.OneShot(), dn.Steps(2))
    inputs, _ = first.test.load()
    at_dawn = agent.predict(inputs, 0)
    note(doing="the second day")
    agent.wake(second, dn.Steps(2))
    agent.sleep(dn.OneShot(), dn.Steps(2))
    is_frozen = torch.equal(agent.predict(inputs, 0), at_dawn)
    try:
        agent.verify()
    except DaynightError:
        is_frozen = False
    note(frozen=is_frozen, doing="the subnetwork")
    wrong += [] if is_frozen else ["frozen bits have moved"]
    with torch.no_grad():
        others = agent.subnetwork(0)(inputs)
    is_same = bool((others - at_dawn).abs().max() <= 1e-3 * at_dawn.abs().max().clamp(min=1e-3))
    note(subnetwork=is_same, doing="the file")
    wrong += [] if is_same else ["other outputs than the task's module"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.dn"
        agent.save(path)
        again = dn.Agent.load(
            path, how["make"], training=agent.training, make_head=how.get("arguments", {}).get("make_head")
        )
        is_same = torch.equal(again.predict(inputs, 0), at_dawn)
        note(file=is_same, doing="exports")
        wrong += [] if is_same else ["other predictions from its file"]
        for ending in ("pt2", "onnx"):
            result = exported(agent, Path(folder) / f"task.{ending}")
            note(**{ending: result})
            wrong += [f"{result} (.{ending})"] if result.startswith("raw error") else []
    return wrong


def exported(agent: dn.Agent, path: Path) -> str:
    """Return ``"yes"`` if the first task can be exported to a path, or the error."""

    def stop(number: int, frame: Any) -> None:
        raise TookTooLong

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, EXPORT_SECONDS, 0.5)  # again and again, since code of others may catch it
    try:
        agent.export(0, path)
    except TookTooLong:
        return f"not within {EXPORT_SECONDS} s"
    except ExportError as error:
        return rows.one_line(error)
    except Exception as error:
        return f"raw error: {rows.one_line(error)}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "yes"


def minus_loss(outputs: Tensor, targets: Tensor) -> float:
    """Return minus the loss."""
    return -float(loss_of(outputs, targets))


def prepare() -> None:
    """Export a layer, so that the processes of the rows have imported what exports need."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.export.export(nn.Linear(1, 1), (torch.ones(2, 1),))
        torch.onnx.export(program, (), dynamo=True, verbose=False)


def main() -> None:
    """Fill the table."""
    settings = rows.arguments(__doc__, seconds=150).parse_args()
    torch.set_num_threads(1)
    prepare()
    trials = {name: functools.partial(live, contestant) for name, contestant in contestants()}
    rows.fill(trials, COLUMNS, PACKAGES, settings)


if __name__ == "__main__":
    main()
