"""Multiply–accumulates as the installed thop prints them, to recognise figures quoted elsewhere."""

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from copy import deepcopy

import thop
from torch import nn

from condense.measurement.observe import evaluating, random_images


def count_macs_thop(model: nn.Module, input_size: Sequence[int]) -> int:
    """Multiply–accumulates of one image by the installed thop's own rules.

    Args:
        model: Copied; thop leaves buffers behind in what it counts.
        input_size: (C, H, W).
    """
    copy = deepcopy(model)
    image = random_images(model, input_size)
    with evaluating(copy), _silence():
        total, _ = thop.profile(copy, inputs=(image,), verbose=False)
    return int(total)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what thop prints, and without what it logs on the root logger."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)
