"""Every kind of network goes through ONNX and agrees with itself."""

from pathlib import Path
from typing import Any

import pytest
import torch

from condense.export import export_onnx
from condense.models import MODELS, create, names

FIXED: dict[str, dict[str, Any]] = {
    "mnist_ode": {"solver": "rk4"},
    "mdeq": {"solver": "picard", "evaluations": 5},
}
"""What makes an adaptive network one of few, fixed steps."""
SMALLEST = (
    *("darts_tiny", "darts_tiny_global", "densenet_bc", "densenet_global"),
    *("efficientnet_b0_global", "mobilenet_v2_global", "mobilenet_v3_large_global"),
    *("lowcost_linear_mix_a", "lowcost_mobilenet_a", "lowcost_rd_circulant_a"),
    *("lowcost_rd_explicit_a", "lowcost_rd_implicit_a", "lowcost_resnet_a"),
    *("mdeq", "mnist10_global", "mnist_global", "mnist_neupde", "mnist_ode", "mnist_resnet"),
    *("resnet20", "resnet14_projection", "resnet_tiny_global", "wrn_global"),
)
"""Of all networks that are built of the same kinds of modules, and differ in width and depth."""


def _kinds(name: str) -> frozenset[type]:
    with torch.device("meta"):
        return frozenset(map(type, create(name).modules()))


def test_every_network_is_built_as_one_that_is_exported() -> None:
    exported = {_kinds(name) for name in SMALLEST}
    assert len(exported) == len(SMALLEST)
    assert {name for name in names() if _kinds(name) not in exported} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_network_exports(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create(name, **FIXED.get(name, {})).eval()
    size = MODELS[name].input_size
    check = export_onnx(network, tmp_path / "m.onnx", size, inputs=torch.randn(4, *size))
    assert check.max_difference <= check.tolerance
    assert check.batch_sizes == (1, 4)
    assert (tmp_path / "m.onnx").exists()
