"""What the training loop adds to the arithmetic that it is there for.

The real loop runs (reading, augmentation, teacher, loss, optimizer, logging); after each of its
steps the bare one runs on copies: the teacher forward, the student forward and backward, on one
batch that was prepared alike. So the two take turns on the same machine in the same minute.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from condense.analysis import analyze
from condense.conversion import convert
from condense.data import ArraySplit, DataSet, Size, batches, load
from condense.errors import ConfigError
from condense.measurement import Timing, environment, ratio_interval
from condense.models import MODELS, create
from condense.training.config import TrainConfig
from condense.training.finetuning import finetune
from condense.training.loop import LOOK_EVERY
from condense.training.losses import loss_of
from condense.training.progress import EpochRecord

WARM_UP = 2
"""Steps that are not counted; on a GPU those up to the first look at the loss."""

CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBench:
    """A step of the loop beside a bare one.

    Args:
        subject: What was trained on what.
        batch_size: Images a step.
        threads: Processor threads.
        device: Where.
        loop: Samples of the real step.
        bare: Samples of teacher forward, student forward and backward.
        optimizer: Samples of the optimizer's step, a part of the loop's.
    """

    subject: str
    batch_size: int
    threads: int
    device: str
    loop: Timing
    bare: Timing
    optimizer: Timing

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `overhead` is what the loop adds, as a share of the bare step."""
        ratio = ratio_interval(self.loop, self.bare)
        parts = {"loop": self.loop, "bare": self.bare, "optimizer": self.optimizer}
        return {
            "kind": "loop",
            "subject": self.subject,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "device": self.device,
            "steps": len(self.loop.samples),
            **{
                name: {"median_ms": timing.median_ms, "iqr_ms": timing.iqr_ms}
                for name, timing in parts.items()
            },
            "ratio": list(ratio),
            "overhead": ratio[1] - 1,
            "environment": environment(),
        }


def bench_condensing(
    arch: str,
    *,
    data: str | None = None,
    batch_size: int = 128,
    steps: int = 10,
    device: torch.device | str = "cpu",
) -> LoopBench:
    """`bench_loop` of a network of `condense.models`, and of that network converted.

    Args:
        arch: Its name.
        data: As for `bench_loop`.
        batch_size: Images a step.
        steps: Steps that are timed.
        device: Where.
    """
    size = MODELS[arch].input_size
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        teacher = create(arch)
    student = convert(teacher, analyze(teacher, size))
    found = bench_loop(
        student,
        teacher,
        data=data,
        input_size=size,
        batch_size=batch_size,
        steps=steps,
        device=device,
    )
    return replace(found, subject=f"{arch}, converted: {found.subject}")


def bench_loop(  # noqa: PLR0913 - what is trained on what, and how
    student: nn.Module,
    teacher: nn.Module,
    *,
    data: str | None = None,
    input_size: Size = (3, 32, 32),
    batch_size: int = 128,
    steps: int = 10,
    device: torch.device | str = "cpu",
) -> LoopBench:
    """Time steps of `finetune` against bare forward and backward of the same networks.

    Args:
        student: Left as it is.
        teacher: Left as it is.
        data: A spec; by default random images like CIFAR-10's.
        input_size: (C, H, W).
        batch_size: Images a step.
        steps: Steps that are timed.
        device: Where.

    Raises:
        ConfigError: If `steps` < 1, or there are too few images.
    """
    if steps < 1 or batch_size < 2:
        raise ConfigError(
            f"the loop needs at least 1 step of 2 images, got {steps} of {batch_size}"
        )
    warm_up = LOOK_EVERY if torch.device(device).type == "cuda" else WARM_UP
    needed = batch_size * (steps + warm_up)
    images = random_data(needed, input_size) if data is None else load(data, input_size=input_size)
    if len(images.train) < needed:
        raise ConfigError(
            f"{images.name} has {len(images.train)} training images, {needed} are needed",
            hint="fewer --steps or a smaller --batch-size",
        )
    config = TrainConfig(epochs=1, batch_size=batch_size, lr=1e-3, limit=needed)
    watch = _Watch(_Bare(student, teacher, images, config, torch.device(device)))
    finetune(
        student,
        teacher=teacher,
        data=images,
        config=config,
        input_size=input_size,
        test=False,
        device=device,
        progress=watch,
    )
    return LoopBench(
        subject=f"training on {images.name}",
        batch_size=batch_size,
        threads=torch.get_num_threads(),
        device=str(device),
        loop=Timing(tuple(watch.loop[warm_up:])),
        bare=Timing(tuple(watch.bare[warm_up:])),
        optimizer=Timing(tuple(watch.optimizer[warm_up:])),
    )


def random_data(count: int, input_size: Size, seed: int = 0) -> DataSet:
    """Noise with random labels; as many training images as asked for, and a few others."""
    generator = torch.Generator().manual_seed(seed)

    def split(images: int) -> ArraySplit:
        shape = (images, *input_size)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, CLASSES, (images,), generator=generator)
        return ArraySplit(pixels, labels, is_flippable=True)

    classes = tuple(map(str, range(CLASSES)))
    return DataSet("random images", split(count), split(16), split(16), classes, input_size)


class _Bare:
    """The arithmetic of a step on copies of the networks, and nothing else."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        data: DataSet,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        self.student = deepcopy(student).to(device).train()
        self.teacher = deepcopy(teacher).to(device).eval().requires_grad_(requires_grad=False)
        self.config, self.device = config, device
        prepared = batches(
            data.train,
            config.batch_size,
            augment=config.augment,
            shuffle_seed=config.seed,
            input_size=data.input_size,
            device=device,
        )
        self.images, self.labels = next(prepared)
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=1e-6, momentum=0.9)

    def step(self) -> None:
        with torch.no_grad():
            answers: Tensor = self.teacher(self.images)
        loss_of(self.student(self.images), answers, self.labels, self.config).backward()

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def seconds(self, run: Callable[[], None]) -> float:
        self.wait()
        begun = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - begun

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class _Watch:
    """Watches a training, and runs the bare step between two of its steps."""

    def __init__(self, bare: _Bare) -> None:
        self._bare = bare
        self._batch_size = bare.config.batch_size
        self.loop: list[float] = []
        self.bare: list[float] = []
        self.optimizer: list[float] = []
        self._begun = 0.0

    def start(self, total: int, done: int) -> None:
        """Look at the clock."""
        self._begun = time.perf_counter()

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        """Note how long the steps took, and run as many bare ones."""
        self._bare.wait()
        seconds, steps = time.perf_counter() - self._begun, images // self._batch_size
        self.loop += steps * [1000 * seconds / steps]
        for _ in range(steps):
            self.bare.append(1000 * self._bare.seconds(self._bare.step))
            self.optimizer.append(1000 * self._bare.seconds(self._bare.update))
        self._begun = time.perf_counter()

    def epoch_done(self, record: EpochRecord) -> None:
        """Nothing: the held-out images are no part of a step."""

    def stop(self) -> None:
        """Nothing is left to do."""
