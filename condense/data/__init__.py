"""Data sets: a spec becomes three splits, and a split becomes batches.

data = condense.data.load("cifar10.npz")
for images, labels in condense.data.batches(data.test, 128, input_size=data.input_size): ...
"""

from condense.data import digits as _digits  # noqa: F401 - fills the table
from condense.data.batching import batches, index_batches
from condense.data.loading import load
from condense.data.sources import DATA_SETS
from condense.data.splits import ArraySplit, DataSet, Parts, Size, Split
from condense.data.stratified import seed_of

__all__ = [
    "DATA_SETS",
    "ArraySplit",
    "DataSet",
    "Parts",
    "Size",
    "Split",
    "batches",
    "index_batches",
    "load",
    "seed_of",
]
