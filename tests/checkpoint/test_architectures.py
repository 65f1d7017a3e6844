"""Architectures by name, with their options, their input, and what goes wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from condense.checkpoint import architectures, load, parse_args, zoos
from condense.checkpoint.preprocessing import Preprocessing, settle, wanted
from condense.errors import CheckpointError, CondenseError, ConfigError, UnknownNameError
from condense.models import NORMALIZATIONS, create

FACTORY = """
import torch
from torch import nn
NOT_CALLABLE = 3
def net(num_classes=10, width=4, in_channels=3):
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3), nn.Flatten(), nn.Linear(width, num_classes)
    )
def anything(**options): return net(**options)
def broken(): raise RuntimeError("out of luck")
def nothing(): return None
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FACTORY)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of the factory's network for five classes, two channels, and width 6."""
    network = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(), nn.Linear(6, 5))
    torch.save(network.state_dict(), tmp_path / "mine.pt")
    return tmp_path / "mine.pt"


def test_a_factory_in_a_file_reads_classes_and_channels_off_the_weights(factory, weights) -> None:
    model = load(weights, arch=f"{factory}:net", arch_args={"width": 6})
    assert [tuple(p.shape) for p in model.parameters()] == [(6, 2, 3, 3), (6,), (5, 6), (5,)]
    origin = model.origin
    assert origin.architecture == f"{factory}:net"
    assert (origin.arch_args, origin.num_classes) == ({"width": 6}, 5)
    assert (origin.input_size, origin.mean) == (None, None)


def test_a_factory_in_a_module(factory, weights, monkeypatch) -> None:
    monkeypatch.syspath_prepend(factory.parent)
    model = load(weights, arch="mine:anything", arch_args={"width": 6, "in_channels": 2,
                                                           "num_classes": 5})  # fmt: skip
    assert model.origin.architecture == "mine:anything"


def test_a_factory_without_a_file(factory) -> None:
    assert load(f"{factory}:net", num_classes=3)[2].out_features == 3


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("net2", UnknownNameError, "no factory in .*named 'net2'; the nearest: net"),
        ("NOT_CALLABLE", UnknownNameError, "is a int, expected a factory"),
        ("broken", CheckpointError, "cannot be built: RuntimeError: out of luck"),
        ("nothing", CheckpointError, r"gave a NoneType, expected a torch\.nn\.Module"),
    ],
)
def test_factories_that_cannot_be_used(factory, weights, name, error, message) -> None:
    with pytest.raises(error, match=message):
        load(weights, arch=f"{factory}:{name}")


def test_an_unknown_option_of_a_factory_names_the_nearest(factory, weights) -> None:
    with pytest.raises(ConfigError, match="has no option 'widht'") as caught:
        load(weights, arch=f"{factory}:net", arch_args={"widht": 6})
    assert caught.value.hint == "did you mean 'width'?"


def test_a_width_that_does_not_fit_is_named_by_its_first_weight(factory, weights) -> None:
    with pytest.raises(CheckpointError, match=r"0\.weight has shape \(6, 2, 3, 3\), expected"):
        load(weights, arch=f"{factory}:net")


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("absent_package:net", "absent_package cannot be imported: ModuleNotFoundError"),
        ("absent.py:net", r"absent\.py does not exist"),
    ],
)
def test_factories_that_are_not_there(weights, arch: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(weights, arch=arch)


def test_a_file_that_fails_at_import(tmp_path: Path, weights) -> None:
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(CheckpointError, match="cannot be imported: ZeroDivisionError"):
        load(weights, arch=f"{tmp_path / 'bad.py'}:net")


@pytest.mark.parametrize(
    ("arch", "nearest"),
    [
        ("resnt32", "resnet32"),
        ("torchvision:resnet51", "resnet50"),
        ("condense:resnet33", "resnet32"),
        ("timm:resnet1888", "resnet18"),
    ],
)
def test_unknown_names_come_with_the_nearest(weights, arch: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"named '{arch.rpartition(':')[2]}'") as caught:
        load(weights, arch=arch)
    assert nearest in f"{caught.value} {caught.value.hint}"


def test_a_name_like_nothing_says_which_forms_there_are(weights) -> None:
    with pytest.raises(UnknownNameError) as caught:
        load(weights, arch="qqqqqqqqqqqqqqqqqqqq")
    assert "file.py:factory" in str(caught.value.hint)


def test_bare_names_are_condense_first_then_torchvision() -> None:
    assert architectures.find("resnet20").name == "condense:resnet20"
    assert architectures.find("resnet18").name == "torchvision:resnet18"


@pytest.mark.parametrize("option", ["weights", "pretrained"])
def test_options_that_download_are_refused(weights, option: str) -> None:
    for arch in ("torchvision:resnet18", "timm:resnet18"):
        with pytest.raises(ConfigError, match=f"option '{option}' would fetch other weights"):
            load(weights, arch=arch, arch_args={option: True})


def test_an_unknown_option_of_torchvision_is_one_sentence(weights) -> None:
    with pytest.raises(CheckpointError, match=r"torchvision:resnet18 cannot be built: TypeError"):
        load(weights, arch="torchvision:resnet18", arch_args={"nonsense": 1})


@pytest.mark.parametrize("source", ["torchvision:resnet18", "timm:resnet18"])
def test_without_a_file_the_weights_are_random_and_that_is_logged(source, caplog) -> None:
    model = load(source, num_classes=3, input_size=(1, 64, 64))
    assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 3)
    assert "has random weights" in caplog.text
    assert (model.origin.file, model.origin.sha256) == (None, None)
    assert model.origin.input_size == (1, 64, 64)
    assert model.origin.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))


