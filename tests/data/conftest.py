"""Small data sets of every kind, made on the spot."""

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Arrays = dict[str, Any]


def random_images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture
def arrays() -> Arrays:
    """60 training and 20 test images, 8x8 in colour, of 4 classes."""
    return {
        "train_images": random_images(60, 8, 8, 3),
        "train_labels": np.arange(60) % 4,
        "test_images": random_images(20, 8, 8, 3, seed=1),
        "test_labels": np.arange(20) % 4,
    }


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Arrays], str]:
    """Writes arrays to an .npz file and gives its path."""

    def save(arrays: Arrays) -> str:
        np.savez(tmp_path / "set.npz", **arrays)
        return str(tmp_path / "set.npz")

    return save


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


@pytest.fixture(params=["plain", "gz"])
def mnist_folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 40), ("t10k", 10)):
        images = idx_bytes(random_images(count, 28, 28))
        labels = idx_bytes((np.arange(count) % 5).astype(np.uint8))
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            if request.param == "gz":
                (raw / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
            else:
                (raw / f"{name}-{kind}-ubyte").write_bytes(content)
    return tmp_path


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        batch = {b"data": random_images(10, 3072, seed=number), b"labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = {b"label_names": [f"kind{n}".encode() for n in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
    return tmp_path


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """20 training, 6 validation and 6 test PNGs of cats and dogs, 12 by 16."""
    from PIL import Image

    for part, count in (("train", 20), ("val", 6), ("test", 6)):
        for number in range(count):
            place = tmp_path / part / ("cat", "dog")[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = random_images(1, 12, 16, 3, seed=number)[0]
            Image.fromarray(pixels).save(place / f"{number:02}.png")
    return tmp_path
