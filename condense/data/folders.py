"""Folders of images, one folder a class: `train/cat/1.jpg`; read when they are needed."""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from condense.data.splits import Parts, Size, crop_padding
from condense.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
LARGE = 128  # from this size on images are photographs: cut as for ImageNet
CENTRE = 8 / 7  # of the shorter side (256 for 224) the middle is cut out
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random crop


@dataclass(frozen=True, slots=True, eq=False)
class FolderSplit:
    """Images on disk.

    An image that has the model's size is used as it is. Others are resized (bilinear,
    antialiased) and cut to the middle: for models of 128 pixels and more from 8/7 of the size,
    as is usual for ImageNet, and training cuts 8 to 100 % of the area at random; for smaller
    models the shorter side becomes the model's.

    Args:
        root: Folder that `files` are relative to.
        files: Paths, one an image.
        labels: int64 (N,).
    """

    root: Path
    files: tuple[str, ...]
    labels: Tensor

    @property
    def is_flippable(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Tensor, input_size: Size, draws: Tensor | None) -> Tensor:
        crops = [None] * len(indices) if draws is None else draws.tolist()
        paths = (self.root / self.files[i] for i in indices.tolist())
        images = [_pixels(p, input_size, crop) for p, crop in zip(paths, crops, strict=True)]
        return torch.stack(images)

    def padding(self, input_size: Size) -> int:
        size = input_size[1:]
        return 0 if min(size) >= LARGE else crop_padding(size)

    def take(self, indices: Tensor) -> Self:
        files = tuple(self.files[i] for i in indices.tolist())
        return replace(self, files=files, labels=self.labels[indices])

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.labels.numpy().tobytes())
        for name in self.files:
            digest.update(f"{name} {(self.root / name).stat().st_size}\n".encode())
        return digest.hexdigest()


def read_folder(folder: Path) -> Parts:
    """An ImageFolder with `train/`, and `val/`, `test/` or both.

    Without `test/`, `val/` is the test set, and training will hold out a part of `train/`.

    Raises:
        DataError: If there is no such thing, or the classes differ.
    """
    names = [name for name in ("train", "val", "test") if (folder / name).is_dir()]
    if "train" not in names or len(names) == 1:
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{folder} holds {found}; expected train/ and val/ or test/ with a folder a class",
            hint="or name a folder with torchvision's MNIST or CIFAR-10, or an .npz file",
        )
    classes = _classes(folder / "train")
    splits = {name: _split(folder / name, classes) for name in names}
    test = splits["test"] if "test" in splits else splits.pop("val")
    return Parts(splits["train"], splits.get("val"), test, classes)


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))
    if not classes:
        raise DataError(
            f"{folder} has no folders, expected one a class", hint="sort the images into folders"
        )
    return classes


def _split(folder: Path, classes: tuple[str, ...]) -> FolderSplit:
    if strangers := set(_classes(folder)) - set(classes):
        raise DataError(
            f"{folder} has classes that train/ has not: {', '.join(sorted(strangers)[:5])}",
            hint="every class needs images in train/",
        )
    files, labels = [], []
    for label, name in enumerate(classes):
        paths = (p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES)
        found = sorted(path.relative_to(folder).as_posix() for path in paths)
        files += found
        labels += [label] * len(found)
    if not files:
        raise DataError(
            f"{folder} has no images in its folders",
            hint=f"known are {', '.join(sorted(SUFFIXES))}",
        )
    return FolderSplit(folder, tuple(files), torch.tensor(labels))


def _pixels(path: Path, input_size: Size, draws: list[float] | None) -> Tensor:
    from PIL import Image  # noqa: PLC0415 - only folders need it

    channels, *size = input_size
    try:
        with Image.open(path) as file:
            image = file.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError) as error:  # PIL: SyntaxError for broken PNGs
        raise DataError(
            f"{path} cannot be read as an image: {error}", hint="replace or remove the file"
        ) from error
    image = _cut(image, (size[0], size[1]), draws)
    pixels = np.asarray(image).reshape(size[0], size[1], -1).transpose(2, 0, 1)
    return torch.from_numpy(pixels.copy())


def _cut(image: "Image", size: tuple[int, int], draws: list[float] | None) -> "Image":
    height, width = size
    if image.size == (width, height):
        return image
    if draws is not None and min(size) >= LARGE:
        return _random_cut(image, size, draws)
    zoom = CENTRE if min(size) >= LARGE else 1.0
    scale = max(round(zoom * width) / image.width, round(zoom * height) / image.height)
    resized = (
        max(width, int(scale * image.width + 1e-6)),
        max(height, int(scale * image.height + 1e-6)),
    )
    left, top = round((resized[0] - width) / 2), round((resized[1] - height) / 2)
    return image.resize(resized, _BILINEAR).crop((left, top, left + width, top + height))


def _random_cut(image: "Image", size: tuple[int, int], draws: list[float]) -> "Image":
    area = (AREA[0] + (AREA[1] - AREA[0]) * draws[0]) * image.width * image.height
    low, high = (math.log(edge) for edge in ASPECT)
    aspect = math.exp(low + (high - low) * draws[1]) * size[1] / size[0]
    width = min(image.width, math.sqrt(area * aspect))
    height = min(image.height, math.sqrt(area / aspect))
    top, left = draws[2] * (image.height - height), draws[3] * (image.width - width)
    box = (left, top, left + width, top + height)
    return image.resize((size[1], size[0]), _BILINEAR, box=box)


_BILINEAR = 2  # PIL.Image.Resampling.BILINEAR, without importing PIL here
