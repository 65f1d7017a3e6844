"""Top-1 accuracy, as a fraction, with the interval that a test set of this size allows.

The interval is Wilson's score interval: with k of n right, p = k/n and z = 1.96,

    (p + z²/2n ± z √(p (1-p)/n + z²/4n²)) / (1 + z²/n)

E. B. Wilson: Probable Inference, the Law of Succession, and Statistical Inference, Journal of the
American Statistical Association, 1927.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn

from condense.errors import DataError
from condense.measurement.observe import evaluating


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of images whose highest output is their label's.

    Args:
        top1: Fraction in [0, 1].
        n: Images.
        ci95: 95 % interval of top1: what to expect on other images of the same kind.
        confusions: How many images of each class (rows) got which answer (columns), int64. Outputs
            that are not numbers are no answer.
    """

    top1: float
    n: int
    ci95: tuple[float, float]
    confusions: Tensor | None = field(default=None, compare=False, repr=False)

    def confused(self, one: int, other: int) -> int:
        """Images of either of two classes that were taken for the other, both ways together.

        Raises:
            ValueError: If the answers were not noted.
        """
        if self.confusions is None:
            raise ValueError("this accuracy was measured without noting the answers")
        return int(self.confusions[one, other] + self.confusions[other, one])

    def to_dict(self) -> dict[str, Any]:
        """Without the confusions, which for a thousand classes are a million numbers."""
        return {"top1": self.top1, "n": self.n, "ci95": list(self.ci95)}


def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Accuracy:
    """Top-1 accuracy of a model in eval mode; every module is back in its own mode afterwards.

    Args:
        model: Gives (N, classes). Outputs that are not numbers count as wrong.
        batches: Images as the model takes them, and their labels.

    Raises:
        DataError: If there are no images.
    """
    like = next(model.parameters(), None)
    right = total = 0
    table: Tensor | None = None
    with evaluating(model):
        for images, labels in batches:
            outputs = model(images if like is None else images.to(like.device))
            counts = _counted(outputs, labels.to(outputs.device))
            right += int(counts.diagonal().sum())
            total += len(labels)
            table = counts if table is None else table + counts
    if not total:
        raise DataError("there are no images to measure the accuracy on")
    return Accuracy(right / total, total, wilson_interval(right, total), table)


def _counted(outputs: Tensor, labels: Tensor) -> Tensor:
    """The confusions of a batch, (classes, classes) on the CPU."""
    classes = outputs.shape[1]
    is_number = outputs.isfinite().all(1) & (labels < classes)
    cells = labels[is_number] * classes + outputs[is_number].argmax(1)
    return torch.bincount(cells.cpu(), minlength=classes**2).view(classes, classes)


def wilson_interval(right: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a fraction.

    Args:
        right: Successes.
        total: Trials, at least 1.
        confidence: Of the interval.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    scale = 1 + z * z / total
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return min(max(0.0, low), share), max(min(1.0, high), share)
