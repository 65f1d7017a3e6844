"""Data sets given as arrays: checked, and turned into tensors.

The layout is MedMNIST's: `train_images`, `train_labels`, `test_images`, `test_labels`, and
optionally `val_images`, `val_labels` and `classes`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condense.data.splits import ArraySplit, Parts
from condense.errors import DataError

Array = NDArray[Any]
CHANNELS = (1, 3)
LAYOUT = "train_images, train_labels, test_images, test_labels (val_images, val_labels)"


def parts_of(arrays: Mapping[str, Any], where: str, *, flips: bool | None = None) -> Parts:
    """The splits in `arrays`.

    Without a test part, the validation part is the test set, and training will hold out its own.

    Args:
        arrays: As the module says.
        where: What the arrays came from, for messages.
        flips: Whether mirror images keep their class; None: those in colour do.

    Raises:
        DataError: If arrays are missing, do not fit together or have another dtype or shape.
    """
    names = [name for name in ("train", "val", "test") if f"{name}_images" in arrays]
    if "train" not in names or len(names) == 1:
        raise DataError(
            f"{where} holds {_listed(arrays)}; expected {LAYOUT}",
            hint="save it with numpy.savez(path, train_images=…, train_labels=…, …)",
        )
    splits = {name: _split(arrays, name, where, flips=flips) for name in names}
    shapes = {name: tuple(split.images.shape[1:]) for name, split in splits.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"{where}: the images differ in (C, H, W) between the splits: {shapes}",
            hint="bring all images to one size",
        )
    count = 1 + max(int(split.labels.max()) for split in splits.values())
    test = splits["test"] if "test" in splits else splits.pop("val")
    classes = _class_names(arrays.get("classes"), count)
    return Parts(splits["train"], splits.get("val"), test, classes)


def _split(arrays: Mapping[str, Any], name: str, where: str, *, flips: bool | None) -> ArraySplit:
    key = f"{name}_labels"
    if key not in arrays:
        raise DataError(f"{where} has {name}_images but no {key}", hint=f"add {key}")
    images = _images(arrays[f"{name}_images"], f"{name}_images of {where}")
    labels = _labels(arrays[key], f"{key} of {where}")
    if len(images) != len(labels):
        raise DataError(
            f"{where}: {name}_images has {len(images)} images, {key} has {len(labels)} labels",
            hint="there must be one label an image",
        )
    if len(images) == 0:
        raise DataError(f"{where}: {name}_images is empty", hint="every split needs images")
    return ArraySplit(images, labels, images.shape[1] == 3 if flips is None else flips)


def _images(found: Any, where: str) -> Tensor:
    array = _array(found, where)
    if array.dtype != np.uint8:
        broken = array.dtype.kind == "f" and not bool(np.isfinite(array).all())
        raise DataError(
            f"{where} have dtype {array.dtype}{' with NaN or infinity in it' if broken else ''}, "
            "expected uint8 from 0 to 255",
            hint="pixels from 0 to 1 become (pixels * 255).round().astype('uint8')",
        )
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in CHANNELS or 0 in array.shape[1:]:
        is_channels_first = array.ndim == 4 and array.shape[1] in CHANNELS
        raise DataError(
            f"{where} have shape {tuple(np.shape(found))}, expected (N, H, W) or (N, H, W, 1 or 3)",
            hint="move the channels last: images.transpose(0, 2, 3, 1)"
            if is_channels_first
            else "one image is height by width, with one or three channels last",
        )
    return torch.from_numpy(array.transpose(0, 3, 1, 2).copy())


def _labels(found: Any, where: str) -> Tensor:
    array = _array(found, where)
    if array.dtype.kind not in "iu":
        raise DataError(
            f"{where} have dtype {array.dtype}, expected integers",
            hint="labels are class numbers from 0 on",
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{where} have shape {array.shape}, expected (N,) or (N, 1)",
            hint="each image has one class; several labels an image are not supported",
        )
    if array.size and int(array.min()) < 0:
        raise DataError(f"{where} go down to {array.min()}, expected class numbers from 0 on")
    return torch.from_numpy(array.astype(np.int64))


def _array(found: Any, where: str) -> Array:
    array = found.numpy(force=True) if isinstance(found, Tensor) else np.asarray(found)
    if array.dtype == object:
        raise DataError(
            f"{where} are Python objects, expected an array of numbers",
            hint="all images must have the same size",
        )
    return array


def _class_names(found: Any, count: int) -> tuple[str, ...]:
    names = () if found is None else tuple(str(name) for name in np.ravel(np.asarray(found)))
    return names if len(names) >= count else tuple(str(number) for number in range(count))


def _listed(arrays: Mapping[str, Any]) -> str:
    return ", ".join(sorted(arrays)) or "nothing"
