"""Cutout, dropped paths and the second head: what they do, and that a resumed run draws alike."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from condense.data import ArraySplit, DataSet
from condense.errors import ConfigError
from condense.layers import DartsCell
from condense.models.darts import DARTS_V2, DartsNetwork, darts_global
from condense.training import EpochRecord, Result, TrainConfig, finetune
from condense.training.losses import loss_of_both
from condense.training.regularizing import cut_out, set_drop_path

OPTIONS: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 8,
    "lr": 0.01,
    "cutout": 5,
    "drop_path": 0.4,
    "auxiliary_weight": 0.4,
    "clip": 5.0,
    "test": False,
}


class CrashError(Exception):
    pass


class Watch:
    """Notes the rate at which paths are dropped in each epoch; may break off at a step."""

    def __init__(self, crash_at: int = 0) -> None:
        self.left = crash_at

    def start(self, total: int, done: int) -> None:
        pass

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise CrashError

    def epoch_done(self, record: EpochRecord) -> None:
        pass

    def stop(self) -> None:
        pass


@pytest.fixture(scope="module")
def images() -> DataSet:
    """24 training and 8 validation images of 32x32, bright on the left or on the right."""

    def split(count: int) -> ArraySplit:
        generator = torch.Generator().manual_seed(count)
        labels = torch.arange(count) % 2
        pixels = torch.randint(0, 80, (count, 3, 32, 32), generator=generator)
        for image, label in zip(pixels, labels, strict=True):
            image[:, :, 16 * label : 16 * label + 16] += 150
        return ArraySplit(pixels.byte(), labels, is_flippable=False)

    return DataSet("sides", split(24), split(8), split(10), ("left", "right"), (3, 32, 32))


@pytest.fixture
def network() -> DartsNetwork:
    torch.manual_seed(0)
    return darts_global(5, 2, num_classes=2, diffusion=1.0, auxiliary=True)


def cell(drop_path: float = 0.0) -> DartsCell:
    torch.manual_seed(0)
    made = DartsCell(8, genotype=DARTS_V2)
    made.drop_path = drop_path
    return made


def test_a_square_is_cut_out_of_each_image() -> None:
    torch.manual_seed(0)
    found = cut_out(torch.ones(200, 2, 12, 9), 4)
    hidden = found == 0
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    areas = hidden[:, 0].flatten(1).sum(1)
    assert int(areas.max()) == 16
    assert 4 <= int(areas.min()) < 16, "at a corner a part lies outside"
    for mask in hidden[:, 0]:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert int(rows * columns) == int(mask.sum()), "a rectangle"
    assert hidden.any(0).all(), "every pixel is cut out of some image"


def test_nothing_is_dropped_in_eval_mode_or_at_rate_0() -> None:
    s0, s1 = torch.randn(2, 4, 8, 6, 6).unbind(0)
    torch.testing.assert_close(cell(0.9).eval()(s0, s1), cell().eval()(s0, s1))
    state = torch.get_rng_state()
    cell().train()(s0, s1)
    torch.manual_seed(0)
    assert state.shape == torch.get_rng_state().shape


def test_paths_are_dropped_image_by_image_and_scaled_up() -> None:
    made = cell(0.25).train()
    op = nn.Conv2d(8, 8, 1)
    state = torch.randn(4000, 8, 1, 1)
    torch.manual_seed(1)
    with torch.no_grad():
        found, full = made._edge(op, state), op(state)
    kept = found.abs().sum((1, 2, 3)) > 0
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(found[kept], full[kept] / 0.75)
    torch.testing.assert_close(made._edge(nn.Identity(), state), state)


def test_all_cells_hear_of_the_rate(network: DartsNetwork) -> None:
    set_drop_path(network, 0.3)
    cells = [module for module in network.modules() if isinstance(module, DartsCell)]
    assert len(cells) == 7, "two of them are init blocks of Global layers"
    assert {cell.drop_path for cell in cells} == {0.3}


def test_the_second_heads_loss_has_its_weight() -> None:
    labels = torch.tensor([0, 2])
    first, second = torch.randn(2, 2, 3).unbind(0)
    config = TrainConfig(auxiliary_weight=0.4)
    expected = F.cross_entropy(first, labels) + 0.4 * F.cross_entropy(second, labels)
    torch.testing.assert_close(loss_of_both((first, second), None, labels, config), expected)
    alone = loss_of_both(first, None, labels, config)
    torch.testing.assert_close(alone, F.cross_entropy(first, labels))


def test_the_rate_rises_with_the_epochs(
    network: DartsNetwork, images: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(
        "condense.training.loop.set_drop_path", lambda _, rate: seen.append(round(rate, 4))
    )
    finetune(network, teacher=None, data=images, **OPTIONS)
    assert seen == [0, 0.1333, 0.2667]


def test_the_second_head_learns(network: DartsNetwork, images: DataSet) -> None:
    before = deepcopy(network.auxiliary_head)
    assert before is not None
    result = finetune(network, teacher=None, data=images, **OPTIONS)
    head = result.model.auxiliary_head
    assert isinstance(head, nn.Module)
    changed = zip(before.parameters(), head.parameters(), strict=True)
    assert all(not torch.equal(one, other) for one, other in changed)
    assert isinstance(result.model(torch.zeros(2, 3, 32, 32)), torch.Tensor)


@pytest.mark.parametrize("step", [2, 4])
def test_a_resumed_training_draws_as_one_that_was_not_killed(
    step: int, network: DartsNetwork, images: DataSet, tmp_path: Path
) -> None:
    def start(**more: Any) -> Result:
        return finetune(network, teacher=None, data=images, **OPTIONS, **more)

    whole = start()
    with pytest.raises(CrashError):
        start(folder=tmp_path, save_every_s=0, progress=Watch(step))
    torch.manual_seed(99)
    resumed = start(folder=tmp_path, save_every_s=0, resume=True)
    torch.testing.assert_close(
        dict(resumed.model.state_dict()), dict(whole.model.state_dict()), atol=0, rtol=0
    )
    losses = [[record.train_loss for record in result.history] for result in (whole, resumed)]
    assert losses[0] == losses[1]


def test_each_of_them_changes_the_training(network: DartsNetwork, images: DataSet) -> None:
    options = OPTIONS | {"epochs": 2}
    losses = set()
    for off in ({}, {"cutout": 0}, {"drop_path": 0.0}, {"auxiliary_weight": 0.0}):
        result = finetune(network, teacher=None, data=images, **(options | off))
        losses.add(result.history[-1].train_loss)
    assert len(losses) == 4


def test_what_a_network_lacks_is_told(images: DataSet) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2))
    with pytest.raises(ConfigError, match=r"drop_path is 0\.4, but the network has no DARTS cells"):
        finetune(plain, teacher=None, data=images, drop_path=0.4)
    with pytest.raises(ConfigError, match="has no second head in training"):
        finetune(plain, teacher=None, data=images, auxiliary_weight=0.4)


def test_a_second_head_for_another_size_is_told(network: DartsNetwork, images: DataSet) -> None:
    with pytest.raises(ConfigError, match=r"second head does not take images of \(3, 16, 16\)"):
        finetune(network, teacher=None, data=images, input_size=(3, 16, 16), **OPTIONS)
