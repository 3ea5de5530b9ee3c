import pytest
import torch

from daynight.errors import SettingError
from daynight.models import MLP, ConvNet
from daynight.networks.masked import MaskedNetwork


def test_mlp_of_the_study():
    model = MLP(784, 256, 256)
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 2)
    assert MaskedNetwork(model).sizes == {"body.1": 784 * 256, "body.3": 256 * 256}


def test_mlp_without_widths_is_refused():
    with pytest.raises(
        SettingError, match=r"MLP: give the number of inputs and at least one width, as in MLP\(784, 256"
    ):
        MLP(784)


@pytest.mark.parametrize("fc8192_layer", [False, True])
def test_conv_net_of_the_study(fc8192_layer):
    with torch.device("meta"):
        model = ConvNet(fc8192_layer=fc8192_layer)
        assert model(torch.rand(3, 3, 32, 32)).shape == (3, 2)
    sizes = [sum(p.numel() for p in part.parameters() if p.dim() > 1) for part in (model.features, model.classifier)]
    assert sizes == [9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 128), 8192 * 1024 + 8192**2 * fc8192_layer]
    dropouts = [part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)]
    assert dropouts == [0.1, 0.1]


def test_conv_net_of_smaller_images():
    model = ConvNet(side=16)
    assert model(torch.rand(3, 3, 16, 16)).shape == (3, 2)
    assert model.classifier[2].weight.shape == (1024, 2048)
    with pytest.raises(SettingError, match="ConvNet: side must be a multiple of 4, not 18"):
        ConvNet(side=18)
