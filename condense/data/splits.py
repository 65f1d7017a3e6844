"""What a data set is here: three splits, each a list of labelled images that are read by number."""

import hashlib
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from condense.data.stratified import stratified_order

Size = tuple[int, int, int]


class Split(Protocol):
    """Labelled images, in memory or on disk."""

    @property
    def labels(self) -> Tensor:
        """Class numbers, int64 (N,)."""

    @property
    def is_flippable(self) -> bool:
        """Whether mirrored images keep their class, as photographs do and digits do not."""

    def __len__(self) -> int: ...

    def read(self, indices: Tensor, input_size: Size, draws: Tensor | None) -> Tensor:
        """Images as uint8 (n, C, H, W).

        Args:
            indices: Which, int64 (n,).
            input_size: What the model expects; images in memory come as they are all the same.
            draws: Uniform random numbers (n, 5) for a crop made while reading; None for no chance.
        """

    def padding(self, input_size: Size) -> int:
        """How many pixels a random crop in the batch may shift an image."""

    def take(self, indices: Tensor) -> Self:
        """The part with these numbers, in this order."""

    def fingerprint(self) -> str:
        """A hash that changes when images or labels do."""


@dataclass(frozen=True, slots=True, eq=False)
class ArraySplit:
    """Images in memory.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        is_flippable: As in `Split`.
    """

    images: Tensor
    labels: Tensor
    is_flippable: bool

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Tensor, input_size: Size, draws: Tensor | None) -> Tensor:
        return self.images[indices]

    def padding(self, input_size: Size) -> int:
        return crop_padding(self.images.shape[-2:])

    def take(self, indices: Tensor) -> Self:
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def fingerprint(self) -> str:
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.labels.contiguous().numpy().data)
        digest.update(self.images.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a source holds, before anything is held out.

    Args:
        train: To learn from.
        validation: To choose the best epoch on; None if the source has no such part.
        test: To measure the result on, once.
        classes: Their names, by number.
    """

    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """A classification data set, ready to train on.

    A network that was pretrained on all of `train` knows the held-out images too: for it, the
    accuracy on `validation` ranks epochs but is no measurement. `test` is for that.

    Args:
        name: What it is called in reports.
        train: To learn from.
        validation: To choose the best epoch on; never a part of `train` or `test`.
        test: To measure the result on, once.
        classes: Their names, by number.
        input_size: (C, H, W) of the batches.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    input_size: Size

    def limited(self, limit: int, seed: int = 0) -> "DataSet":
        """With at most `limit` training images, and no more to validate on; `test` stays whole."""
        return replace(
            self,
            train=_subset(self.train, limit, seed),
            validation=_subset(self.validation, limit, seed),
        )

    def fingerprint(self) -> str:
        """A hash of what training sees: `train` and `validation`."""
        parts = self.train.fingerprint() + self.validation.fingerprint()
        return hashlib.sha256(parts.encode()).hexdigest()


def crop_padding(size: tuple[int, ...]) -> int:
    """An eighth of the shorter side: 4 pixels of 32, 1 of 8."""
    return max(1, min(size) // 8)


def _subset(split: Split, limit: int, seed: int) -> Split:
    if limit >= len(split):
        return split
    return split.take(torch.sort(stratified_order(split.labels, seed)[:limit]).values)
