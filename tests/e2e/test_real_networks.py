"""Real checkpoints on real images, and torchvision's families by their weights alone."""

import random
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

import condense as api
from condense.data import batches
from condense.data import load as load_data
from condense.measurement import accuracy


@pytest.mark.slow
def test_resnet32_gives_the_papers_numbers(step, shared: Path) -> None:
    found = step("analyze", shared / "checkpoints" / "resnet32-d509ac18.th", "--no-latency")
    assert found["architecture"] == "condense:resnet32"
    assert [len(stage["blocks"]) for stage in found["stages"]] == [5, 5, 5]
    for stage in found["stages"]:
        assert stage["repeats"] == stage["blocks"][1:]
        assert stage["convertible"]
    models = {model["role"]: model for model in step("convert", "--stages", "all")["models"]}
    assert models["original"]["params"] == 464_154
    assert models["converted"]["params"] == 80_442
    assert models["control"]["params"] == 75_290


@pytest.mark.slow
def test_the_untouched_resnet32_is_right_on_92_8_percent(shared: Path) -> None:
    model = api.load(shared / "checkpoints" / "resnet32-d509ac18.th")
    data = load_data(str(shared / "data" / "cifar10.npz"))
    origin = model.origin
    parts = batches(data.test, 250, input_size=(3, 32, 32), mean=origin.mean, std=origin.std)
    score = accuracy(model, parts)
    assert (score.top1, score.n) == (0.928, 1000)


@pytest.mark.slow
def test_the_export_agrees_on_all_test_images(step, shared: Path) -> None:
    step("convert", shared / "checkpoints" / "resnet20-12fca82f.th")
    check = step("export", "--data", shared / "data" / "cifar10.npz")
    assert (check["inputs"], check["n"], check["argmax_agreement"]) == ("given", 1000, 1.0)
    assert check["max_difference"] <= check["tolerance"]


@pytest.mark.slow
def test_resnet20_is_known_by_neither_its_name_nor_the_order_of_its_keys(
    step, shared: Path
) -> None:
    source = shared / "checkpoints" / "resnet20-12fca82f.th"
    state = dict(api.load(source).state_dict())
    keys = list(state)
    random.Random(0).shuffle(keys)
    torch.save({"model": {f"module.{key}": state[key] for key in keys}}, "weights of mine.bin")
    found = step("analyze", "weights of mine.bin", "--no-latency")
    assert found["architecture"] == "condense:resnet20"
    assert [stage["repeats"] for stage in found["stages"]] == [
        [f"layer{n}.1", f"layer{n}.2"] for n in (1, 2, 3)
    ]


TORCHVISION = (
    "resnet18",
    "resnet50",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "regnet_y_400mf",
    "convnext_tiny",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_a_network_of_torchvision_by_its_weights_alone(step, name: str) -> None:
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.get_model(name, num_classes=7)
    torch.save(network.state_dict(), "weights.pt")
    size = ["--input-size", "3x64x64"]
    found = step("analyze", "weights.pt", "--no-latency", *size)
    assert found["architecture"] == f"torchvision:{name}"
    assert any(stage["convertible"] for stage in found["stages"])
    models = step("convert")["models"]
    assert models[1]["params"] < models[0]["params"]

    student = api.load("condense-run/converted.pt").train()
    images = torch.randn(2, 3, 64, 64)
    logits = student(images)
    assert logits.shape == (2, 7)
    cross_entropy(logits, torch.tensor([1, 4])).backward()
    missed = [key for key, value in student.named_parameters() if value.grad is None]
    assert missed == []
    check = step("export")
    assert check["max_difference"] <= check["tolerance"]
