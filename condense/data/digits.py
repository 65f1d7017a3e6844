"""scikit-learn's 1,797 handwritten digits, 8 by 8, grey: they come with the library."""

from typing import Any

import numpy as np
import torch

from condense.data.arrays import parts_of
from condense.data.sources import DATA_SETS
from condense.data.splits import Parts
from condense.data.stratified import stratified_order

SPLIT_SEED = 0  # the test images are the same for every run
VALIDATION, TEST = 200, 400


@DATA_SETS.register("digits")
def digits() -> Parts:
    """1,197 to train on, 200 to validate, 400 to test; values 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second to import

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    labels = found.target.astype(np.int64)
    order = stratified_order(torch.from_numpy(labels), SPLIT_SEED).numpy()
    test, validation, train = np.split(order, [TEST, TEST + VALIDATION])
    arrays: dict[str, Any] = {}
    for name, part in (("train", train), ("val", validation), ("test", test)):
        arrays |= {f"{name}_images": images[part], f"{name}_labels": labels[part]}
    return parts_of(arrays, "digits", flips=False)
