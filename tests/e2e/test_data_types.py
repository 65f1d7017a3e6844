"""From a network to its export, once for each kind of data."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condense.models import create

CLASSES = 3


def pictures(count: int, side: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise around a grey that tells the class: anything learns it."""
    labels = np.arange(count) % CLASSES
    noise = np.random.default_rng(count).normal(0, 20, (count, side, side, channels))
    images = np.clip(noise + 60 + 60 * labels[:, None, None, None], 0, 255).astype(np.uint8)
    return images, labels


def npz(folder: Path) -> str:
    (train, train_labels), (test, test_labels) = pictures(90, 16, 3), pictures(30, 16, 3)
    np.savez(
        folder / "data.npz",
        train_images=train,
        train_labels=train_labels,
        test_images=test,
        test_labels=test_labels,
    )
    return "data.npz"


def image_folder(folder: Path) -> str:
    for part, count in (("train", 90), ("val", 30), ("test", 30)):
        for number, (image, label) in enumerate(zip(*pictures(count, 20, 3), strict=True)):
            place = folder / "pictures" / part / f"class {label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number}.png")
    return "pictures"


def idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def mnist(folder: Path) -> str:
    place = folder / "MNIST" / "raw"
    place.mkdir(parents=True)
    for name, count in (("train", 90), ("t10k", 30)):
        images, labels = pictures(count, 16, 1)
        idx(place / f"{name}-images-idx3-ubyte", images[..., 0])
        idx(place / f"{name}-labels-idx1-ubyte", labels)
    return "MNIST"


def cifar(folder: Path) -> str:
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        images, labels = pictures(30, 32, 3)
        rows = images.transpose(0, 3, 1, 2).reshape(30, -1)
        content = {b"data": rows, b"labels": labels.tolist()}
        (place / name).write_bytes(pickle.dumps(content))
    names = {b"label_names": [b"dark", b"grey", b"bright"]}
    (place / "batches.meta").write_bytes(pickle.dumps(names))
    return "."


def factory(folder: Path) -> str:
    source = """
import numpy as np

def images():
    labels = np.arange(90) % 3
    whole = (60 + 60 * labels[:, None, None, None] + np.zeros((90, 16, 16, 3))).astype(np.uint8)
    return {"train_images": whole, "train_labels": labels,
            "test_images": whole[:30], "test_labels": labels[:30]}
"""
    (folder / "mine.py").write_text(source)
    return "mine.py:images"


DATA = {
    "npz": (npz, "3x16x16", 30),
    "image folder": (image_folder, "3x16x16", 30),
    "mnist": (mnist, "1x16x16", 30),
    "cifar": (cifar, "3x32x32", 30),
    "factory": (factory, "3x16x16", 30),
    "digits": (lambda _: "digits", "1x8x8", 400),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATA)
def test_from_a_checkpoint_to_its_export(step, tmp_path: Path, kind: str) -> None:
    write, size, tested = DATA[kind]
    spec, channels = write(tmp_path), int(size[0])
    classes = 10 if kind == "digits" else CLASSES
    torch.manual_seed(0)
    network = create("resnet20", num_classes=classes, in_channels=channels)
    torch.save({"state_dict": network.state_dict()}, "model.pt")

    found = step("analyze", "model.pt", "--no-latency", "--input-size", size, "--mean",
                 ",".join(["0.5"] * channels), "--std", ",".join(["0.25"] * channels))  # fmt: skip
    assert found["architecture"] == "condense:resnet20"
    assert [len(stage["repeats"]) for stage in found["stages"]] == [2, 2, 2]
    models = step("convert")["models"]
    assert models[2]["params"] < models[1]["params"] < models[0]["params"]
    words = ["--epochs", "1", "--batch-size", "16", "--limit", "64", "--lr", "0.02"]
    trained = step("finetune", "--data", spec, *words)
    assert [model["role"] for model in trained["models"]] == ["finetuned", "control_finetuned"]
    assert trained["original"]["n"] == tested
    report = step("report", "--runtimes", "torch", "--repeats", "2")
    assert [model["accuracy"]["n"] for model in report["models"]] == [tested] * 5
    scores = {model["role"]: model["accuracy"] for model in trained["models"]}
    scores["original"] = trained["original"]
    for model in report["models"]:
        if model["role"] in scores:
            assert model["accuracy"]["top1"] == pytest.approx(scores[model["role"]]["top1"])
    check = step("export")
    assert (check["inputs"], check["n"], check["argmax_agreement"]) == ("given", tested, 1.0)
