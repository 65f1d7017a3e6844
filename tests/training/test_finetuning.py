"""What a training does: it learns, imitates, leaves its inputs alone, and says no in time."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from condense.data import ArraySplit, DataSet
from condense.errors import CondenseError, ConfigError, DataError
from condense.training import EpochRecord, TrainConfig, finetune
from condense.training.inputs import Inputs
from condense.training.teacher import Teacher

Build = Callable[..., nn.Module]
SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 20, "lr": 0.02}


class Watcher:
    """Keeps all that it is told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def start(self, total: int, done: int) -> None:
        self.calls.append(("start", total, done))

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        self.calls.append((images, epoch))

    def epoch_done(self, record: EpochRecord) -> None:
        self.calls.append(record)

    def stop(self) -> None:
        self.calls.append("stop")


def test_true_labels_are_learnt_and_shuffled_ones_are_not(
    build: Build, digits: DataSet, shuffled: DataSet
) -> None:
    options: dict[str, Any] = {"teacher": None, "epochs": 6, "batch_size": 64}
    right = finetune(build(), data=digits, **options)
    wrong = finetune(build(), data=shuffled, **options)
    assert right.test is not None
    assert wrong.test is not None
    assert right.test.top1 > 0.9
    assert wrong.test.top1 < 0.3
    assert right.val_top1 == max(record.val_top1 for record in right.history)
    assert right.history[right.best_epoch - 1].val_top1 == right.val_top1


def test_a_teacher_alone_teaches(build: Build, digits: DataSet, shuffled: DataSet) -> None:
    teacher = finetune(build(), teacher=None, data=digits, epochs=6, batch_size=64)
    options: dict[str, Any] = {"data": shuffled, "teacher_weight": 1.0, "epochs": 6}
    student = finetune(build(1), teacher=teacher.model, batch_size=64, **options)
    assert student.test is not None
    assert student.test.top1 > 0.85
    assert student.reference == teacher.val_top1


def test_student_and_teacher_stay_as_they_are(build: Build, few: DataSet) -> None:
    student, teacher = build().train(), build(1).train()
    before = [deepcopy(model.state_dict()) for model in (student, teacher)]
    result = finetune(student, teacher=teacher, data=few, **SHORT)
    for model, old in zip((student, teacher), before, strict=True):
        torch.testing.assert_close(dict(model.state_dict()), dict(old), rtol=0, atol=0)
        assert all(module.training for module in model.modules())
        assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module.training for module in result.model.modules())
    assert all(p.requires_grad for p in result.model.parameters())


def test_the_same_seed_gives_the_same_model(build: Build, few: DataSet) -> None:
    one, same, other = (
        finetune(build(), teacher=None, data=few, seed=seed, **SHORT).model.state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.equal(one["0.weight"], same["0.weight"])
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_a_spec_and_its_data_set_are_the_same(build: Build) -> None:
    result = finetune(build(), teacher=None, data="digits", limit=40, epochs=1, batch_size=10)
    assert result.test is not None
    assert result.test.n == 400
    assert len(result.history) == 1


def test_progress_is_told_everything(build: Build, few: DataSet) -> None:
    watcher = Watcher()
    finetune(build(), teacher=None, data=few, progress=watcher, **SHORT)
    records = [call for call in watcher.calls if isinstance(call, EpochRecord)]
    assert watcher.calls[0] == ("start", 200, 0)
    assert watcher.calls[1:6] == [(20, 1)] * 5
    assert [record.epoch for record in records] == [1, 2]
    assert all(record.images_per_s > 0 for record in records)
    assert watcher.calls[-1] == "stop"


def test_early_stop_once_close_enough(build: Build, digits: DataSet) -> None:
    teacher = finetune(build(), teacher=None, data=digits, epochs=4, batch_size=64).model
    options: dict[str, Any] = {"teacher": teacher, "data": digits, "batch_size": 64, "test": False}
    close = finetune(build(1), max_drop=60, epochs=20, **options)
    assert close.met is True
    assert len(close.history) < 20
    assert close.reference is not None
    assert close.val_top1 >= close.reference - 0.6
    given = finetune(build(1), max_drop=5, reference=0.3, epochs=20, **options)
    assert (given.reference, given.met) == (0.3, True)
    assert len(given.history) < 20
    never = finetune(build(1), max_drop=0, epochs=1, **options)
    assert never.met is False
    assert finetune(build(1), epochs=1, **options).met is None


def test_divergence_is_told_and_harms_nothing(build: Build, few: DataSet, tmp_path: Path) -> None:
    with pytest.raises(CondenseError, match=r"at step \d+ \(epoch \d+, learning rate") as caught:
        finetune(build(), teacher=None, data=few, folder=tmp_path, epochs=3, batch_size=20, lr=1e30)
    assert caught.value.hint is not None
    assert "lower lr" in caught.value.hint
    from condense.checkpoint.plain import read_plain

    state = read_plain(tmp_path / "last.pt")["model"]
    assert all(bool(v.isfinite().all()) for v in state.values())


def test_nan_in_the_student_is_told_before_anything_is_written(
    build: Build, few: DataSet, tmp_path: Path
) -> None:
    student = build()
    with torch.no_grad():
        next(student.parameters())[0] = float("nan")
    with pytest.raises(CondenseError, match="a weight is not a finite number"):
        finetune(student, teacher=None, data=few, folder=tmp_path, **SHORT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        ({}, None, {"max_drop": 1}, "max_drop needs a teacher"),
        ({"classes": 5}, None, {}, "the labels go up to 9, the student has 5 classes"),
        ({}, {"classes": 12}, {}, "the student has 10 classes, the teacher 12"),
        ({}, None, {"input_size": (3, 8, 8)}, r"does not take images of \(3, 8, 8\)"),
        ({}, None, {"epoch": 3}, "there is no training option 'epoch'"),
    ],
)
def test_what_does_not_fit(
    student: dict[str, Any],
    teacher: dict[str, Any] | None,
    options: dict[str, Any],
    message: str,
    build: Build,
    few: DataSet,
) -> None:
    other = None if teacher is None else build(**teacher)
    with pytest.raises(ConfigError, match=message):
        finetune(build(**student), teacher=other, data=few, **options)


