"""A report with invented figures, so that every word of it can be foreseen; small networks."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from condense.layers import GlobalLayer


def model_record(role: str, **changes: Any) -> dict[str, Any]:
    """A model's record in a report."""
    record: dict[str, Any] = {
        "role": role,
        "params": 464_154,
        "macs": 68_862_592,
        "macs_paper": 69_472_960,
        "macs_thop": 70_079_168,
        "elementwise_ops": 1_052_672,
        "depth_blocks": 15,
        "depth_layers": 32,
        "pde_steps": [],
        "uncounted": {"mean": 64},
        "latency": {"torch": [latency_record(3.25)]},
        "accuracy": None,
        "file_bytes": None,
    }
    return record | changes


def latency_record(median_ms: float, batch_size: int = 1) -> dict[str, Any]:
    return {
        "median_ms": median_ms,
        "iqr_ms": 0.125,
        "batch_size": batch_size,
        "threads": 2,
        "device": "cpu",
        "dtype": "float32",
    }


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    return model_record


@pytest.fixture
def invented() -> dict[str, Any]:
    """Original and finetuned, with text that markup, HTML, CSV and Markdown could trip over."""
    original = model_record(
        "original",
        accuracy={"split": "test", "top1": 0.928, "n": 1000, "ci95": [0.9103, 0.9424]},
        file_bytes=1_890_043,
    )
    finetuned = model_record(
        "finetuned",
        params=80_442,
        depth_blocks=6,
        depth_layers=11,
        pde_steps=[1, 1, 1],
        latency={"torch": [latency_record(1.75), latency_record(40.5, 64)]},
        accuracy={"split": "test", "top1": 0.901, "n": 1000, "ci95": [0.8809, 0.918]},
    )
    verdict = {
        "role": "finetuned",
        "against": "original",
        "latency": [],
        "accuracy": None,
        "sentences": ["params fell 5.77x", "a <b> & [blocks.3] | c"],
        "text": "finetuned against original: params fell 5.77x; a <b> & [blocks.3] | c",
    }
    return {
        "schema": 1,
        "input_size": [3, 32, 32],
        "command": 'condense report --data "a,b" [x]',
        "models": [original, finetuned],
        "verdicts": [verdict],
        "warnings": ["control.pt is stale, left out: converted <again>"],
        "environment": {
            "date": "2026-01-02T03:04:05+00:00",
            "condense": "0.1.0",
            "python": "3.11.7",
            "torch": "2.8.0",
            "torchvision": None,
            "onnxruntime": "1.20",
            "os": "Linux",
            "cpu": "Fast 9000",
            "cores": 2,
            "threads": 2,
            "gpu": "H200",
        },
    }


@pytest.fixture
def tiny() -> Callable[[int], nn.Module]:
    """A network with so many PDE layers."""

    def build(layers: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            *(GlobalLayer(4) for _ in range(layers)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 2),
        )

    return build
