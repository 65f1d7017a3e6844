"""The training loop: steps, judgements, and a place to stop between any two of them."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condense.data import DataSet, Split, batches, index_batches, seed_of
from condense.errors import CondenseError
from condense.training.config import TrainConfig
from condense.training.inputs import Inputs
from condense.training.interrupts import Interrupted, StopRequest, stop_requests
from condense.training.losses import loss_of_both
from condense.training.optimizing import Average, optimizer_for, precision
from condense.training.processes import Processes
from condense.training.progress import EpochRecord, Progress
from condense.training.regularizing import cut_out, set_drop_path
from condense.training.schedule import learning_rate
from condense.training.state import Best, Position, Store
from condense.training.teacher import Teacher

LOOK_EVERY = 20  # steps between two looks at the loss on a GPU, which has to wait for them
NOT_FINITE = 1_000  # beyond all signal numbers


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is to be done, and by whom."""

    data: DataSet
    inputs: Inputs
    config: TrainConfig
    processes: Processes


class Loop:
    """A training under way.

    Args:
        task: What is to be done.
        model: Trained in place.
        teacher: To imitate, or None.
        store: Where the state is kept.
        progress: Who watches.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        teacher: Teacher | None,
        store: Store,
        progress: Progress,
    ) -> None:
        config, device = task.config, task.processes.device
        self.task, self.model, self.teacher = task, model, teacher
        self.store, self.progress = store, progress
        self.average = Average(model, config.ema_decay) if config.ema else None
        self.optimizer = optimizer_for(model, config)
        self.dtype = precision(device)
        is_scaled = config.amp and self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=is_scaled)
        wrapped = task.processes.wrapped(model)
        self.forward = torch.compile(wrapped) if config.compile else wrapped
        self.steps = max(len(task.data.train) // config.batch_size, 1)
        self.batch_size = min(config.batch_size, len(task.data.train))
        self.position = Position()
        self.best: Best | None = None
        self._loss_sum = torch.zeros(())
        self._shown = 0
        self._clock = self._saved_at = time.monotonic()
        self._request = StopRequest()

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.position = Position(**saved["position"])
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        if self.average is not None:
            self.average.model.load_state_dict(saved["average"])
        if self.position.history:
            self.best = self.store.read_best()

    def run(self) -> None:
        """Train to the end; `best` is the result.

        Raises:
            CondenseError: If the loss or a weight is no longer a number.
            Interrupted: If somebody asked to stop; all that was learnt is saved.
        """
        with stop_requests() as self._request, self._shown_progress():
            self._save()
            if self.teacher is not None and self.position.reference is None:
                self.position.reference = self._top1(self.teacher)
            while not self.position.is_finished:
                self._learn()
                self._judge()

    @contextmanager
    def _shown_progress(self) -> Iterator[None]:
        total, done = self.steps * self.task.config.epochs, self._steps_done()
        self._shown = done
        self.progress.start(total * self.batch_size, done * self.batch_size)
        try:
            yield
        finally:
            self.progress.stop()

    def _learn(self) -> None:
        position, config = self.position, self.task.config
        rank, count = self.task.processes.share
        look_every = 1 if self.task.processes.device.type == "cpu" else LOOK_EVERY
        self.model.train()
        set_drop_path(self.model, config.drop_path * position.epoch / config.epochs)
        self._loss_sum = torch.tensor(position.loss_sum, device=self.task.processes.device)
        self._clock = time.monotonic()
        seed = config.seed
        chunks = index_batches(
            len(self.task.data.train), config.batch_size, shuffle_seed=seed, epoch=position.epoch
        )
        for images, labels in self._batches(self.task.data.train, start=position.batch, seed=seed):
            self._step(images, labels, chunks[position.batch][rank::count])
            position.batch += 1
            if position.batch % look_every == 0 or position.batch == self.steps:
                self._look()

    def _step(self, images: Tensor, labels: Tensor, indices: Tensor) -> None:
        config, processes = self.task.config, self.task.processes
        _seed(config.seed, self.position.epoch, self.position.batch, processes.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        if config.cutout:
            images = cut_out(images, config.cutout)
        with self._autocast():
            answers = None
            if self.teacher is not None and config.teacher_weight > 0:
                answers = self.teacher.answer(images, indices)
            outputs = self.forward(images)
        loss = loss_of_both(outputs, answers, labels, config)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if config.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model, self._steps_done())
        self._loss_sum += loss.detach()

    def _look(self) -> None:
        """Note the loss, and stop or save if it is time to."""
        position, config = self.position, self.task.config
        position.loss_sum = float(self._loss_sum)
        is_finite = np.isfinite(position.loss_sum)
        number = self.task.processes.any_of(self._request.number if is_finite else NOT_FINITE)
        if number == NOT_FINITE:
            raise self._diverged("the loss")
        now = time.monotonic()
        position.seconds += now - self._clock
        self._clock = now
        mean = position.loss_sum / position.batch
        new, self._shown = self._steps_done() - self._shown, self._steps_done()
        rate = self.optimizer.param_groups[0]["lr"]
        self.progress.advance(new * self.batch_size, epoch=position.epoch + 1, loss=mean, lr=rate)
        if number:
            self._save()
            raise Interrupted(number)
        if now - self._saved_at >= config.save_every_s:
            self._save()

    def _judge(self) -> None:
        """Measure the held-out accuracy, note the epoch, and keep it if it is the best."""
        position, config = self.position, self.task.config
        judged = self.model if self.average is None else self.average.model
        self._check_weights()
        self.task.processes.agree(judged)
        judged.eval()
        top1 = self._top1(judged)
        record = EpochRecord(
            epoch=position.epoch + 1,
            train_loss=position.loss_sum / self.steps,
            val_top1=top1,
            lr=self.optimizer.param_groups[0]["lr"],
            seconds=position.seconds,
            images_per_s=self.steps * self.batch_size / max(position.seconds, 1e-9),
        )
        if self.best is None or top1 > self.best.val_top1:
            weights = {k: v.detach().cpu().clone() for k, v in judged.state_dict().items()}
            self.best = Best(record.epoch, top1, weights)
            self.store.write_best(self.best)
        history = [*position.history, record.to_dict()]
        is_finished = record.epoch == config.epochs or self.is_met(top1) is True
        self.position = Position(
            record.epoch, reference=position.reference, is_finished=is_finished, history=history
        )
        self._save()
        self.progress.epoch_done(record)

    def is_met(self, top1: float) -> bool | None:
        """Whether an accuracy is within `max_drop` of the teacher's; None if none was asked for."""
        max_drop, reference = self.task.config.max_drop, self.position.reference
        if max_drop is None or reference is None:
            return None
        return top1 >= reference - max_drop / 100 - 1e-9

    @torch.no_grad()
    def _top1(self, model: Callable[[Tensor], Tensor]) -> float:
        processes, split = self.task.processes, self.task.data.validation
        right = torch.zeros((), dtype=torch.long, device=processes.device)
        for images, labels in self._batches(split):
            with self._autocast():
                right += (model(images).argmax(1) == labels).sum()
            if processes.count == 1 and self._request.number:
                self._save()
                raise Interrupted(self._request.number)
        return int(processes.total(right)) / len(split)

    def _batches(
        self, split: Split, *, start: int = 0, seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        config, processes = self.task.config, self.task.processes
        return batches(
            split,
            config.batch_size,
            augment=config.augment and seed is not None,
            shuffle_seed=seed,
            epoch=self.position.epoch,
            start=start,
            device=processes.device,
            workers=config.workers,
            share=processes.share,
            **self.task.inputs.to_dict(),
        )

    def _autocast(self) -> torch.autocast:
        device = self.task.processes.device.type
        return torch.autocast(device, dtype=self.dtype, enabled=self.task.config.amp)

    def _steps_done(self) -> int:
        return self.position.epoch * self.steps + self.position.batch

    def _rate(self) -> float:
        config = self.task.config
        return learning_rate(self._steps_done(), self.steps * config.epochs, config)

    def _save(self) -> None:
        self._check_weights()
        self.store.write_metrics(self.position.history)
        self.store.write_last(
            self.position,
            model=self.model.state_dict(),
            average=None if self.average is None else self.average.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
        )
        self._saved_at = time.monotonic()

    def _check_weights(self) -> None:
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise self._diverged("a weight")

    def _diverged(self, what: str) -> CondenseError:
        rate = self.optimizer.param_groups[0]["lr"]
        return CondenseError(
            f"{what} is not a finite number any more at step {self._steps_done()} "
            f"(epoch {self.position.epoch + 1}, learning rate {rate:.4g})",
            hint="start over with a lower lr, or with clip; what was saved before is as it was",
        )


def _seed(*parts: int) -> None:
    """Seed what a model may draw from, so that each step's chance depends on its number only."""
    seed = seed_of("step", *parts)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
