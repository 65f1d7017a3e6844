"""The published layers: same numbers as the authors' code, gradients and buffers included."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from condense import layers
from condense.layers.authors_names import to_authors

TOLERANCE = {"rtol": 0.0, "atol": 1e-9}
RECORDS = 45

Record = dict[str, Any]


@pytest.fixture(scope="module")
def records(shared: Path) -> list[Record]:
    found: list[Record] = torch.load(shared / "golden" / "global_layer.pt", weights_only=True)
    return found


@pytest.mark.parametrize("index", range(RECORDS))
def test_layer_agrees_with_the_authors(records: list[Record], index: int) -> None:
    record = records[index]
    layer = layers.from_authors(record["planes"], record["config"], record["state_dict"])
    layer.train(record["mode"] == "train")
    inputs = _inputs(record["input"])
    states: list[Tensor] = []
    layer.bn_out.register_forward_pre_hook(lambda _, given: states.append(given[0]))

    output = layer(*inputs)
    output.square().sum().backward()

    torch.testing.assert_close(output, record["output"], **TOLERANCE)
    torch.testing.assert_close(states[0], record["pde_out"], **TOLERANCE)
    expected = record["grad_input"]
    expected = expected if isinstance(expected, list) else [expected]
    torch.testing.assert_close([x.grad for x in inputs], expected, **TOLERANCE)
    if record["mode"] == "train":
        tensors = layer.authors_state_dict()
        buffers = {name: tensors[name] for name in record["buffers_after"]}
        torch.testing.assert_close(buffers, record["buffers_after"], **TOLERANCE)
        gradients = to_authors({name: p.grad for name, p in layer.named_parameters()})
        torch.testing.assert_close(gradients, record["grad_params"], **TOLERANCE)


def test_every_record_is_tested(records: list[Record]) -> None:
    assert len(records) == RECORDS


@pytest.mark.parametrize("index", range(RECORDS))
def test_weights_come_back_by_the_authors_names(records: list[Record], index: int) -> None:
    record = records[index]
    layer = layers.from_authors(record["planes"], record["config"], record["state_dict"])
    found = {name: tensor.detach() for name, tensor in layer.authors_state_dict().items()}
    torch.testing.assert_close(found, record["state_dict"], rtol=0, atol=0)


def _inputs(given: Tensor | list[Tensor]) -> list[Tensor]:
    inputs = given if isinstance(given, list) else [given]
    return [x.clone().requires_grad_() for x in inputs]
