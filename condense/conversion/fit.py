"""A better start for new layers: fit each to what the blocks did that it replaces.

The original runs on given images; what goes into the removed blocks of a stage and what comes out
of them is recorded, and the new layer is trained on these pairs alone, by least squares. Nothing
else moves.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.conversion.plan import Plan, Replacement
from condense.data import batches, load
from condense.errors import ConfigError, DataError
from condense.measurement.observe import evaluating

IMAGES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """How new layers are fitted.

    Args:
        steps: Of Adam, for each stage.
        batch_size: Maps in each step.
        lr: Adam's first step size; it falls to nothing along a cosine.
        seed: Of the order of the images.
    """

    steps: int = 100
    batch_size: int = 32
    lr: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.lr <= 0:
            raise ConfigError(
                "fitting needs steps >= 1, batch_size >= 1 and lr > 0, got "
                f"{self.steps}, {self.batch_size} and {self.lr}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well a new layer does what the blocks did that it replaced.

    Args:
        stage: Its stage.
        before: Mean squared error over the images, relative to the blocks' mean squared output.
        after: The same after fitting; a layer that only got worse is put back as it was.
    """

    stage: str
    before: float
    after: float


def fit(
    student: nn.Module, teacher: nn.Module, images: Tensor, options: FitOptions | None = None
) -> tuple[Fit, ...]:
    """Train the new layers of `student`, in place, to do what the removed blocks of `teacher` did.

    Args:
        student: From `apply`; only its new layers change.
        teacher: The original; left as it was.
        images: Normalised as the teacher expects.
        options: Steps, step size, seed.

    Shape:
        images (N, C, H, W).

    Raises:
        ConfigError: If `student` has no plan with new layers.
    """
    plan = getattr(student, "plan", None)
    if not isinstance(plan, Plan) or plan.control:
        raise ConfigError(
            "there are no new layers to fit: the model has not been converted, or is a control",
            hint="convert it first",
        )
    if not len(images):
        raise DataError("fitting needs at least one image, got none")
    options = options or FitOptions()
    return tuple(_fit_one(student, teacher, images, item, options) for item in plan.replacements)


def fit_to(student: nn.Module, teacher: nn.Module, data: str, *, seed: int = 0) -> tuple[Fit, ...]:
    """`fit` on training images of a data set, prepared as the teacher expects.

    Args:
        student: From `apply`; only its new layers change.
        teacher: The original, whose `origin` says how its images are normalised.
        data: A data spec, as `condense.data.load` takes it.
        seed: Of the choice and the order of the images.
    """
    origin = getattr(teacher, "origin", None)
    plan = getattr(student, "plan", None)
    size = plan.input_size if isinstance(plan, Plan) else None
    found = load(data, input_size=size, limit=IMAGES, seed=seed)
    chosen = batches(
        found.train,
        IMAGES,
        input_size=size or found.input_size,
        mean=getattr(origin, "mean", None),
        std=getattr(origin, "std", None),
    )
    images = torch.cat([batch[0] for batch in chosen])[:IMAGES]
    return fit(student, teacher, images, FitOptions(seed=seed))


def _fit_one(
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    item: Replacement,
    options: FitOptions,
) -> Fit:
    sources, targets = _record(teacher, images, item.blocks, options.batch_size)
    layer = student.get_submodule(item.blocks[0])
    modes = {module: module.training for module in layer.modules()}
    before, drawn = _error(layer, sources, targets), deepcopy(layer.state_dict())
    layer.train()
    generator = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.Adam(layer.parameters(), lr=options.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    for _ in range(options.steps):
        chosen = torch.randperm(len(sources), generator=generator)[: options.batch_size]
        optimizer.zero_grad()
        F.mse_loss(layer(sources[chosen]), targets[chosen]).backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
    for module, training in modes.items():
        module.training = training
    after = _error(layer, sources, targets)
    if not after < before:
        layer.load_state_dict(drawn)
    return Fit(stage=item.stage, before=before, after=min(before, after))


def _record(
    teacher: nn.Module, images: Tensor, blocks: Sequence[str], batch_size: int
) -> tuple[Tensor, Tensor]:
    """What the teacher feeds to the first of the blocks, and what the last one gives."""
    sources: list[Tensor] = []
    targets: list[Tensor] = []
    first, last = teacher.get_submodule(blocks[0]), teacher.get_submodule(blocks[-1])
    with evaluating(teacher), _taps(first, last, sources, targets):
        for batch in images.split(batch_size):
            teacher(batch)
    return torch.cat(sources), torch.cat(targets)


@contextmanager
def _taps(
    first: nn.Module, last: nn.Module, sources: list[Tensor], targets: list[Tensor]
) -> Iterator[None]:
    """Copies, as whatever runs next may write in place."""

    def keep_input(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        del module
        sources.append(inputs[0].clone())

    def keep_output(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        del module, inputs
        targets.append(output.clone())

    handles = [
        first.register_forward_pre_hook(keep_input),
        last.register_forward_hook(keep_output),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _error(layer: nn.Module, sources: Tensor, targets: Tensor) -> float:
    with evaluating(layer):
        return float(F.mse_loss(layer(sources), targets) / targets.square().mean())
