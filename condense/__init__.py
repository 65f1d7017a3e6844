"""Condense a trained CNN: repeated blocks become layers that a PDE defines.

    model   = condense.load("resnet32.th")
    stages  = condense.analyze(model, (3, 32, 32))
    student = condense.convert(model, stages, layer="global", keep=1)
    result  = condense.finetune(student, teacher=model, data="cifar10.npz", epochs=20)
    condense.save(result.model, "small.pt")

Names are imported on first use: `import condense` loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condense import layers, models
    from condense.analysis import analyze
    from condense.checkpoint import load, save
    from condense.conversion import convert
    from condense.errors import CondenseError
    from condense.export import export_onnx
    from condense.measurement import measure
    from condense.training import finetune, train

__all__ = [
    "CondenseError",
    "analyze",
    "convert",
    "export_onnx",
    "finetune",
    "layers",
    "load",
    "measure",
    "models",
    "save",
    "train",
]

_HOME_OF = {
    "CondenseError": "condense.errors",
    "analyze": "condense.analysis",
    "convert": "condense.conversion",
    "export_onnx": "condense.export",
    "finetune": "condense.training",
    "load": "condense.checkpoint",
    "measure": "condense.measurement",
    "save": "condense.checkpoint",
    "train": "condense.training",
}


def __getattr__(name: str) -> Any:
    if name in ("layers", "models"):
        return import_module(f"condense.{name}")
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'condense' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
