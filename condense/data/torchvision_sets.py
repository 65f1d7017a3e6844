"""MNIST and CIFAR in the folders where torchvision leaves them, read without torchvision."""

import gzip
import math
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from condense.data.arrays import Array, parts_of
from condense.data.splits import Parts
from condense.errors import DataError

IDX_TRAIN = "train-images-idx3-ubyte"
IDX_FILES = {
    "train_images": IDX_TRAIN,
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
CIFAR_FOLDERS = ("cifar-10-batches-py", "cifar-100-python")
CIFAR_CLASSES = {"batches.meta": b"label_names", "meta": b"fine_label_names"}
HARMLESS = {  # all that an array needs to come out of a pickle
    "numpy.core.multiarray": ("_reconstruct",),
    "numpy._core.multiarray": ("_reconstruct",),
    "numpy": ("ndarray", "dtype"),
    "_codecs": ("encode",),
}


def find_idx(folder: Path) -> list[Path]:
    """Folders with MNIST's files at or below `folder`, such as MNIST/raw or FashionMNIST/raw."""
    places = [folder, folder / "raw", *sorted(folder.glob("*/raw"))]
    return [place for place in places if _idx_file(place, IDX_TRAIN) is not None]


def find_cifar(folder: Path) -> list[Path]:
    """Folders with CIFAR's Python batches at or below `folder`."""
    places = [folder, *(folder / name for name in CIFAR_FOLDERS)]
    return [p for p in places if (p / "data_batch_1").is_file() or _is_cifar100(p)]


def read_idx_folder(folder: Path) -> Parts:
    """MNIST or one of its likes.

    Raises:
        DataError: If a file is missing or broken.
    """
    arrays = {}
    for key, name in IDX_FILES.items():
        path = _idx_file(folder, name)
        if path is None:
            raise DataError(f"{folder} has no {name}", hint="copy all four files of MNIST there")
        arrays[key] = read_idx(path)
    return parts_of(arrays, str(folder), flips=False)


def read_idx(path: Path) -> Array:
    """An array of bytes in the IDX format: 0, 0, 8, dimensions, sizes (big-endian), values.

    Raises:
        DataError: If it is none.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(path, str(error)) from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise _broken(path, "it does not begin as an IDX file of bytes")
    start = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise _broken(path, f"it has {len(data) - start} values, its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_cifar_folder(folder: Path) -> Parts:
    """CIFAR-10 or CIFAR-100 as published for Python.

    Raises:
        DataError: If a file is missing or broken, or holds anything but arrays.
    """
    names = ["train"] if _is_cifar100(folder) else [f"data_batch_{n}" for n in range(1, 6)]
    test = "test" if _is_cifar100(folder) else "test_batch"
    train = [_cifar_batch(folder / name) for name in names]
    arrays: dict[str, Any] = {
        "train_images": np.concatenate([images for images, _ in train]),
        "train_labels": np.concatenate([labels for _, labels in train]),
    }
    arrays["test_images"], arrays["test_labels"] = _cifar_batch(folder / test)
    arrays["classes"] = _cifar_classes(folder)
    return parts_of(arrays, str(folder))


def _idx_file(folder: Path, name: str) -> Path | None:
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    return found[0] if found else None


def _is_cifar100(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("train", "test", "meta"))


def _cifar_batch(path: Path) -> tuple[Array, Array]:
    content = _unpickled(path)
    images, labels = content.get(b"data"), content.get(b"labels", content.get(b"fine_labels"))
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != 3 * 32 * 32:
        raise _broken(path, "it has no data of (N, 3072)")
    return images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.asarray(labels)


def _cifar_classes(folder: Path) -> list[str] | None:
    for name, key in CIFAR_CLASSES.items():
        if (folder / name).is_file():
            return [label.decode() for label in _unpickled(folder / name).get(key, [])]
    return None


def _unpickled(path: Path) -> dict[bytes, Any]:
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing", hint="unpack the archive again") from error
    except (OSError, EOFError, ValueError, KeyError, IndexError, pickle.UnpicklingError) as error:
        raise _broken(path, str(error) or "it ends early") from error
    if not isinstance(content, dict):
        raise _broken(path, f"it holds a {type(content).__name__}")
    return content


class _ArraysOnly(pickle.Unpickler):
    """Opens what CIFAR's files need and refuses to name anything else, so that nothing runs."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in HARMLESS.get(module, ()):
            raise pickle.UnpicklingError(f"it would run {module}.{name}")
        return super().find_class(module, name)


def _broken(path: Path, reason: str) -> DataError:
    return DataError(f"{path} cannot be used: {reason}", hint="download the data set again")
