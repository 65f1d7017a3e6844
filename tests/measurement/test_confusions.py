"""Which classes are taken for each other."""

import pytest
import torch
from torch import nn

from condense.measurement import Accuracy, accuracy

ANSWERS = [[0, 1], [0, 0], [1, 0], [2, 1], [2, 2], [0, 1]]
"""Pairs of the true class and the answer."""


def measured(answers: list[list[int]], batch: int = 4) -> Accuracy:
    true, given = torch.tensor(answers).unbind(1)
    images = torch.eye(3)[given]
    batches = zip(images.split(batch), true.split(batch), strict=True)
    return accuracy(nn.Identity(), batches)


def test_answers_are_counted_by_true_class() -> None:
    found = measured(ANSWERS)
    assert found.confusions is not None
    assert found.confusions.tolist() == [[1, 2, 0], [1, 0, 0], [0, 1, 1]]
    assert found.top1 == pytest.approx(2 / 6)


def test_a_pair_counts_both_ways() -> None:
    found = measured(ANSWERS)
    assert (found.confused(0, 1), found.confused(1, 0), found.confused(0, 2)) == (3, 3, 0)
    assert found.confused(1, 2) == 1


def test_outputs_that_are_no_numbers_are_no_answer() -> None:
    images = torch.tensor([[float("nan"), 1.0], [0.0, 1.0]])
    found = accuracy(nn.Identity(), [(images, torch.tensor([1, 1]))])
    assert found.confusions is not None
    assert found.confusions.tolist() == [[0, 0], [0, 1]]
    assert (found.top1, found.n) == (0.5, 2)


def test_without_notes_there_is_nothing_to_count() -> None:
    with pytest.raises(ValueError, match="without noting the answers"):
        Accuracy(0.5, 2, (0.1, 0.9)).confused(0, 1)
