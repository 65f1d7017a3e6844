"""Networks that people have: which stages, which repeats."""

import pytest
import torchvision
from torch import nn

from condense.analysis import Stages, analyze
from condense.measurement import count_macs
from condense.models import create

SMALL = (3, 64, 64)


def counts(stages: Stages) -> dict[str, int]:
    return {stage.name: len(stage.repeats) for stage in stages.convertible}


def torchvision_net(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None)


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet32", 5)])
def test_networks_for_cifar_have_three_stages(name: str, blocks: int) -> None:
    stages = analyze(create(name), (3, 32, 32))
    assert [(s.name, len(s.blocks), s.repeats) for s in stages] == [
        (f"layer{n}", blocks, tuple(f"layer{n}.{i}" for i in range(1, blocks))) for n in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", {"layer1": 1, "layer2": 1, "layer3": 1, "layer4": 1}),
        ("resnet50", {"layer1": 2, "layer2": 3, "layer3": 5, "layer4": 2}),
        ("wide_resnet50_2", {"layer1": 2, "layer2": 3, "layer3": 5, "layer4": 2}),
        ("resnext50_32x4d", {"layer1": 2, "layer2": 3, "layer3": 5, "layer4": 2}),
        (
            "mobilenet_v2",
            dict(zip([f"features.{n}" for n in (2, 4, 7, 11, 14)], (1, 2, 3, 2, 2), strict=True)),
        ),
        (
            "mobilenet_v3_large",
            dict(zip([f"features.{n}" for n in (2, 4, 7, 11, 13)], (1, 2, 2, 1, 2), strict=True)),
        ),
        (
            "efficientnet_b0",
            dict(zip([f"features.{n}" for n in (2, 3, 4, 5, 6)], (1, 1, 2, 2, 3), strict=True)),
        ),
        (
            "regnet_y_400mf",
            dict(zip([f"trunk_output.block{n}" for n in (2, 3, 4)], (2, 5, 5), strict=True)),
        ),
        (
            "convnext_tiny",
            dict(zip([f"features.{n}" for n in (1, 3, 5, 7)], (2, 2, 8, 2), strict=True)),
        ),
        ("squeezenet1_1", {"features.3": 1, "features.6": 1, "features.9": 1, "features.11": 1}),
    ],
)
def test_repeats_of_torchvision_networks(name: str, expected: dict[str, int]) -> None:
    model = torchvision_net(name)
    stages = analyze(model, SMALL)
    assert counts(stages) == expected
    assert stages.totals.macs == count_macs(model, SMALL).total
    assert all(stage.reason for stage in stages if not stage.convertible)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("densenet121", "tensors, not one feature map"),
        ("swin_t", "holds no spatial convolution"),
        ("vgg11", "single convolutions"),
    ],
)
def test_networks_that_cannot_be_converted_say_why(name: str, reason: str) -> None:
    stages = analyze(torchvision_net(name), SMALL)
    assert len(stages) >= 3
    assert not stages.convertible
    assert all(reason in str(stage.reason) for stage in stages)


@pytest.mark.slow
def test_tokens_are_not_maps() -> None:
    (stage,) = analyze(torchvision_net("vit_b_16"), (3, 224, 224))
    assert len(stage.blocks) == 12
    assert "gives 197x768 values for an image, not a feature map" in str(stage.reason)


def test_inception_modules_differ() -> None:
    model = torchvision.models.googlenet(weights=None, init_weights=False)
    stages = analyze(model, SMALL)
    assert stages["inception4a"].reason == "its blocks differ from one another"
    assert not stages.convertible


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", [1, 1, 1, 1]),
        ("convnext_tiny", [2, 2, 8, 2]),
        ("regnetx_002", [3, 6]),
        ("mobilenetv3_large_100", [1, 2, 2, 1, 2]),
    ],
)
def test_repeats_of_timm_networks(name: str, expected: list[int]) -> None:
    timm = pytest.importorskip("timm")
    stages = analyze(timm.create_model(name, pretrained=False), SMALL)
    assert list(counts(stages).values()) == expected