def test_models_that_are_no_classifiers(few: DataSet) -> None:
    with pytest.raises(ConfigError, match=r"returns \(2, 4, 6, 6\) for 2 images, expected logits"):
        finetune(nn.Conv2d(1, 4, 3), teacher=None, data=few)
    with pytest.raises(ConfigError, match="the model has no parameters to train"):
        finetune(nn.Flatten(), teacher=None, data=few)


def test_frozen_models_cannot_learn(build: Build, few: DataSet) -> None:
    with pytest.raises(ConfigError, match="no parameters to train") as caught:
        finetune(build().requires_grad_(False), teacher=None, data=few)
    assert caught.value.hint == "set requires_grad on those that should learn"


def test_the_origin_says_how_images_are_normalised(build: Build, few: DataSet) -> None:
    student = build()
    given = finetune(student, teacher=None, data=few, mean=(0.3,), std=(0.4,), **SHORT)
    student.origin = SimpleNamespace(input_size=(1, 8, 8), mean=[0.3], std=[0.4])
    known = finetune(student, teacher=None, data=few, **SHORT)
    plain = finetune(build(), teacher=None, data=few, **SHORT)
    weights = [r.model.state_dict()["0.weight"] for r in (given, known, plain)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_teacher_sees_its_own_normalisation(build: Build) -> None:
    pixels = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs = Inputs(input_size=(1, 8, 8), mean=(0.2,), std=(0.5,))
    own = Inputs(input_size=(1, 8, 8), mean=(0.4,), std=(0.3,))
    model = build().eval()
    teacher = Teacher(deepcopy(model), inputs, own, torch.device("cpu"))
    expected = model((pixels - 0.4) / 0.3)
    torch.testing.assert_close(teacher((pixels - 0.2) / 0.5), expected)


def test_remembered_answers_are_the_teachers(build: Build, few: DataSet) -> None:
    inputs = Inputs(input_size=(1, 8, 8))
    teacher = Teacher(build(), inputs, inputs, torch.device("cpu"))
    assert isinstance(few.train, ArraySplit)
    indices = torch.tensor([5, 3, 99])
    images = few.train.images[indices] / 255
    fresh = teacher.answer(images, indices)
    teacher.remember(few, inputs)
    torch.testing.assert_close(teacher.answer(torch.empty(0), indices), fresh)


def test_answers_that_are_too_many_are_not_remembered(
    build: Build, few: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condense.training.teacher.CACHE_BYTES", 100)
    inputs = Inputs(input_size=(1, 8, 8))
    teacher = Teacher(build(), inputs, inputs, torch.device("cpu"))
    teacher.remember(few, inputs)
    images = torch.zeros(2, 1, 8, 8)
    torch.testing.assert_close(teacher.answer(images, torch.tensor([0, 1])), teacher(images))


def test_fewer_images_than_a_batch(build: Build, few: DataSet) -> None:
    watcher = Watcher()
    options = {"epochs": 1, "batch_size": 64, "limit": 30, "progress": watcher}
    finetune(build(), teacher=None, data=few, **options)
    assert watcher.calls[:2] == [("start", 30, 0), (30, 1)]


def test_colour_images_for_a_grey_model(build: Build, few: DataSet) -> None:
    assert isinstance(few.train, ArraySplit)
    colour = ArraySplit(few.train.images.repeat(1, 3, 1, 1), few.train.labels, is_flippable=True)
    data = replace(few, train=colour, validation=colour, input_size=(1, 8, 8))
    with pytest.raises(DataError, match="the images have 3 channels, the model expects 1"):
        finetune(build(), teacher=None, data=data, **SHORT)


def test_a_config_and_single_options_go_together(build: Build, few: DataSet) -> None:
    config = TrainConfig(epochs=1, batch_size=50, lr=0.02)
    assert len(finetune(build(), teacher=None, data=few, config=config, epochs=2).history) == 2


@pytest.mark.slow
def test_compiled_training_learns_the_same(build: Build, few: DataSet) -> None:
    options: dict[str, Any] = {"teacher": None, "data": few, "epochs": 1, "batch_size": 50}
    plain = finetune(build(), lr=0.01, **options)
    compiled = finetune(build(), lr=0.01, compile=True, **options)
    assert compiled.history[0].train_loss == pytest.approx(plain.history[0].train_loss, rel=1e-3)
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())