def test_random_weights_follow_the_callers_seed() -> None:
    torch.manual_seed(1)
    first = load("condense:resnet20")
    torch.manual_seed(1)
    torch.testing.assert_close(first.state_dict(), load("condense:resnet20").state_dict())


def test_loading_a_file_draws_nothing_from_the_callers_generator(tmp_path: Path) -> None:
    torch.save(create("resnet20").state_dict(), tmp_path / "m.pt")
    before = torch.get_rng_state()
    load(tmp_path / "m.pt")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "side", "mean"),
    [
        ("inception_v3", 299, NORMALIZATIONS["imagenet"][0]),
        ("vit_h_14", 224, NORMALIZATIONS["imagenet"][0]),
        ("efficientnet_v2_l", 480, (0.5, 0.5, 0.5)),
        ("resnet18", 224, NORMALIZATIONS["imagenet"][0]),
    ],
)
def test_torchvision_says_what_its_input_is(name: str, side: int, mean) -> None:
    network = nn.Module()
    if name.startswith("vit"):
        network.image_size = 224
    found = zoos.torchvision_preprocessing(name, network)
    assert (found.input_size, found.mean) == ((3, side, side), mean)


def test_networks_that_transform_their_input_say_so(caplog) -> None:
    network = nn.Module()
    network.transform_input = False
    zoos.torchvision_preprocessing("googlenet", network)
    assert "transform_input=True" in caplog.text


def test_timm_is_named_where_it_is_missing(monkeypatch, weights) -> None:
    zoos.timm_names.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CondenseError, match="timm is not installed") as caught:
        load(weights, arch="timm:resnet18")
    assert "pip install -e '.[timm]'" in str(caught.value.hint)


BROKEN = """
import sys
sys.path.insert(0, sys.argv[1])
from condense.checkpoint import load
from condense.errors import CondenseError
assert load(sys.argv[2]).origin.architecture == "condense:resnet20"
try:
    load("torchvision:resnet18")
except CondenseError as error:
    print(error, "|", error.hint)
"""


@pytest.mark.slow
def test_a_broken_torchvision_is_one_sentence_and_stops_nothing_else(tmp_path: Path) -> None:
    package = tmp_path / "path" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    torch.save(create("resnet20").state_dict(), tmp_path / "m.pt")
    command = [sys.executable, "-c", BROKEN, str(package.parent), str(tmp_path / "m.pt")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(
        "torchvision cannot be imported: operator torchvision::nms does not exist | it has to"
    )


def test_options_from_words() -> None:
    words = ["width=4", "name=resnet", "scale=0.5", "flags=[1, 2]", "norm=None", "text='4'"]
    assert parse_args(words) == {
        **{"width": 4, "name": "resnet", "scale": 0.5, "flags": [1, 2], "norm": None},
        "text": "4",
    }


@pytest.mark.parametrize("word", ["width", "=4", "a b=3"])
def test_what_is_no_option(word: str) -> None:
    with pytest.raises(ConfigError, match=r"is not an option; expected name=value"):
        parse_args([word])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"input_size": (32, 32)}, r"three positive numbers \(C, H, W\), got \(32, 32\)"),
        ({"input_size": (3, 0, 32)}, "three positive numbers"),
        ({"normalization": "imagnet"}, "no normalization named 'imagnet'"),
        ({"normalization": "none", "mean": (0,), "std": (1,)}, "exclude each other"),
        ({"mean": (0.5,)}, "mean and std go together"),
        ({"mean": (0.5,), "std": (0.0,)}, r"std must be above 0, got \(0\.0,\)"),
    ],
)
def test_wishes_that_make_no_sense(asked, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wanted(**asked)


DEFAULT = Preprocessing(input_size=(3, 32, 32), mean=(0.2, 0.3, 0.4), std=(0.1, 0.2, 0.3))


def test_one_value_is_for_every_channel() -> None:
    found = settle(wanted(normalization="none"), DEFAULT, 3)
    assert (found.mean, found.std) == ((0.0,) * 3, (1.0,) * 3)


def test_the_default_is_averaged_for_other_channels() -> None:
    found = settle(Preprocessing(), DEFAULT, 1)
    assert found.input_size == (1, 32, 32)
    assert found.mean == pytest.approx((0.3,))
    assert found.std == pytest.approx((0.2,))


def test_what_is_asked_for_has_to_fit_the_channels() -> None:
    with pytest.raises(ConfigError, match="mean has 3 values; the network takes 1 channels"):
        settle(wanted(normalization="cifar10"), DEFAULT, 1)
    with pytest.raises(ConfigError, match="input_size 1x8x8 has 1 channels"):
        settle(wanted(input_size=(1, 8, 8)), DEFAULT, 3)


def test_the_input_of_a_network_without_defaults_is_as_asked_for() -> None:
    assert settle(Preprocessing(), Preprocessing(), None) == Preprocessing()
    found = settle(wanted(mean=(0.1, 0.2), std=(1, 2)), Preprocessing(), None)
    assert found.mean == (0.1, 0.2)


@pytest.mark.parametrize(
    "name", ["a/model.pt", "C:\\model.pt", "odd:final.pt", "model.pt", "my file:x"]
)
def test_files_are_not_taken_for_architectures(name: str) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load(name)


def test_channels_of_a_network_with_several_first_convolutions_cannot_change() -> None:
    network = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)])
    with pytest.raises(CondenseError, match="ModuleList takes 3 channels, expected 1"):
        zoos.replace_input(network, 1)
