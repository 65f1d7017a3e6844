"""What holds for every layer that can take the place of a repeat."""

import doctest
import importlib
import json
import pkgutil
import subprocess
import sys
import warnings
from pathlib import Path

import onnxruntime
import pytest
import torch

import condense.layers
from condense.layers import LAYERS, build_layer

NAMES = sorted(LAYERS)
MODULES = [
    f"condense.layers.{module.name}"
    for module in pkgutil.iter_modules(condense.layers.__path__)
    if not module.ispkg
]


def test_the_table_is_complete_wherever_it_is_seen() -> None:
    code = "from condense.layers import LAYERS; import json; print(json.dumps(list(LAYERS)))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(seen.stdout) == NAMES
    promised = {"global", "linear-mix", "mobilenet", "rd-circulant", "rd-explicit", "rd-implicit"}
    assert promised <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_keeps_shape_and_precision(name: str, dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 5, 4, dtype=dtype)
    out = build_layer(name, 3).to(dtype)(x)
    assert (out.shape, out.dtype) == (x.shape, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_batch_do_not_see_each_other_in_eval_mode(name: str) -> None:
    torch.manual_seed(0)
    layer, x = build_layer(name, 3).double().eval(), torch.randn(4, 3, 5, 6).double()
    torch.testing.assert_close(layer(x)[2:3], layer(x[2:3]))


@pytest.mark.parametrize("name", NAMES)
def test_onnx_runtime_agrees_at_another_batch_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer, path = build_layer(name, 4).eval(), tmp_path / "layer.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            layer, (torch.randn(3, 4, 6, 5),), dynamic_shapes=[{0: "batch"}], verbose=False
        )
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = torch.randn(5, 4, 6, 5)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), layer(x).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0
