"""Batches: read, cropped and flipped at random, normalised; whole batches at a time.

What is drawn for a batch depends on the seed, the epoch and the batch's number only, so that
an epoch that was broken off continues as if it had not been.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn import functional as F

from condense.data.splits import Size, Split
from condense.data.stratified import generator_of
from condense.errors import ConfigError, DataError

DRAWS = 5  # uniform numbers an image: area and shape of a crop, its top and left, and the flip
Batch = tuple[Tensor, Tensor]


def batches(  # noqa: PLR0913
    split: Split,
    batch_size: int,
    *,
    input_size: Size,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: bool = False,
    shuffle_seed: int | None = None,
    epoch: int = 0,
    start: int = 0,
    device: torch.device | str = "cpu",
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Iterate over the images of a split.

    Args:
        split: What to read.
        batch_size: Images a batch. In a shuffled epoch an incomplete last batch is left out.
        input_size: (C, H, W) to deliver: grey images are repeated for three channels,
            other sizes are resized with antialiasing.
        mean: Of each channel, for pixels from 0 to 1.
        std: Of each channel.
        augment: Crop and flip at random. Needs `shuffle_seed`.
        shuffle_seed: Seed of order and augmentation; None for the order of the split.
        epoch: Each epoch has its own order.
        start: Number of the first batch to deliver.
        device: Where to.
        workers: Threads that prepare batches ahead.
        share: (rank, processes): every so-many-th image of each batch, from that one on.

    Returns:
        Pairs of normalised images, float32 (n, C, H, W), and labels, int64 (n,).

    Raises:
        DataError: If an image cannot be read or has three channels for a model with one.
        ConfigError: If `mean` or `std` do not fit the number of channels.
    """
    shift, scale = _normalisation(mean, std, input_size[0], device)
    chunks = index_batches(len(split), batch_size, shuffle_seed=shuffle_seed, epoch=epoch)
    rank, processes = share

    def make(number: int) -> Batch:
        mine = chunks[number][rank::processes]
        draws = None
        if augment:
            if shuffle_seed is None:
                raise ValueError("augmentation needs a shuffle_seed")
            draws = draws_of(shuffle_seed, epoch, number, len(chunks[number]))[rank::processes]
        images = split.read(mine, input_size, draws).to(device, non_blocking=True)
        if draws is not None:
            padding = split.padding(input_size)
            images = crop_and_flip(images, draws, padding=padding, flip=split.is_flippable)
        images = fit(images, input_size).sub_(shift).div_(scale)
        return images, split.labels[mine].to(device, non_blocking=True)

    return _ahead(make, range(start, len(chunks)), workers)


def index_batches(
    count: int, batch_size: int, *, shuffle_seed: int | None = None, epoch: int = 0
) -> tuple[Tensor, ...]:
    """Which images each batch of an epoch holds."""
    if shuffle_seed is None:
        return tuple(torch.arange(count).split(batch_size))
    order = torch.randperm(count, generator=generator_of("order", shuffle_seed, epoch))
    complete = count - count % batch_size or count
    return tuple(order[:complete].split(batch_size))


def draws_of(seed: int, epoch: int, number: int, count: int) -> Tensor:
    """The random numbers of one batch, (count, DRAWS) in [0, 1)."""
    return torch.rand(count, DRAWS, generator=generator_of("batch", seed, epoch, number))


def crop_and_flip(images: Tensor, draws: Tensor, *, padding: int, flip: bool) -> Tensor:
    """Shift each image by up to `padding` pixels each way (black comes in), and mirror half.

    Shape:
        (N, C, H, W) -> (N, C, H, W), with draws (N, DRAWS).
    """
    if padding:
        _, _, height, width = images.shape
        top, left = (draws[:, 2:4] * (2 * padding + 1)).long().to(images.device).unbind(1)
        windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(len(images), device=images.device), :, top, left]
    if flip:
        mirrored = (draws[:, 4] < 0.5).to(images.device)[:, None, None, None]
        images = torch.where(mirrored, images.flip(3), images)
    return images


def fit(images: Tensor, input_size: Size) -> Tensor:
    """Images as float32 from 0 to 1 with the channels and the size that a model expects.

    Raises:
        DataError: If they have three channels and the model has one.
    """
    channels = images.shape[1]
    if channels not in (1, input_size[0]):
        raise DataError(
            f"the images have {channels} channels, the model expects {input_size[0]}",
            hint="convert the images to grey, or use a model for colour images",
        )
    pixels = images.float().div_(255)
    if pixels.shape[2:] != input_size[1:]:
        pixels = F.interpolate(pixels, input_size[1:], mode="bilinear", antialias=True)
    if channels != input_size[0]:
        pixels = pixels.repeat(1, input_size[0], 1, 1)
    return pixels


def _normalisation(
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    channels: int,
    device: torch.device | str,
) -> tuple[Tensor, Tensor]:
    given = {"mean": mean or (0.0,) * channels, "std": std or (1.0,) * channels}
    for name, values in given.items():
        if len(values) != channels:
            raise ConfigError(
                f"{name} has {len(values)} values, the model's input has {channels} channels"
            )
    shift, scale = (torch.tensor(v, device=device).view(-1, 1, 1) for v in given.values())
    return shift, scale


def _ahead(make: Callable[[int], Batch], numbers: range, workers: int) -> Iterator[Batch]:
    if workers == 0:
        yield from map(make, numbers)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="condense-data")
    waiting: deque[Future[Batch]] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(make, number))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
