"""What a training from scratch reports."""

import pytest
import torch
from torch import nn

from condense.measurement import Accuracy
from condense.reporting.trained import confusions_document, trained_document, trained_lines
from condense.training import EpochRecord, Result, TrainConfig

TABLE = torch.tensor([[8, 1, 1], [4, 6, 0], [0, 0, 10]])


def result(top1s: list[float], test: Accuracy | None) -> Result:
    history = tuple(
        EpochRecord(
            epoch=epoch, train_loss=1.0, val_top1=top1, lr=0.1, seconds=2.0, images_per_s=5.0
        )
        for epoch, top1 in enumerate(top1s, start=1)
    )
    return Result(
        model=nn.Identity(),
        best_epoch=2,
        val_top1=0.9,
        test=test,
        history=history,
        seconds=12.0,
        reference=None,
        met=None,
        unstable={},
        config=TrainConfig(epochs=len(top1s)),
    )


def test_the_plateau_is_over_the_last_five_epochs() -> None:
    found = trained_document(result([0.1, 0.901, 0.9, 0.9, 0.9015, 0.8995], None), "abc")
    assert found["plateau"] == {"epochs": 5, "spread": pytest.approx(0.002)}
    assert "accuracy" not in found
    assert trained_document(result([0.5], None), "abc")["plateau"] == {"epochs": 1, "spread": 0}


def test_pairs_are_sorted_and_count_both_ways() -> None:
    found = confusions_document(Accuracy(0.8, 30, (0.6, 0.9), TABLE), ["a", "b", "c"])
    assert found["pairs"] == [
        {"classes": ["a", "b"], "count": 5},
        {"classes": ["a", "c"], "count": 1},
    ]
    assert found["matrix"] == TABLE.tolist()


def test_a_network_may_have_more_classes_than_the_data() -> None:
    found = confusions_document(Accuracy(0.8, 30, (0.6, 0.9), TABLE), ["a", "b"])
    assert found["classes"] == ["a", "b", "2"]


def test_a_thousand_classes_are_told_in_pairs_alone() -> None:
    table = torch.zeros(101, 101, dtype=torch.long)
    table[3, 5] = 7
    found = confusions_document(Accuracy(0.8, 30, (0.6, 0.9), table), [])
    assert found["matrix"] is None
    assert found["pairs"] == [{"classes": ["3", "5"], "count": 7}]


def test_without_notes_there_is_nothing_to_tell() -> None:
    with pytest.raises(ValueError, match="without noting the answers"):
        confusions_document(Accuracy(0.8, 30, (0.6, 0.9)), [])


def test_in_words() -> None:
    score = Accuracy(0.8, 3000, (0.78, 0.82), TABLE)
    document = {"architecture": "net", **trained_document(result([0.8, 0.9], score), "abc")}
    assert trained_lines(document) == [
        "net  80.0 % (78.0–82.0) top-1 on 3,000 test images",
        "best of 2 epochs: 2, 90.00% held out; over the last 2 it varies by 10.00 points",
        "most confused, both ways together: a/b 5, a/c 1",
    ]
    document["confusions"]["pairs"] = []
    assert len(trained_lines(document)) == 2
