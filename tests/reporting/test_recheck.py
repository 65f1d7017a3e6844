from copy import deepcopy
from typing import Any

import pytest

from condense.errors import SelfCheckError
from condense.reporting import recheck


def test_times_and_accuracies_are_set_side_by_side(invented: dict[str, Any]) -> None:
    here = deepcopy(invented)
    here["models"][0]["latency"]["torch"][0]["median_ms"] = 6.5
    here["models"][0]["latency"]["onnxruntime"] = here["models"][0]["latency"]["torch"]
    here["models"][1]["accuracy"] = None
    assert recheck(invented, here) == [
        "original, torch, batch 1: 6.50 ms here, 3.25 ms recorded (2x)",
        "original, top-1: 0.9280 here, 0.9280 recorded",
        "finetuned, torch, batch 1: 1.75 ms here, 1.75 ms recorded (1x)",
        "finetuned, torch, batch 64: 40.5 ms here, 40.5 ms recorded (1x)",
    ]


def test_a_count_that_differs_is_a_fault(invented: dict[str, Any]) -> None:
    here = deepcopy(invented)
    here["models"][1]["macs"] += 1
    here["models"][1]["depth_layers"] = 12
    with pytest.raises(
        SelfCheckError, match="finetuned macs 68862592 became 68862593; finetuned d"
    ):
        recheck(invented, here)


def test_a_role_that_is_new_has_nothing_to_agree_with(invented: dict[str, Any]) -> None:
    recorded = invented | {"models": invented["models"][:1]}
    assert all(line.startswith("original") for line in recheck(recorded, invented))
