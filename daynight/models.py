"""The networks of the paper. Any other `torch.nn.Module` can be used instead."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn

from daynight.errors import SettingError
from daynight.support import checks


class MLP(nn.Module):
    """Linear layers with ReLU between them; 784:256:256:2 in the paper.

    Args:
        widths: Number of input features, then of units of each hidden layer, for example 784, 256, 256.
        n_outputs: Number of outputs. An `Agent` replaces the last layer, the head, per task.

    Raises:
        SettingError: If there are fewer than two widths.
    """

    def __init__(self, *widths: int, n_outputs: int = 2) -> None:
        super().__init__()
        if len(widths) < 2:
            raise SettingError(
                f"MLP: give the number of inputs and at least one width, as in MLP(784, 256), not {widths}."
            )
        self.settings = {"widths": list(widths), "n_outputs": n_outputs}
        self.body = nn.Sequential(nn.Flatten())
        for n_in, n_out in pairwise(widths):
            self.body.append(nn.Linear(n_in, n_out))
            self.body.append(nn.ReLU())
        self.head = nn.Linear(widths[-1], n_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, ...) with widths[0] values each to outputs (batch, n_outputs)."""
        outputs: Tensor = self.head(self.body(inputs))
        return outputs


class ConvNet(nn.Module):
    """The paper's CIFAR10 network.

    conv3-32, conv3-64, maxpool, conv3-128, conv3-128, maxpool, dropout 0.1, fc8192, dropout 0.1, fc1024,
    fc `n_outputs`, with ReLU after each conv and fc layer but the last. Convolutions keep the size of the image.

    Args:
        n_outputs: Number of outputs. An `Agent` replaces the last layer, the head, per task.
        fc8192_layer: How to read the paper's "fc8192". False: it is the layer that reads the flattened 128x8x8
            features (8192 to 1024, then the head; 8.6 million maskable weights). True: it is a separate layer of
            8192 units before the layer of 1024 units (75.7 million maskable weights).
        dropout: Probability of each dropout, 0 to 1.
        side: Height and width of the images, a multiple of 4; 32 in the paper. The layer that reads the
            flattened image has 128 (side / 4)^2 inputs.

    Raises:
        SettingError: If `side` is not a multiple of 4.
    """

    def __init__(self, n_outputs: int = 2, *, fc8192_layer: bool = False, dropout: float = 0.1, side: int = 32) -> None:
        super().__init__()
        if checks.integer("ConvNet: side", side, least=4) % 4:
            raise SettingError(f"ConvNet: side must be a multiple of 4, not {side}.")
        self.settings = {"n_outputs": n_outputs, "fc8192_layer": fc8192_layer, "dropout": dropout, "side": side}
        self.features = nn.Sequential(
            *_conv(3, 32), *_conv(32, 64), nn.MaxPool2d(2), *_conv(64, 128), *_conv(128, 128), nn.MaxPool2d(2)
        )
        n_flat = 128 * (side // 4) ** 2
        hidden = [n_flat, 8192, 1024] if fc8192_layer else [n_flat, 1024]
        self.classifier = nn.Sequential(nn.Flatten())
        for n_in, n_out in pairwise(hidden):
            self.classifier.extend([nn.Dropout(dropout), nn.Linear(n_in, n_out), nn.ReLU()])
        if not fc8192_layer:
            self.classifier.append(nn.Dropout(dropout))
        self.head = nn.Linear(1024, n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, 3, side, side) to outputs (batch, n_outputs)."""
        outputs: Tensor = self.head(self.classifier(self.features(images)))
        return outputs


def settings_of(module: nn.Module) -> dict[str, Any] | None:
    """Return the settings from which `made_of` makes this model of the library again; None for other modules."""
    if type(module) not in (MLP, ConvNet):
        return None
    return {"name": type(module).__name__, **cast(Any, module).settings}


def made_of(settings: Mapping[str, Any]) -> nn.Module:
    """Return a new model of the library.

    Args:
        settings: The settings that `settings_of` returned for such a model.

    Raises:
        SettingError: If the library has no model of this name.
    """
    rest = dict(settings)
    name = rest.pop("name", None)
    if name == "MLP":
        return MLP(*rest.pop("widths"), **rest)
    if name == "ConvNet":
        return ConvNet(**rest)
    raise SettingError(f"there is no model {name!r}, only MLP and ConvNet.")


def _conv(n_in: int, n_out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()
