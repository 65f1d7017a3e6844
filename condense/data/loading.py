"""A data spec, as on the command line, to a `DataSet`."""

import logging
from pathlib import Path

from condense.data.archives import read_npz
from condense.data.factories import is_factory, make
from condense.data.folders import read_folder
from condense.data.sources import DATA_SETS
from condense.data.splits import ArraySplit, DataSet, Parts, Size, Split
from condense.data.stratified import hold_out
from condense.data.torchvision_sets import find_cifar, find_idx, read_cifar_folder, read_idx_folder
from condense.errors import ConfigError, DataError

HELD_OUT = 0.1  # of the training images
HELD_OUT_AT_MOST = 10_000
FOLDER_SIZE = (3, 224, 224)

logger = logging.getLogger(__name__)


def load(
    spec: str,
    *,
    input_size: Size | None = None,
    num_classes: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> DataSet:
    """Open a data set.

    Where there is no validation part, a tenth of the training images (at most 10,000) is held
    out, the same for the same seed, classes in proportion; never a part of the test images.

    Args:
        spec: An `.npz` file; a folder with `train/` and `val/` or `test/`, or with torchvision's
            MNIST or CIFAR; the name of a data set, such as `digits`; or code that makes
            one, `pkg.mod:factory` or `file.py:factory`.
        input_size: (C, H, W) that the model expects. Default: that of the images, or
            3x224x224 for folders.
        num_classes: Of the model; labels must be below it.
        limit: Train on this many images only, and validate on no more.
        seed: Of the held-out part and the limit.

    Raises:
        DataError: If it cannot be used.
        ConfigError: If `limit` is not positive.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1 image, got {limit}")
    found = _open(spec)
    if isinstance(found, Parts):
        found = _assemble(found, _name(spec), input_size, seed)
    _check_labels(found, spec, num_classes)
    if input_size is not None and found.input_size[1:] != input_size[1:]:
        logger.warning(
            "%s has images of %s pixels; they are resized to the model's %s",
            *(found.name, _pixels(found.input_size), _pixels(input_size)),
        )
    return found if limit is None else found.limited(limit, seed)


def _open(spec: str) -> DataSet | Parts:
    path = Path(spec)
    if spec in DATA_SETS:
        return DATA_SETS[spec]()
    if path.is_dir():
        return _open_folder(path)
    if path.is_file():
        return read_npz(path)
    if is_factory(spec):
        return make(spec)
    if path.suffix or len(path.parts) > 1:
        raise DataError(f"{spec} does not exist", hint="check the path; it is relative to here")
    return DATA_SETS[spec]()


def _open_folder(path: Path) -> Parts:
    found = dict.fromkeys(find_idx(path), read_idx_folder)
    found |= dict.fromkeys(find_cifar(path), read_cifar_folder)
    if len(found) > 1:
        raise DataError(
            f"{path} holds several data sets: {', '.join(str(place) for place in found)}",
            hint="name one of them",
        )
    for place, read in found.items():
        return read(place)
    return read_folder(path)


def _assemble(parts: Parts, name: str, input_size: Size | None, seed: int) -> DataSet:
    train, validation = parts.train, parts.validation
    if validation is None:
        count = min(round(HELD_OUT * len(train)), HELD_OUT_AT_MOST)
        if count == 0:
            raise DataError(
                f"{name} has {len(train)} training images, too few to hold some out",
                hint="give it a validation part (val_images or val/), or more images",
            )
        learnt, held_out = hold_out(train.labels, count, seed)
        train, validation = train.take(learnt), train.take(held_out)
    size = _size_of(parts.train) or input_size or FOLDER_SIZE
    return DataSet(name, train, validation, parts.test, parts.classes, size)


def _size_of(split: Split) -> Size | None:
    if not isinstance(split, ArraySplit):
        return None
    _, channels, height, width = split.images.shape
    return (channels, height, width)


def _check_labels(data: DataSet, spec: str, num_classes: int | None) -> None:
    for name in ("train", "validation", "test"):
        labels = getattr(data, name).labels
        if len(labels) == 0:
            raise DataError(f"the {name} part of {spec} is empty", hint="every part needs images")
        top = int(labels.max())
        if num_classes is not None and top >= num_classes:
            raise DataError(
                f"the {name} labels of {spec} go up to {top}, the model has {num_classes} classes",
                hint=f"labels must lie in 0 … {num_classes - 1}; use a model for these classes",
            )
    if bool((data.train.labels == data.train.labels[0]).all()):
        raise DataError(
            f"the training images of {spec} are all of class {int(data.train.labels[0])}",
            hint="a classifier needs images of two classes or more",
        )


def _name(spec: str) -> str:
    return Path(spec).stem if Path(spec).exists() else spec


def _pixels(size: Size) -> str:
    return f"{size[1]}x{size[2]}"
