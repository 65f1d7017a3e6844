"""Random numbers and random orders that depend on named seeds only."""

import hashlib

import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """One seed from several, equal on every machine: `seed_of("order", seed, epoch)`."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_of(*parts: int | str) -> torch.Generator:
    """A generator on the CPU, seeded by `seed_of`."""
    return torch.Generator().manual_seed(seed_of(*parts))


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """A random order of the images, each beginning of which has the classes in proportion.

    The r-th image of a class with n images (in random order) is placed at (r + 1/2) / n.
    """
    shuffled = torch.randperm(len(labels), generator=generator_of("stratified", seed))
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    counts = torch.bincount(labels)
    first = counts.cumsum(0) - counts
    own = labels[by_class]
    place = (torch.arange(len(labels)) - first[own] + 0.5) / counts[own]
    mixed = torch.randperm(len(labels), generator=generator_of("ties", seed))
    return by_class[mixed][torch.argsort(place[mixed], stable=True)]


def hold_out(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the images to train on, and of `count` to hold out, both ascending."""
    order = stratified_order(labels, seed)
    return torch.sort(order[count:]).values, torch.sort(order[:count]).values
