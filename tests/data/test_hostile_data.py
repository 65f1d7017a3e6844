"""Data that cannot be used: what was found, what was expected, what to do."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condense.data import batches, load
from condense.errors import DataError, UnknownNameError

Arrays = dict[str, Any]
Save = Callable[[Arrays], str]


def error_of(spec: str | Path, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        load(str(spec), **options)
    message = str(caught.value)
    assert message[-1] != "."
    assert "\n" not in message
    return caught.value


CHANGES: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "float64": (
        lambda a: {"train_images": a["train_images"] / 255},
        "train_images of .* have dtype float64, expected uint8 from 0 to 255",
    ),
    "nan": (
        lambda a: {"train_images": np.full((60, 8, 8, 3), np.nan, np.float32)},
        "float32 with NaN or infinity in it, expected uint8",
    ),
    "objects": (
        lambda a: {"train_images": np.array([None] * 60)},
        "holds Python objects, expected arrays of numbers",
    ),
    "channels first": (
        lambda a: {"train_images": a["train_images"].transpose(0, 3, 1, 2)},
        r"train_images of .* have shape \(60, 3, 8, 8\), expected \(N, H, W\)",
    ),
    "flat": (
        lambda a: {"train_images": a["train_images"].reshape(60, -1)},
        r"have shape \(60, 192\)",
    ),
    "other size in test": (
        lambda a: {"test_images": a["test_images"][:, :4]},
        r"the images differ in \(C, H, W\) between the splits",
    ),
    "length": (
        lambda a: {"train_labels": a["train_labels"][:-1]},
        "train_images has 60 images, train_labels has 59 labels",
    ),
    "empty": (
        lambda a: {"test_images": a["test_images"][:0], "test_labels": a["test_labels"][:0]},
        "test_images is empty",
    ),
    "float labels": (
        lambda a: {"train_labels": a["train_labels"] * 1.0},
        "train_labels of .* have dtype float64, expected integers",
    ),
    "negative labels": (lambda a: {"train_labels": a["train_labels"] - 1}, "go down to -1"),
    "several labels an image": (
        lambda a: {"train_labels": np.zeros((60, 14), int)},
        r"have shape \(60, 14\), expected \(N,\) or \(N, 1\)",
    ),
    "one class": (
        lambda a: {"train_labels": np.full(60, 2)},
        "training images of .* are all of class 2",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_arrays(name: str, arrays: Arrays, saved: Save) -> None:
    change, message = CHANGES[name]
    error = error_of(saved(arrays | change(arrays)))
    with pytest.raises(DataError, match=message):
        raise error


def test_labels_beyond_the_models_classes(arrays: Arrays, saved: Save) -> None:
    error = error_of(saved(arrays), num_classes=3)
    assert "labels of" in str(error)
    assert "go up to 3, the model has 3 classes" in str(error)
    assert error.hint == "labels must lie in 0 … 2; use a model for these classes"


@pytest.mark.parametrize("missing", ["train_images", "train_labels", "test_images"])
def test_missing_arrays(missing: str, arrays: Arrays, saved: Save) -> None:
    del arrays[missing]
    message = "has train_images but no train_labels" if "labels" in missing else "holds .*expected"
    with pytest.raises(DataError, match=message):
        load(saved(arrays))


def test_too_few_to_hold_out(arrays: Arrays, saved: Save) -> None:
    few = arrays | {"train_images": arrays["train_images"][:4], "train_labels": np.arange(4)}
    assert "has 4 training images, too few to hold some out" in str(error_of(saved(few)))


def test_files_that_are_no_archives(tmp_path: Path, arrays: Arrays, saved: Save) -> None:
    whole = Path(saved(arrays)).read_bytes()
    text, empty, cut = (tmp_path / f"{name}.npz" for name in ("text", "empty", "cut"))
    text.write_text("hello")
    empty.write_bytes(b"")
    cut.write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert "is not an .npz file" in str(error_of(text))
    assert "is empty" in str(error_of(empty))
    assert "is cut off" in str(error_of(cut))
    assert "is a single .npy array" in str(error_of(tmp_path / "one.npy"))


def test_an_archive_with_damaged_content(tmp_path: Path, arrays: Arrays, saved: Save) -> None:
    path = Path(saved(arrays))
    content = bytearray(path.read_bytes())
    content[5000] ^= 255
    path.write_bytes(content)
    assert "cannot be read: Bad CRC-32" in str(error_of(path))


def test_paths_that_do_not_exist(tmp_path: Path) -> None:
    assert "does not exist" in str(error_of(tmp_path / "none.npz"))
    with pytest.raises(UnknownNameError, match="no data set named 'cifar11'"):
        load("cifar11")


def test_folders_without_images(tmp_path: Path, image_folder: Path) -> None:
    (tmp_path / "none").mkdir()
    assert "holds nothing; expected train/" in str(error_of(tmp_path / "none"))
    (image_folder / "train" / "cat").rename(image_folder / "train" / "cow")
    assert "classes that train/ has not: cat" in str(error_of(image_folder))
    for path in (image_folder / "train").rglob("*.png"):
        path.unlink()
    (image_folder / "train" / "cow").rename(image_folder / "train" / "cat")
    assert "has no images in its folders" in str(error_of(image_folder))
    for part in ("cat", "dog"):
        (image_folder / "train" / part).rmdir()
    assert "has no folders, expected one a class" in str(error_of(image_folder))


def test_a_broken_image_is_named(image_folder: Path) -> None:
    broken = image_folder / "test" / "cat" / "00.png"
    broken.write_bytes(broken.read_bytes()[:60])
    data = load(str(image_folder))
    with pytest.raises(DataError, match=r"00\.png cannot be read as an image"):
        list(batches(data.test, 4, input_size=(3, 12, 16), workers=2))


def test_broken_mnist(mnist_folder: Path) -> None:
    raw = mnist_folder / "MNIST" / "raw"
    (labels,) = raw.glob("train-labels*")
    content = labels.read_bytes()
    labels.write_bytes(content[:-20])
    assert "cannot be used" in str(error_of(mnist_folder))
    labels.write_bytes(b"hello")
    assert "cannot be used" in str(error_of(mnist_folder))
    labels.unlink()
    assert "has no train-labels-idx1-ubyte" in str(error_of(mnist_folder))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not run",)


def test_cifar_files_run_nothing(cifar_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cifar_folder / "cifar-10-batches-py"
    (folder / "data_batch_2").write_bytes(pickle.dumps({b"data": Evil()}))
    assert "it would run builtins.print" in str(error_of(cifar_folder))
    assert capsys.readouterr().out == ""


def test_broken_cifar(cifar_folder: Path) -> None:
    folder = cifar_folder / "cifar-10-batches-py"
    whole = (folder / "data_batch_3").read_bytes()
    for content in (b"", b"hello", whole[:500], pickle.dumps([1]), pickle.dumps({b"data": 1})):
        (folder / "data_batch_3").write_bytes(content)
        assert "data_batch_3 cannot be used" in str(error_of(cifar_folder))
    (folder / "data_batch_3").unlink()
    assert "data_batch_3 is missing" in str(error_of(cifar_folder))


def test_a_folder_with_several_sets_is_ambiguous(mnist_folder: Path) -> None:
    (mnist_folder / "Fashion").mkdir()
    (mnist_folder / "MNIST" / "raw").rename(mnist_folder / "Fashion" / "raw")
    assert load(str(mnist_folder)).input_size == (1, 28, 28)
    (mnist_folder / "MNIST" / "raw").mkdir()
    for path in (mnist_folder / "Fashion" / "raw").iterdir():
        (mnist_folder / "MNIST" / "raw" / path.name).write_bytes(path.read_bytes())
    assert "holds several data sets" in str(error_of(mnist_folder))


def test_factories_that_fail(tmp_path: Path) -> None:
    file = tmp_path / "sets.py"
    file.write_text("def bad():\n    return 1 / 0\n\ndef number():\n    return 3\n")
    assert "has no function 'god'; there are: bad, number" in str(error_of(f"{file}:god"))
    assert "failed: ZeroDivisionError: division by zero" in str(error_of(f"{file}:bad"))
    assert "returned a int, expected a DataSet" in str(error_of(f"{file}:number"))
    assert "does not exist" in str(error_of(f"{tmp_path}/none.py:bad"))
    assert "failed: ModuleNotFoundError" in str(error_of("no_such_module_here:bad"))


def test_a_factory_with_an_empty_part(tmp_path: Path) -> None:
    (tmp_path / "sets.py").write_text(
        "import dataclasses, torch\nfrom condense.data import load\n"
        "def hollow():\n    data = load('digits')\n"
        "    return dataclasses.replace(data, test=data.test.take(torch.arange(0)))\n"
    )
    assert "the test part of" in str(error_of(f"{tmp_path / 'sets.py'}:hollow"))


def test_ragged_images_from_a_factory(tmp_path: Path) -> None:
    (tmp_path / "sets.py").write_text(
        "import numpy as np\n"
        "def ragged():\n    images = np.array([np.zeros(2), np.zeros(3)], object)\n"
        "    parts = {f'{part}_images': images for part in ('train', 'test')}\n"
        "    return parts | {f'{part}_labels': [0, 1] for part in ('train', 'test')}\n"
    )
    assert "are Python objects, expected an array of numbers" in str(
        error_of(f"{tmp_path / 'sets.py'}:ragged")
    )
