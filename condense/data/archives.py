"""Data sets in `.npz` files."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from condense.data.arrays import LAYOUT, parts_of
from condense.data.splits import Parts
from condense.errors import DataError

KEYS = ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels")


def read_npz(path: Path) -> Parts:
    """A data set in MedMNIST's layout; Python objects in it are never loaded.

    Raises:
        DataError: If it is no such file.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} {_what_it_is(path)}, expected an .npz file with {LAYOUT}")
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in (*KEYS, "classes"):
                if key in archive:
                    arrays[key] = archive[key]
            others = {name: None for name in archive.files if name not in arrays}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error) from error
    return parts_of(arrays | others, str(path))


def _unreadable(path: Path, error: Exception) -> DataError:
    if "allow_pickle" in str(error):
        return DataError(
            f"{path} holds Python objects, expected arrays of numbers",
            hint="save images as one uint8 array and labels as integers; objects could run code",
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path} cannot be read: {reason}", hint="copy or download the file again")


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(6)
    if not head:
        return "is empty"
    if head.startswith(b"PK"):
        return "begins as an .npz file and is cut off"
    if head.startswith(b"\x93NUMPY"):
        return "is a single .npy array"
    return "is not an .npz file"
