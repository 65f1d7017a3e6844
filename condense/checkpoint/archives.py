"""Weights out of TorchScript and `.pt2` archives, whose programs stay closed.

A TorchScript archive is a zip with one pickle of its module tree. Here that pickle meets stand-ins
only: objects become bags of attributes, tensors are rebuilt from their bytes, nothing else can be
named. A `.pt2` archive lists its weights in a JSON document, or holds them in a file of torch.save.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense.errors import CheckpointError

WEIGHTS_CONFIG = "data/weights/model_weights_config.json"
SCALAR_TYPES = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64}
SCALAR_TYPES |= {6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool}
SCALAR_TYPES |= {13: torch.bfloat16}
"""Numbers of torch.export's schema."""

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript module, by the names of its attributes."""
    with zipfile.ZipFile(path) as archive:
        reader = _ScriptReader(archive)
        state = dict(_tensors(reader.load()))
    if not state:
        raise CheckpointError(
            f"{path} is a TorchScript archive without weights of its own",
            hint="save the state_dict of the module that it was made from",
        )
    return state


class _Bag:
    """Stands in for a scripted object: takes its attributes and does nothing."""

    def __setstate__(self, state: Any) -> None:
        self.attributes: dict[str, Any] = state if isinstance(state, dict) else {}


class _ScriptReader(pickle.Unpickler):
    """A pickle reader that can name nothing but stand-ins and what rebuilds a tensor."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.root = archive.namelist()[0].partition("/")[0]
        self.archive = archive
        super().__init__(io.BytesIO(archive.read(f"{self.root}/data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Bag
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch.jit._pickle":
            return lambda first, *_: first  # lists, and values with a type tag
        raise pickle.UnpicklingError(f"{module}.{name} has no place among weights")

    def persistent_load(self, key: Any) -> Tensor:
        _, dtype, name, *_ = key
        content = self.archive.read(f"{self.root}/data/{name}")
        return _from_bytes(content, dtype)


def _rebuild(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset).clone()


def _tensors(bag: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in getattr(bag, "attributes", {}).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from _tensors(value, f"{prefix}{name}.")


def read_exported(path: Path) -> dict[str, Tensor]:
    """Parameters and persistent buffers of an exported program."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            if name.endswith(WEIGHTS_CONFIG):
                config = json.loads(archive.read(name))["config"]
                folder = name.removesuffix("model_weights_config.json")
                return {
                    key: _weight(archive.read(folder + entry["path_name"]), entry)
                    for key, entry in config.items()
                }
        for name in names:
            if name.endswith("serialized_state_dict.pt") or "/data/weights/" in name:
                state: dict[str, Tensor] = _saved(archive.read(name))
                return state
    raise CheckpointError(
        f"{path} is a .pt2 archive whose weights are not where torch.export puts them",
        hint="save the state_dict of the module that was exported",
    )


def _weight(content: bytes, entry: dict[str, Any]) -> Tensor:
    if entry["use_pickle"]:
        tensor: Tensor = _saved(content)
        return tensor
    meta = entry["tensor_meta"]
    size, stride = ([item["as_int"] for item in meta[key]] for key in ("sizes", "strides"))
    offset = meta["storage_offset"]["as_int"]
    return _rebuild(_from_bytes(content, SCALAR_TYPES[meta["dtype"]]), offset, size, stride)


def _saved(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _from_bytes(content: bytes, dtype: torch.dtype) -> Tensor:
    if not content:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(content), dtype=dtype)
