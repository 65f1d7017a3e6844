"""One data set of each kind, opened and iterated."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condense.data import DATA_SETS, ArraySplit, DataSet, batches, load
from condense.errors import ConfigError, UnknownNameError

Save = Callable[[dict[str, Any]], str]


def lengths(data: DataSet) -> tuple[int, int, int]:
    return len(data.train), len(data.validation), len(data.test)


def first_batch(data: DataSet, input_size: tuple[int, int, int]) -> tuple[torch.Tensor, ...]:
    return next(batches(data.test, 4, input_size=input_size))


def test_npz_without_validation_holds_a_tenth_of_train_out(
    arrays: dict[str, Any], saved: Save
) -> None:
    data = load(saved(arrays))
    assert lengths(data) == (54, 6, 20)
    assert (data.name, data.input_size, data.classes) == ("set", (3, 8, 8), ("0", "1", "2", "3"))
    images, labels = first_batch(data, data.input_size)
    expected = torch.from_numpy(arrays["test_images"][:4]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(images, expected)
    assert labels.tolist() == [0, 1, 2, 3]


def test_npz_with_validation_holds_nothing_out(arrays: dict[str, Any], saved: Save) -> None:
    arrays |= {"val_images": arrays["test_images"][:8], "val_labels": arrays["test_labels"][:8]}
    assert lengths(load(saved(arrays))) == (60, 8, 20)


def test_npz_with_validation_only_tests_on_it(arrays: dict[str, Any], saved: Save) -> None:
    arrays = {name.replace("test", "val"): values for name, values in arrays.items()}
    data = load(saved(arrays))
    assert lengths(data) == (54, 6, 20)


def test_medmnist_labels_and_grey_images(arrays: dict[str, Any], saved: Save) -> None:
    arrays = {
        name: values[..., 0] if name.endswith("images") else values[:, None].astype(np.uint8)
        for name, values in arrays.items()
    }
    data = load(saved(arrays | {"classes": np.array(["a", "b", "c", "d"])}))
    assert (data.input_size, data.classes) == ((1, 8, 8), ("a", "b", "c", "d"))
    assert not data.train.is_flippable
    assert data.train.labels.dtype == torch.int64


def test_held_out_images_are_not_trained_on(arrays: dict[str, Any], saved: Save) -> None:
    arrays["train_images"][:, 0, 0, 0] = np.arange(60)  # a number each
    data = load(saved(arrays), seed=3)
    assert isinstance(data.train, ArraySplit)
    assert isinstance(data.validation, ArraySplit)
    learnt, held_out = (part.images[:, 0, 0, 0].tolist() for part in (data.train, data.validation))
    assert sorted(learnt + held_out) == list(range(60))


def test_the_held_out_part_depends_on_the_seed_alone(arrays: dict[str, Any], saved: Save) -> None:
    path = saved(arrays)
    prints = [load(path, seed=seed).validation.fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_a_limit_leaves_the_test_images(arrays: dict[str, Any], saved: Save) -> None:
    data = load(saved(arrays), limit=5)
    assert lengths(data) == (5, 5, 20)
    assert lengths(load(saved(arrays), limit=1000)) == (54, 6, 20)
    with pytest.raises(ConfigError, match="limit must be at least 1 image, got 0"):
        load(saved(arrays), limit=0)


def test_image_folder(image_folder: Path) -> None:
    data = load(str(image_folder), input_size=(3, 12, 16))
    assert lengths(data) == (20, 6, 6)
    assert (data.classes, data.input_size) == (("cat", "dog"), (3, 12, 16))
    images, labels = first_batch(data, (3, 12, 16))
    expected = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    torch.testing.assert_close(images[0], torch.from_numpy(expected).permute(2, 0, 1) / 255)
    assert labels.tolist() == [0, 0, 0, 1]
    assert load(str(image_folder)).input_size == (3, 224, 224)


def test_image_folder_without_test_tests_on_val(image_folder: Path) -> None:
    (image_folder / "test").rename(image_folder / "elsewhere")
    assert lengths(load(str(image_folder))) == (18, 2, 6)


def test_mnist_folder(mnist_folder: Path) -> None:
    for place in (mnist_folder, mnist_folder / "MNIST", mnist_folder / "MNIST" / "raw"):
        data = load(str(place))
        assert lengths(data) == (36, 4, 10)
        assert data.input_size == (1, 28, 28)
    images, labels = first_batch(data, (3, 32, 32))
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(images[:, 0], images[:, 2])


def test_cifar_folder(cifar_folder: Path) -> None:
    data = load(str(cifar_folder))
    assert lengths(data) == (45, 5, 10)
    assert (data.input_size, data.classes[3]) == ((3, 32, 32), "kind3")
    flat = np.random.default_rng(5).integers(0, 256, (10, 3072), dtype=np.uint8)
    images, _ = first_batch(data, (3, 32, 32))
    torch.testing.assert_close(images[0], torch.from_numpy(flat[0]).view(3, 32, 32) / 255)


def test_cifar_without_names_and_cifar_100(cifar_folder: Path) -> None:
    folder = cifar_folder / "cifar-10-batches-py"
    (folder / "batches.meta").unlink()
    assert load(str(folder)).classes[:2] == ("0", "1")
    hundred = cifar_folder / "hundred" / "cifar-100-python"
    hundred.mkdir(parents=True)
    for name, count in (("train", 40), ("test", 20)):
        pixels = np.zeros((count, 3072), np.uint8)
        batch = {b"data": pixels, b"fine_labels": list(np.arange(count).tolist())}
        (hundred / name).write_bytes(pickle.dumps(batch))
    names = {b"fine_label_names": [f"n{number}".encode() for number in range(100)]}
    (hundred / "meta").write_bytes(pickle.dumps(names))
    data = load(str(hundred.parent))
    assert (lengths(data), len(data.classes), data.classes[99]) == ((36, 4, 20), 100, "n99")


def test_digits_have_fixed_stratified_test_images() -> None:
    data = load("digits", seed=0)
    assert lengths(data) == (1197, 200, 400)
    assert data.test.fingerprint() == load("digits", seed=1).test.fingerprint()
    assert data.test.labels.bincount().min() >= 38
    assert isinstance(data.train, ArraySplit)
    assert (data.train.images.min(), data.train.images.max()) == (0, 255)


def test_factories_in_files_and_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from __future__ import annotations
from dataclasses import dataclass
import numpy as np
from condense.data import load

@dataclass
class Unused:
    number: int

def arrays():
    images, labels = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    return dict(train_images=images, train_labels=labels, test_images=images, test_labels=labels)

def data_set():
    return load("digits")
"""
    (tmp_path / "my_sets.py").write_text(code)
    assert lengths(load(f"{tmp_path / 'my_sets.py'}:arrays")) == (18, 2, 20)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert lengths(load("my_sets:data_set", limit=100)) == (100, 100, 400)


def test_a_registered_data_set_has_a_name(arrays: dict[str, Any]) -> None:
    assert "digits" in DATA_SETS
    with pytest.raises(UnknownNameError, match="no data set named 'digit'; there are: digits"):
        load("digit")


def test_images_of_another_size_are_announced(
    caplog: pytest.LogCaptureFixture, arrays: dict[str, Any], saved: Save
) -> None:
    load(saved(arrays), input_size=(3, 32, 32))
    assert "set has images of 8x8 pixels; they are resized to the model's 32x32" in caplog.text


def test_importing_the_package_loads_neither_sklearn_nor_torchvision() -> None:
    code = "import sys, condense.data; print({'sklearn', 'torchvision', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_real_cifar(shared: Path) -> None:
    data = load(str(shared / "data" / "cifar10.npz"), num_classes=10)
    assert lengths(data) == (45_000, 5_000, 1_000)
    assert data.validation.labels.bincount().tolist() == [500] * 10
    assert data.classes[9] == "truck"


def test_real_mnist(shared: Path) -> None:
    assert lengths(load(str(shared / "data" / "MNIST"))) == (54_000, 6_000, 10_000)
