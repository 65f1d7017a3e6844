"""One network of each family goes through ONNX and agrees with itself."""

from pathlib import Path

import pytest
import torch

from condense.export import export_onnx
from condense.models import MODELS, create

FAMILIES = [
    *("mnist10_global", "mnist_global", "mnist_ode", "densenet_global", "wrn_tiny_global"),
    *("darts_tiny_global", "mobilenet_v3_large_global", "lowcost_linear_mix_a"),
    *("lowcost_rd_explicit_a", "lowcost_rd_implicit_a", "lowcost_rd_circulant_a"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_network_exports(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create(name).eval()
    check = export_onnx(network, tmp_path / "m.onnx", MODELS[name].input_size)
    assert check.max_difference < 1e-4
    assert (tmp_path / "m.onnx").exists()
