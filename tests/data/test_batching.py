"""Batches: order, augmentation, normalisation, resizing."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from condense.data import ArraySplit, batches, index_batches, load
from condense.data.batching import DRAWS, crop_and_flip, draws_of, fit
from condense.data.stratified import stratified_order
from condense.errors import ConfigError, DataError

SIZE = (3, 8, 8)
seeds = st.integers(0, 1000)


@pytest.fixture
def split() -> ArraySplit:
    images = torch.randint(256, (50, *SIZE), generator=torch.Generator().manual_seed(0))
    return ArraySplit(images.to(torch.uint8), torch.arange(50) % 5, is_flippable=True)


def test_in_order_every_image_comes_once(split: ArraySplit) -> None:
    found = list(batches(split, 16, input_size=SIZE))
    assert [len(labels) for _, labels in found] == [16, 16, 16, 2]
    torch.testing.assert_close(torch.cat([x for x, _ in found]), split.images / 255)
    assert torch.equal(torch.cat([y for _, y in found]), split.labels)


@given(count=st.integers(1, 60), size=st.integers(1, 20), seed=seeds, epoch=st.integers(0, 3))
def test_a_shuffled_epoch_has_whole_batches_without_repeats(
    count: int, size: int, seed: int, epoch: int
) -> None:
    chunks = index_batches(count, size, shuffle_seed=seed, epoch=epoch)
    flat = torch.cat(chunks).tolist()
    assert len(set(flat)) == len(flat) == (count - count % size or count)
    assert all(len(chunk) == min(size, count) for chunk in chunks)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_continues_as_if_it_had_not_been_broken_off(
    split: ArraySplit, workers: int
) -> None:
    def epoch(start: int, threads: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        feed = batches(
            split,
            8,
            input_size=SIZE,
            augment=True,
            shuffle_seed=7,
            epoch=2,
            start=start,
            workers=threads,
        )
        return list(feed)

    whole, rest = epoch(0, 0), epoch(2, workers)
    assert len(rest) == len(whole) - 2 == 4
    for (x, y), (x2, y2) in zip(whole[2:], rest, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_epochs_and_seeds_differ(split: ArraySplit) -> None:
    orders = {
        tuple(torch.cat(index_batches(50, 10, shuffle_seed=seed, epoch=epoch)).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_shares_of_a_batch_make_up_the_batch(split: ArraySplit) -> None:
    def feed(share: tuple[int, int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        options = {"input_size": SIZE, "augment": True, "shuffle_seed": 1}
        return list(batches(split, 8, share=share, **options))

    whole = feed((0, 1))
    for number, (x, _) in enumerate(whole):
        for rank in (0, 1):
            assert torch.equal(feed((rank, 2))[number][0], x[rank::2])


@given(seed=seeds, padding=st.integers(0, 3), flip=st.booleans())
def test_each_augmented_image_is_a_window_of_its_padded_self(
    seed: int, padding: int, flip: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 256, (6, 2, 5, 7), generator=generator).to(torch.uint8)
    draws = draws_of(seed, 0, 0, 6)
    found = crop_and_flip(images, draws, padding=padding, flip=flip)
    assert found.shape == images.shape
    for image, result in zip(images, found, strict=True):
        padded = F.pad(image, [padding] * 4)
        windows = [
            padded[:, top : top + 5, left : left + 7]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
        windows += [window.flip(2) for window in windows] if flip else []
        assert any(torch.equal(result, window) for window in windows)


def test_all_shifts_and_both_sides_occur() -> None:
    draws = draws_of(0, 0, 0, 4000)
    image = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    image[..., 1, 1] = 1
    found = crop_and_flip(image.expand(4000, -1, -1, -1), draws, padding=1, flip=False)
    share = found.float().mean(0)
    torch.testing.assert_close(share, torch.full((1, 3, 3), 1 / 9), atol=0.02, rtol=0)
    edge = torch.tensor([[[[1, 0]]]], dtype=torch.uint8).expand(4000, -1, -1, -1)
    flipped = crop_and_flip(edge, draws, padding=0, flip=True)[:, 0, 0, 1].float().mean()
    assert abs(float(flipped) - 0.5) < 0.03


def test_draws_are_uniform_numbers() -> None:
    draws = draws_of(3, 1, 4, 7)
    assert draws.shape == (7, DRAWS)
    assert torch.equal(draws, draws_of(3, 1, 4, 7))
    assert not torch.equal(draws, draws_of(3, 1, 5, 7))


def test_normalisation_by_hand(split: ArraySplit) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    images, _ = next(batches(split, 50, input_size=SIZE, mean=mean, std=std))
    for channel in range(3):
        by_hand = (split.images[:, channel] / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(images[:, channel], by_hand)


def test_the_split_is_never_written_to(split: ArraySplit) -> None:
    before = split.images.clone()
    list(batches(split, 8, input_size=SIZE, mean=(0.5,) * 3, augment=True, shuffle_seed=0))
    assert torch.equal(split.images, before)


def test_wrong_statistics_and_channels(split: ArraySplit) -> None:
    with pytest.raises(ConfigError, match="mean has 1 values, the model's input has 3 channels"):
        batches(split, 8, input_size=SIZE, mean=(0.5,))
    with pytest.raises(DataError, match="the images have 3 channels, the model expects 1"):
        next(batches(split, 8, input_size=(1, 8, 8)))
    with pytest.raises(ValueError, match="augmentation needs a shuffle_seed"):
        next(batches(split, 8, input_size=SIZE, augment=True))


def test_resizing_keeps_a_constant_image() -> None:
    images = torch.full((1, 1, 28, 28), 51, dtype=torch.uint8)
    torch.testing.assert_close(fit(images, (3, 32, 32)), torch.full((1, 3, 32, 32), 0.2))


@given(seed=seeds, sizes=st.lists(st.integers(1, 30), min_size=2, max_size=4))
def test_every_beginning_of_a_stratified_order_has_the_classes_in_proportion(
    seed: int, sizes: list[int]
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = stratified_order(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    for count in range(1, len(labels) + 1):
        found = torch.bincount(labels[order[:count]], minlength=len(sizes))
        expected = torch.tensor(sizes) * count / len(labels)
        assert (found - expected).abs().max() <= len(sizes) / 2


def test_large_images_are_cut_as_torchvision_does(tmp_path: Path) -> None:
    from PIL import Image
    from torchvision.transforms import v2

    size, shape = 128, (150, 201, 3)
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(1)).byte().numpy()
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(6):
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    data = load(str(tmp_path), input_size=(3, size, size))
    images, _ = next(batches(data.test, 2, input_size=data.input_size))
    steps = [v2.Resize(146), v2.CenterCrop(size), v2.PILToTensor()]
    expected = v2.Compose(steps)(Image.fromarray(pixels))
    torch.testing.assert_close(images[0], expected / 255)
    options = {"input_size": data.input_size, "augment": True, "shuffle_seed": 0}
    first, again = (next(batches(data.train, 4, **options))[0] for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (4, 3, size, size)
    assert not torch.equal(first[0], first[1])


def test_grey_models_read_folders_in_grey(image_folder: Path) -> None:
    data = load(str(image_folder), input_size=(1, 8, 8))
    options = {"input_size": (1, 8, 8), "augment": True, "shuffle_seed": 0}
    images, _ = next(batches(data.train, 4, **options))
    assert images.shape == (4, 1, 8, 8)


def test_fingerprints_notice_changes(split: ArraySplit, image_folder: Path) -> None:
    assert split.fingerprint() != split.take(torch.arange(49)).fingerprint()
    before = load(str(image_folder)).fingerprint()
    assert before == load(str(image_folder)).fingerprint()
    (image_folder / "train" / "cat" / "00.png").unlink()
    assert before != load(str(image_folder)).fingerprint()
