"""Every network goes through ONNX and agrees with itself."""

from pathlib import Path
from typing import Any

import pytest
import torch

from condense.export import export_onnx
from condense.models import MODELS, create, names

FIXED: dict[str, dict[str, Any]] = {
    "mnist_ode": {"solver": "rk4"},
    "neural_ode": {"solver": "rk4"},
    "mdeq": {"solver": "picard", "evaluations": 5},
    "mdeq_large": {"solver": "picard", "evaluations": 5},
}
"""What makes an adaptive network one of few, fixed steps."""


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_network_exports(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create(name, **FIXED.get(name, {})).eval()
    size = MODELS[name].input_size
    check = export_onnx(network, tmp_path / "m.onnx", size, inputs=torch.randn(4, *size))
    assert check.max_difference <= check.tolerance
    assert check.batch_sizes == (1, 4)
    assert (tmp_path / "m.onnx").exists()
