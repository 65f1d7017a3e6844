"""`train`: a network by name for the data at hand, or one's own; by the loop of every training."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import condense
from condense.checkpoint.preprocessing import Preprocessing
from condense.data import ArraySplit, DataSet
from condense.errors import CheckpointError, ConfigError, UnknownNameError
from condense.training import NetworkOptions, finetune, settled_recipe, train
from condense.training.networks import network_for

OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "test": False}


def noise(count: int, size: tuple[int, int, int], classes: int = 3) -> ArraySplit:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, *size), dtype=torch.uint8, generator=generator)
    return ArraySplit(pixels, torch.arange(count) % classes, is_flippable=False)


def data_of(*size: int, classes: int = 3) -> DataSet:
    """Noise: 48 images to train on, 12 to validate."""
    channels, height, width = size
    shape = (channels, height, width)
    parts = (noise(count, shape, classes) for count in (48, 12, 10))
    return DataSet("noise", *parts, tuple("abcdefghij"[:classes]), shape)


@pytest.fixture(scope="module")
def grey() -> DataSet:
    return data_of(1, 28, 28)


def make(name: str, data: DataSet, **options: Any) -> nn.Module:
    return network_for(name, data, NetworkOptions(**options), seed=0)


def test_the_network_fits_the_data(grey: DataSet) -> None:
    origin = make("resnet20", grey).origin
    assert origin.architecture == "condense:resnet20"
    assert (origin.num_classes, origin.input_size) == (3, (1, 28, 28))
    colour = make("torchvision:resnet18", data_of(3, 24, 32)).origin
    assert (colour.architecture, colour.input_size) == ("torchvision:resnet18", (3, 24, 32))


def test_a_network_of_one_size_keeps_it() -> None:
    network = make("mnist10_global", data_of(3, 32, 32))
    assert network.origin.input_size == (3, 28, 28)
    assert network(torch.zeros(2, 3, 28, 28)).shape == (2, 3)


def test_a_bare_name_of_torchvision_will_do(grey: DataSet) -> None:
    assert make("resnet18", grey).origin.architecture == "torchvision:resnet18"


def test_images_are_normalised_by_their_own_statistics(grey: DataSet) -> None:
    pixels = grey.train.images.double() / 255
    origin = make("mnist10_global", grey).origin
    assert origin.mean == pytest.approx([float(pixels.mean())], abs=1e-3)
    assert origin.std == pytest.approx([float(pixels.std())], abs=1e-3)
    asked = Preprocessing(mean=(0.5,), std=(0.25,))
    origin = make("mnist10_global", grey, preprocessing=asked).origin
    assert (origin.mean, origin.std) == ((0.5,), (0.25,))


def test_images_of_one_colour_are_not_divided_by_nothing(grey: DataSet) -> None:
    split = ArraySplit(torch.zeros_like(grey.train.images), grey.train.labels, is_flippable=False)
    flat = DataSet("flat", split, grey.validation, grey.test, grey.classes, grey.input_size)
    origin = make("mnist10_global", flat).origin
    assert (origin.mean, origin.std) == ((0.0,), (1.0,))


def test_the_weights_come_from_the_seed_alone(grey: DataSet) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same = (make("mnist10_global", grey) for _ in range(2))
    other = network_for("mnist10_global", grey, NetworkOptions(), seed=1)
    torch.testing.assert_close(dict(one.state_dict()), dict(same.state_dict()), atol=0, rtol=0)
    assert not torch.equal(one.fc.weight, other.fc.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_was_asked_for_counts_more_than_the_data(grey: DataSet) -> None:
    options = {"arch_args": {"steps": 2}, "num_classes": 7}
    network = make("mnist10_global", grey, **options)
    assert (network.origin.num_classes, network.backbone_global.steps) == (7, 2)
    size = Preprocessing(input_size=(1, 20, 20))
    assert make("resnet20", grey, preprocessing=size).origin.input_size == (1, 20, 20)


def test_images_that_no_network_takes(grey: DataSet) -> None:
    size = Preprocessing(input_size=(1, 9, 9))
    with pytest.raises(ConfigError, match="condense:mnist10_global takes no images of 1x9x9"):
        make("mnist10_global", grey, preprocessing=size)


def test_unknown_names_list_the_known(grey: DataSet) -> None:
    with pytest.raises(UnknownNameError, match=r"there are: darts, .*resnet20") as caught:
        train("mnist10_globl", data=grey)
    assert caught.value.hint == "did you mean 'mnist10_global'?"
    with pytest.raises(UnknownNameError, match="there are: darts, global-cifar") as caught:
        train("mnist10_global", data=grey, recipe="mist")
    assert caught.value.hint == "did you mean 'mnist'?"
    with pytest.raises(CheckpointError, match="nowhere cannot be imported"):
        train("nowhere:network", data=grey)


def test_each_network_has_its_own_recipe() -> None:
    assert settled_recipe("mnist10_global") == "mnist"
    assert settled_recipe("torchvision:resnet18") == "global-cifar"
    assert settled_recipe(nn.Linear(1, 1)) == "global-cifar"
    assert settled_recipe(nn.Linear(1, 1), "darts") == "darts"


def test_training_by_name_is_finetuning_without_a_teacher(grey: DataSet) -> None:
    result = train("mnist10_global", data=grey, seed=3, **OPTIONS)
    network = network_for("mnist10_global", grey, NetworkOptions(), seed=3)
    same = finetune(network, teacher=None, data=grey, config=result.config, test=False)
    assert result.config.optimizer == "adam"
    assert [r.train_loss for r in result.history] == [r.train_loss for r in same.history]
    torch.testing.assert_close(
        dict(result.model.state_dict()), dict(same.model.state_dict()), atol=0, rtol=0
    )


def test_ones_own_module_goes_on_from_its_weights(grey: DataSet) -> None:
    torch.manual_seed(0)
    own = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    before = own[1].weight.clone()
    result = condense.train(own, data=grey, recipe="mnist", **OPTIONS)
    assert torch.equal(own[1].weight, before)
    assert not torch.equal(result.model[1].weight, before)
    assert result.config.lr == 0.03


def test_the_second_head_is_there_in_training_only(tmp_path: Path) -> None:
    data = data_of(3, 32, 32)
    result = train("darts_tiny_global", data=data, folder=tmp_path / "training", **OPTIONS)
    assert result.config.auxiliary_weight == 0.4
    assert not any(name.startswith("auxiliary") for name in result.model.state_dict())
    condense.save(result.model, tmp_path / "small.pt")
    again = condense.load(tmp_path / "small.pt")
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(image), result.model(image))


def test_a_recipe_that_needs_more_than_the_network_has(grey: DataSet) -> None:
    with pytest.raises(ConfigError, match="has no DARTS cells") as caught:
        train("resnet20", data=grey, recipe="darts")
    assert caught.value.hint == "set it to 0, or take another recipe"
    with pytest.raises(ConfigError, match="has no second head"):
        train("resnet20", data=grey, recipe="darts", drop_path=0.0)


def test_a_data_spec_is_opened_once_in_its_own_size(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = train("resnet_digits", data="digits", recipe="mnist", limit=64, **OPTIONS)
    assert not caplog.records
    assert len(result.history) == 2
