from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from condense.layers import GlobalLayer
from condense.measurement import count_macs_paper, count_macs_thop, count_params


@pytest.mark.parametrize(
    ("repeats", "macs", "params"),
    [(5, 69.760, 466_906), (2, 26.948, 175_258), (1, 12.678, 78_042)],
)
def test_the_papers_resnets(
    resnet: Callable[..., nn.Module], repeats: int, macs: float, params: int
) -> None:
    model = resnet(repeats, (16, 32, 64))
    assert round(count_macs_paper(model, (3, 32, 32)) / 1e6, 3) == macs
    assert count_params(model) == params


def test_the_papers_resnet_with_three_global_layers(resnet: Callable[..., nn.Module]) -> None:
    model = resnet(1, (16, 32, 64), GlobalLayer)
    assert round(count_macs_paper(model, (3, 32, 32)) / 1e6, 3) == 13.997
    assert count_params(model) == 83_194


@pytest.mark.parametrize(
    ("index", "network"),
    [(0, (1, (6, 8, 8, 8), GlobalLayer)), (1, (1, (6, 8, 8), GlobalLayer)), (2, (2, (4, 6, 8)))],
)
def test_the_golden_networks_to_the_last_operation(
    shared: Path, resnet: Callable[..., nn.Module], index: int, network: tuple
) -> None:
    record = torch.load(shared / "golden" / "networks.pt", weights_only=True)[index]
    model = resnet(*network)
    assert count_macs_paper(model, (3, 32, 32)) == record["thop031_macs"]
    assert count_params(model) == record["n_params"]


@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [
        ("mobilenet_v3_large", 225.442, 5_483_032),
        ("efficientnet_b0", 399.363, 5_288_548),
    ],
)
def test_squeeze_excite_pools_count_nothing(name: str, macs: float, params: int) -> None:
    from torchvision import models

    model = getattr(models, name)()
    assert round(count_macs_paper(model, (3, 224, 224)) / 1e6, 3) == macs
    assert count_params(model) == params


@pytest.mark.parametrize(
    ("module", "macs"),
    [
        (nn.Conv2d(2, 6, 3, groups=2, bias=True), 6 * 36 * (9 + 1)),
        (nn.ConvTranspose2d(2, 3, 2, bias=False), 3 * 81 * 2 * 4),
        (nn.BatchNorm2d(2, affine=False), 2 * 128),
        (nn.AvgPool2d(4), 2 * 4),
        (nn.AdaptiveAvgPool2d(2), 2 * 4 * (16 + 1)),
        (nn.PReLU(), 128),
        (nn.Softmax(-1), 16 * 23),
        (nn.LayerNorm(8), 0),
        (nn.GroupNorm(1, 2), 0),
        (nn.MaxPool2d(2), 0),
        (nn.Upsample(scale_factor=2), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_rule_by_hand(module: nn.Module, macs: int) -> None:
    assert count_macs_paper(nn.Sequential(module), (2, 8, 8)) == macs


def test_a_subclass_counts_like_its_class() -> None:
    class OwnLinear(nn.Linear):
        pass

    model = nn.Sequential(nn.Flatten(), OwnLinear(4, 3))
    assert count_macs_paper(model, (1, 2, 2)) == 12
    assert count_macs_thop(model, (1, 2, 2)) == 0


def test_the_installed_thop_says_what_it_says(
    small: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=True), nn.BatchNorm2d(2))
    assert count_macs_thop(model, (1, 4, 4)) == 2 * 4 * 9 + 4 * 8
    count_macs_thop(small, (3, 8, 8))
    assert capsys.readouterr().out == ""


def test_thop_leaves_no_buffers_in_the_model(small: nn.Module) -> None:
    names = set(small.state_dict())
    count_macs_thop(small, (3, 8, 8))
    count_macs_paper(small, (3, 8, 8))
    assert set(small.state_dict()) == names
