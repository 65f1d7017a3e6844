import pytest
import torch
from torch import nn

from condense.errors import ConfigError, UnknownNameError
from condense.models import MODELS, NORMALIZATIONS, create, names
from condense.models.cifar_resnet import PaddedShortcut

PUBLISHED = {  # name, classes, parameters: SPEC A.6
    ("resnet32", 10): 464_154,
    ("resnet32_projection", 10): 466_906,
    ("resnet32_projection", 100): 472_756,
    ("resnet32_global", 10): 161_850,
    ("resnet32_global", 100): 167_700,
    ("resnet32_global3", 10): 83_194,
    ("resnet32_global3", 100): 89_044,
    ("resnet32_global_control", 10): 156_250,
    ("resnet32_global3_control", 10): 78_042,
    ("resnet14_projection", 10): 175_258,
    ("resnet56_projection", 100): 861_620,
    ("resnet56_global", 10): 332_602,
    ("resnet_global_large", 100): 1_326_916,
    ("resnet_tiny", 100): 13_826,
    ("resnet_tiny_global", 100): 15_923,
}


IDLE = {
    "mnist10_convolution": {
        "backbone_convolution.bn_out.weight",
        "backbone_convolution.bn_out.bias",
    }
}
"""Parameters that a network has only for the published count."""


@pytest.mark.parametrize(("name", "classes"), PUBLISHED)
def test_parameters_are_exactly_the_published_ones(name: str, classes: int) -> None:
    network = create(name, num_classes=classes)
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name, classes]


def test_the_biased_three_stage_network_has_the_count_of_its_row() -> None:
    network = create("resnet32_global3", bias=True)
    assert sum(p.numel() for p in network.parameters()) == 83_642


@pytest.mark.parametrize("name", names())
def test_every_network_learns_from_its_own_input_size(name: str) -> None:
    spec = MODELS[name]
    network = create(name, num_classes=7)
    images = torch.randn(2, *spec.input_size)
    nn.functional.cross_entropy(network(images), torch.tensor([0, 6])).backward()
    idle = {n for n, p in network.named_parameters() if p.grad is None}
    assert idle == IDLE.get(name, set())
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    assert len(spec.mean) == len(spec.std) == spec.input_size[0]
    assert spec.note


@pytest.mark.parametrize("name", names())
def test_input_channels_are_an_option(name: str) -> None:
    _, height, width = MODELS[name].input_size
    network = create(name, in_channels=2).eval()
    assert network(torch.zeros(1, 2, height, width)).shape == (1, 10)


def test_padded_shortcut_takes_every_second_pixel_between_zeros() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    y = PaddedShortcut(1, 4, 2)(x)
    assert y.shape == (1, 4, 2, 2)
    torch.testing.assert_close(y[0, 1], torch.tensor([[0.0, 2.0], [8.0, 10.0]]))
    assert y[0, [0, 2, 3]].abs().sum() == 0


def test_digits_network_fits_the_package() -> None:
    network = create("resnet_digits")
    assert sum(p.numel() for p in network.parameters()) < 250_000
    assert [len(network.get_submodule(stage)) for stage in ("layer1", "layer2")] == [5, 5]


def test_unknown_network_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="no model named 'resnt32'") as caught:
        create("resnt32")
    assert caught.value.hint == "did you mean 'resnet32'?"


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="resnet32 has no option 'width'") as caught:
        create("resnet32", width=3)
    assert caught.value.hint == "did you mean 'widths'?"


def test_normalizations_have_as_many_means_as_deviations() -> None:
    assert all(len(mean) == len(std) for mean, std in NORMALIZATIONS.values())
