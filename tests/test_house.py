"""Rules of the house: who imports whom, and what every layer that registers must keep."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from condense.layers import LAYERS

ROOT = Path(__file__).parents[1]
SHAPE = (2, 8, 6, 6)


def test_imports_flow_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_nothing_is_called_utils() -> None:
    names = {path.stem for path in (ROOT / "condense").rglob("*")}
    assert not names & {"utils", "common", "misc", "core", "helpers"}


def made(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return LAYERS[name](SHAPE[1])


def images() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=list(LAYERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_layer_keeps_the_shape_and_every_weight_learns(name: str) -> None:
    layer = made(name)
    out = layer(images())
    assert out.shape == SHAPE
    assert torch.isfinite(out).all()
    (out * images()).sum().backward()
    parameters = dict(layer.named_parameters())
    assert parameters
    assert [key for key, value in parameters.items() if value.grad is None] == []


def test_a_layer_follows_the_seed(name: str) -> None:
    one, two, other = made(name), made(name), made(name, seed=1)
    for key, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[key], value, rtol=0, atol=0)
    assert any(
        not torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items()
    )
    with torch.no_grad():
        assert torch.equal(one.eval()(images()), two.eval()(images()))


def test_a_layer_survives_its_state_dict(name: str) -> None:
    one, other = made(name), made(name, seed=1)
    with torch.no_grad():
        one.train()(images())  # moves the statistics of BatchNorm
        other.load_state_dict(one.state_dict())
        assert torch.equal(one.eval()(images()), other.eval()(images()))


def test_a_layer_does_not_mix_images(name: str) -> None:
    layer = made(name).eval()
    with torch.no_grad():
        whole, alone = layer(images()), layer(images()[1:])
    torch.testing.assert_close(whole[1:], alone)
