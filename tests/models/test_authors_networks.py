"""Networks of the authors' code: their numbers from their command lines and their weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from condense.errors import CheckpointError, ConfigError, UnknownNameError
from condense.measurement import count_macs_paper
from condense.models import authors_state_dict, create, from_authors, load_authors
from condense.models.authors_command import read_command

GLOBAL = "--dataset CIFAR-10 --K 2 --non_linear"
LINES = {  # a command line for every network that their script knows
    "Resnet": "--model Resnet -m 1 --n1 4 --n2 4 --n3 8 --n4 8",
    "Resnet, separable": "--model Resnet -m 2 --n1 4 --n2 6 --n3 8 --n4 8 -o --separable",
    "Resnet-Global": f"--model Resnet-Global {GLOBAL} -m 1 --n1 4 --n2 4 --n3 8 --n4 8",
    "WideResnet": "--model WideResnet -m 2 --n1 2 --n2 3 --n3 4 --n4 4 -wdt 2",
    "WideResnet-Global": f"--model WideResnet-Global {GLOBAL} -m 1 --n1 2 --n2 3 --n3 4 --n4 4",
    "Densenet": "--model Densenet --n1 1 --n2 2 --n3 1",
    "Densenet-Global": f"--model Densenet-Global {GLOBAL} --n1 1 --n2 2 --n3 1 -dxy --cDx 2",
    "DARTS": "--model DARTS --dataset CIFAR-100 -m 5 --n1 2",
    "DARTS-Global": f"--model DARTS-Global {GLOBAL} -m 6 --n1 2 --custom_uv BasicBlock",
    "m_resnet": "--model m_resnet --dataset MNIST-10",
    "m_odenet": "--model m_odenet --dataset MNIST-10",
    "m_global": "--model m_global --dataset MNIST-10 --K 1 --non_linear -dxy",
}


@pytest.fixture(scope="module")
def records(shared: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = torch.load(shared / "golden" / "networks.pt", weights_only=True)
    return found


@pytest.mark.parametrize("index", range(4))
def test_the_authors_networks_give_the_authors_numbers(
    records: list[dict[str, Any]], index: int
) -> None:
    record = records[index]
    network = from_authors(record["argv"], record["state_dict"], record["old_style"])
    with torch.no_grad():
        output = network.double()(record["input"].double())
    assert sum(p.numel() for p in network.parameters()) == record["n_params"]
    assert count_macs_paper(network, record["input"].shape[1:]) == record["thop031_macs"]
    torch.testing.assert_close(output, record["output"], atol=1e-9, rtol=0)
    kept = authors_state_dict(network)
    assert {name: t.shape for name, t in kept.items()} == {
        name: t.shape for name, t in record["state_dict"].items()
    }


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_every_network_of_theirs_takes_its_weights_back(line: str) -> None:
    first = _from_shapes(line)
    state = authors_state_dict(first)
    again = from_authors(f"python train.py {line} -b 32 --epochs 3", _prefixed(state))
    torch.testing.assert_close(authors_state_dict(again), state, rtol=0, atol=0)
    assert not again.training
    size = (1, 28, 28) if "MNIST" in line else (3, 32, 32)
    assert again(torch.zeros(1, *size)).isfinite().all()


def test_darts_global_has_the_authors_names(shared: Path) -> None:
    network = create("darts_tiny_global", auxiliary=True)
    names = set(authors_state_dict(network))
    layers = torch.load(shared / "golden" / "global_layer.pt", weights_only=True)
    theirs = next(r for r in layers if r["config"].get("genotype"))["state_dict"]
    # Constant diffusion has none of its convolutions, biased velocity has two more numbers.
    inside = {n for n in theirs if "D" not in n} | {"convg.bias", "convg1.bias"}
    found = {n.removeprefix("cells.2.") for n in names if n.startswith("cells.2.")}
    assert found == inside
    for name in ("stem.0.weight", "cells.0.preprocess0.op.1.weight", "cells.3._ops.1._none",
                 "cells.0._ops.0.op.1.weight", "cells.4.preprocess0.conv_1.weight",
                 "auxiliary_head.features.2.weight", "auxiliary_head.classifier.weight",
                 "classifier.bias"):  # fmt: skip
        assert (name in names) == (not name.endswith("_none")), name


def test_wide_resnet_global_has_the_authors_names() -> None:
    names = set(authors_state_dict(create("wrn_global")))
    for name in ("conv1.weight", "layer1.4.conv2.weight", "layer2.0.downsample.0.weight",
                 "global1.init_h.conv1.weight", "global3.convg.bias", "global3.bnDy.weight",
                 "global2.bn_out.running_var", "fc.weight"):  # fmt: skip
        assert name in names, name


def test_the_auxiliary_head_speaks_in_training_only() -> None:
    network = create("darts_tiny", num_classes=5, auxiliary=True)
    scores, others = network(torch.randn(2, 3, 32, 32))
    assert scores.shape == others.shape == (2, 5)
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_old_style_has_biases() -> None:
    line = LINES["Resnet-Global"]
    state = authors_state_dict(_from_shapes(line, old_style=True))
    assert state["global1.convDx.bias"].shape == (4,)
    from_authors(line, state, old_style=True)
    with pytest.raises(CheckpointError, match=r"0 missing \[\], 12 unexpected \['global1"):
        from_authors(line, state, old_style=False)


def test_an_init_block_is_told_by_the_weights() -> None:
    """The tiny Wide-ResNet-Global of the table was made before there was one."""
    line = f"--model WideResnet-Global {GLOBAL} -m 1 --n1 4 --n2 5 --n3 5 --n4 5 -wdt 4"
    state = authors_state_dict(create("wrn_tiny_global", num_classes=10))
    network = from_authors(line, state, old_style=True)
    assert sum(p.numel() for p in network.parameters()) == 24_676 - 90 * 21


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("--modell Resnet", "unrecognized arguments: --modell Resnet", "'--model'"),
        ("--K two", "argument -K/--K: invalid int value: 'two'", None),
        ("--n1", "argument --n1: expected one argument", None),
        ("--dataset Imagenet-1000", "--dataset is 'Imagenet-1000', expected one of CIFAR-10", None),
    ],
)
def test_what_is_wrong_with_a_command_line_is_said(
    line: str, message: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_authors(line, {})
    assert hint is None or hint in str(caught.value.hint)


def test_networks_that_cannot_be_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="no --model 'Resnet-Globall'") as caught:
        from_authors("--model Resnet-Globall", {})
    assert caught.value.hint == "did you mean 'Resnet-Global'?"
    with pytest.raises(ConfigError, match="three stages need n3 = n4, got 8, 4"):
        from_authors("--model Resnet -o --n3 8 --n4 4", {})
    with pytest.raises(ConfigError, match="at least 5 cells, got 4"):
        from_authors(f"--model DARTS-Global {GLOBAL} -m 4", {})
    with pytest.raises(ConfigError, match="nonlinear_pde=False is not defined"):
        from_authors("--model Resnet-Global", {})


def test_weights_of_another_network_are_refused() -> None:
    network = create("resnet_tiny")
    state = dict(network.state_dict())
    with pytest.raises(CheckpointError, match=r"fc.weight has shape \(4, 8\).* asks for \(10, 8\)"):
        load_authors(network, state | {"fc.weight": torch.zeros(4, 8)})
    del state["fc.weight"]
    with pytest.raises(CheckpointError, match=r"1 missing \['fc.weight'\], 0 unexpected"):
        load_authors(network, state)


def test_what_says_how_it_is_trained_is_passed_over() -> None:
    words = ["train.py", "-lr", "0.1", "-ct", "--model", "DARTS", "--lr-noise", "0.1", "0.2", "-K",
             "4", "-wd", "3e-4"]  # fmt: skip
    command = read_command(words)
    assert (command.model, command.layer["K"], command.width) == ("DARTS", 4, 2)


def _from_shapes(line: str, *, old_style: bool = False) -> nn.Module:
    """The network that a command line makes, with random weights: told by nothing but the line."""
    from condense.models import authors

    command = read_command(line)
    config = {**command.layer, "old_style": old_style}
    hints = {"x.init_h.weight": torch.zeros(1), "auxiliary_head.x": torch.zeros(1)}
    return authors._builder(command.model)(command, config, hints)


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in state.items()}
