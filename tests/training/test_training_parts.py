"""Losses, learning rates, averages, options: each against a formula written out."""

import math
import signal
import threading
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from condense.errors import ConfigError
from condense.training import Interrupted, TrainConfig
from condense.training.config import Schedule
from condense.training.interrupts import stop_requests
from condense.training.losses import distillation, loss_of
from condense.training.optimizing import Average, optimizer_for, precision
from condense.training.schedule import learning_rate


def logits(seed: int, shape: tuple[int, int] = (5, 4)) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


@given(seed=st.integers(0, 100), temperature=st.floats(0.5, 10))
def test_distillation_by_hand(seed: int, temperature: float) -> None:
    student, teacher = logits(seed), logits(seed + 1000)
    total = 0.0
    for found, wanted in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = softmax(wanted, temperature), softmax(found, temperature)
        total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
    expected = temperature**2 * total / len(student)
    torch.testing.assert_close(
        distillation(student, teacher, temperature), torch.tensor(expected).double()
    )


def test_distillation_vanishes_at_the_teacher_only() -> None:
    teacher = logits(0)
    assert float(distillation(teacher + 7, teacher, 4.0)) == pytest.approx(0, abs=1e-12)
    assert float(distillation(teacher.flip(1), teacher, 4.0)) > 0.1


def test_the_gradient_keeps_its_size_at_high_temperatures() -> None:
    """For T → ∞ it tends to (s - t) / (classes · N), for centred logits."""
    student, teacher = (x - x.mean(1, keepdim=True) for x in (logits(1), logits(2)))
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation(student, teacher, 1e4), student)
    torch.testing.assert_close(gradient, (student - teacher) / 20, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_by_hand(weight: float) -> None:
    config = TrainConfig(teacher_weight=weight, temperature=2, label_smoothing=0.1)
    student, teacher = logits(3).float(), logits(4).float()
    labels = torch.tensor([0, 3, 1, 1, 2])
    logs = student.log_softmax(1)
    truth = -(0.9 * logs[range(5), labels] + 0.1 * logs.mean(1)).mean()
    expected = weight * distillation(student, teacher, 2) + (1 - weight) * truth
    torch.testing.assert_close(loss_of(student, teacher, labels, config), expected)
    torch.testing.assert_close(loss_of(student, None, labels, config), truth)


@pytest.mark.parametrize("warmup", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("total", [20, 97])
def test_one_cycle_is_torchs(total: int, warmup: float) -> None:
    config = TrainConfig(lr=0.4, warmup=warmup)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.4, total_steps=total, pct_start=warmup, cycle_momentum=False
    )
    expected = []
    for _ in range(total):
        expected += scheduler.get_last_lr()
        optimizer.step()
        if len(expected) < total:
            scheduler.step()
    found = [learning_rate(step, total, config) for step in range(total)]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("schedule", get_args(Schedule))
@given(total=st.integers(1, 300), warmup=st.floats(0, 0.9))
def test_rates_rise_to_lr_and_fall(schedule: Schedule, total: int, warmup: float) -> None:
    milestones = (0.3, 0.8) if schedule == "step" else ()
    config = TrainConfig(lr=0.1, schedule=schedule, warmup=warmup, milestones=milestones)
    rates = [learning_rate(step, total, config) for step in range(total)]
    assert all(0 <= rate <= 0.1 + 1e-12 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_cosine_begins_and_ends_near_nothing() -> None:
    config = TrainConfig(lr=0.1, schedule="cosine", warmup=0.1)
    assert learning_rate(0, 1000, config) == pytest.approx(0.001)
    assert learning_rate(99, 1000, config) == pytest.approx(0.1)
    assert learning_rate(999, 1000, config) < 1e-6


def test_vectors_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    decaying, free = optimizer_for(model, TrainConfig(weight_decay=0.01)).param_groups
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.01, 0)
    assert [p.ndim for p in decaying["params"]] == [4, 2]
    assert [p.ndim for p in free["params"]] == [1, 1, 1, 1]
    assert decaying["nesterov"]


def test_momentum_can_be_left_out() -> None:
    (group, _) = optimizer_for(nn.Linear(1, 1), TrainConfig(momentum=0)).param_groups
    assert not group["nesterov"]


def test_the_average_by_hand() -> None:
    model = nn.BatchNorm1d(1)
    average = Average(model, decay=0.5)
    expected = 1.0
    for step in range(12):
        nn.init.constant_(model.weight, step)
        model.num_batches_tracked.fill_(step)
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(average.model.weight) == pytest.approx(expected)
    assert int(average.model.num_batches_tracked) == 11
    assert model.weight.requires_grad


def test_processors_calculate_in_bfloat16() -> None:
    assert precision(torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": 0.0}, r"lr must be above 0, got 0\.0"),
        ({"lr": math.inf}, "lr must be above 0, got inf"),
        ({"lr": math.nan}, "lr must be above 0, got nan"),
        ({"temperature": -1}, "temperature must be above 0"),
        ({"momentum": 1}, r"momentum must be in \[0, 1\), got 1"),
        ({"teacher_weight": 1.5}, r"teacher_weight must be in \[0, 1\], got 1\.5"),
        ({"clip": 0}, "clip must be above 0"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"max_drop": -1}, "max_drop must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"schedule": "linear"}, "schedule must be one of onecycle, cosine, step, got 'linear'"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**options)


def test_options_round_trip_and_unknown_ones() -> None:
    config = TrainConfig(lr=0.3, schedule="cosine", max_drop=0.5)
    assert TrainConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="there is no training option 'epoch'") as caught:
        TrainConfig.from_dict({"epoch": 3})
    assert caught.value.hint == "did you mean 'epochs'?"


def test_a_second_signal_breaks_off_at_once() -> None:
    with pytest.raises(Interrupted) as caught, stop_requests() as request:  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        assert request.number == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 143


def test_other_threads_leave_signals_alone() -> None:
    found = []

    def watch() -> None:
        with stop_requests() as request:
            found.append(request.number)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert found == [0]
    assert signal.getsignal(signal.SIGINT) is before
