"""From a student, a teacher and data to the best model on a held-out split."""

import logging
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condense.data import DataSet, Size, Split, batches, load
from condense.errors import ConfigError
from condense.measurement.top1 import Accuracy, accuracy
from condense.training.config import TrainConfig
from condense.training.inputs import Inputs, known_inputs
from condense.training.loop import Loop, Task
from condense.training.processes import Processes, joined
from condense.training.progress import EpochRecord, Progress, Silence
from condense.training.regularizing import check_regularizers
from condense.training.state import Store, identity_of
from condense.training.steadiness import growing_layers
from condense.training.teacher import Teacher

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a training gave.

    Args:
        model: The best epoch's, in eval mode, on the student's device.
        best_epoch: From 1; chosen on the held-out split.
        val_top1: Its accuracy there.
        test: Its accuracy on the test split; None if it was not asked for.
        history: One record an epoch.
        seconds: Of training, over all attempts.
        reference: What `max_drop` counts from: the teacher's held-out accuracy, unless given.
        met: Whether `max_drop` was kept; None if none was set.
        unstable: PDE layers whose state grows on held-out images, and how many times.
        config: The options that it was trained with.
    """

    model: nn.Module
    best_epoch: int
    val_top1: float
    test: Accuracy | None
    history: tuple[EpochRecord, ...]
    seconds: float
    reference: float | None
    met: bool | None
    unstable: dict[str, float]
    config: TrainConfig


def finetune(  # noqa: PLR0913
    student: nn.Module,
    *,
    teacher: nn.Module | None,
    data: DataSet | str,
    config: TrainConfig | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    test: bool = True,
    reference: float | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    input_size: Size | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    **options: Any,
) -> Result:
    """Train a copy of `student` to answer as `teacher` does, and as the labels say.

    With `folder`, the state is saved there within epochs and after each; a training that was
    killed ends with the same result once it is resumed, on a CPU to the last bit.

    Args:
        student: Left as it is.
        teacher: Left as it is. None: learn from the labels alone, as from scratch.
        data: A data set or its spec.
        config: The options; or give single ones as keywords.
        folder: For `last.pt`, `best.pt` and `metrics.jsonl`.
        resume: Go on from `last.pt`, if there is one.
        force: Start over where a training was begun before.
        test: Measure the result on the test split, once, at the end.
        reference: Accuracy that `max_drop` counts from. Default: the teacher's on the held-out
            images, which flatters a teacher that was trained on them.
        device: To train on. Default: where the student is.
        progress: Who watches.
        input_size: Default: the student's `origin`'s, else that of the data.
        mean: Of each channel. Default: the student's `origin`'s, else 0.
        std: Of each channel. Default: the student's `origin`'s, else 1.
        options: Fields of `TrainConfig`.

    Raises:
        ConfigError: If an option does not exist or does not fit.
        DataError: If the data cannot be used.
        CondenseError: If the state belongs to another training, or the loss diverges.
        Interrupted: If Ctrl-C or SIGTERM came; `resume` goes on from there.
    """
    config = _config(config, options)
    if config.max_drop is not None and teacher is None and reference is None:
        raise ConfigError(
            "max_drop needs a teacher to compare with", hint="give a teacher or leave out max_drop"
        )
    given = {"input_size": input_size, "mean": mean, "std": std}
    known = known_inputs(student) | {k: v for k, v in given.items() if v is not None}
    data = _opened(data, config, known.get("input_size"))
    inputs = Inputs(**{"input_size": data.input_size, **known})
    _check_fit(student, teacher, data, inputs)
    check_regularizers(student, config, inputs)
    home = _device_of(student)
    with joined(torch.device(device) if device is not None else home) as processes:
        task = Task(data, inputs, config, processes)
        _check_share(config, processes)
        store = _store(folder, task, student, teacher)
        saved = _saved(store, resume=resume, force=force)
        processes.wait()  # all have looked before the first one writes
        model = deepcopy(student).to(processes.device)
        watcher = progress if progress is not None and processes.is_first else Silence()
        loop = Loop(task, model, _teacher(teacher, task), store, watcher)
        loop.position.reference = reference
        if saved is not None:
            loop.restore(saved)
        loop.run()
        return _result(loop, home, test=test)


def evaluate(model: nn.Module, task: Task) -> Accuracy:
    """Accuracy on the whole test split; every process measures all of it."""
    return accuracy(model, _in_order(task.data.test, task))


def _in_order(split: Split, task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    config, inputs = task.config, task.inputs.to_dict()
    device = task.processes.device
    return batches(split, config.batch_size, device=device, workers=config.workers, **inputs)


def _result(loop: Loop, home: torch.device, *, test: bool) -> Result:
    """The best epoch's model and its figures."""
    model, task, best = loop.model, loop.task, loop.best
    if best is None:
        raise ValueError("a training without a best epoch has no result")
    model.load_state_dict(best.weights)
    model.eval()
    history = tuple(EpochRecord(**record) for record in loop.position.history)
    return Result(
        test=evaluate(model, task) if test else None,
        unstable=_unstable(model, task),
        model=model.to(home),
        best_epoch=best.epoch,
        val_top1=best.val_top1,
        history=history,
        seconds=sum(record.seconds for record in history),
        reference=loop.position.reference,
        met=loop.is_met(best.val_top1),
        config=task.config,
    )


def _store(
    folder: str | Path | None, task: Task, student: nn.Module, teacher: nn.Module | None
) -> Store:
    options, inputs = task.config.to_dict(), task.inputs.to_dict()
    identity = identity_of(options, inputs, task.data.fingerprint(), student, teacher)
    return Store(None if folder is None else Path(folder), identity, task.processes.is_first)


def _saved(store: Store, *, resume: bool, force: bool) -> dict[str, Any] | None:
    if resume:
        return store.read_last()
    if not force:
        store.check_free()
    return None


def _config(config: TrainConfig | None, options: dict[str, Any]) -> TrainConfig:
    if config is None:
        return TrainConfig.from_dict(options)
    return TrainConfig.from_dict(config.to_dict() | options)


def _opened(data: DataSet | str, config: TrainConfig, input_size: Size | None) -> DataSet:
    if isinstance(data, str):
        return load(data, input_size=input_size, limit=config.limit, seed=config.seed)
    return data if config.limit is None else data.limited(config.limit, config.seed)


def _device_of(model: nn.Module) -> torch.device:
    for parameter in model.parameters():
        return parameter.device
    raise ConfigError("the model has no parameters to train")


def _teacher(model: nn.Module | None, task: Task) -> Teacher | None:
    if model is None:
        return None
    own = Inputs(**{**task.inputs.to_dict(), **known_inputs(model)})
    teacher = Teacher(deepcopy(model), task.inputs, own, task.processes.device)
    if not task.config.augment and task.config.teacher_weight > 0:
        teacher.remember(task.data, task.inputs)
    return teacher


def _unstable(model: nn.Module, task: Task) -> dict[str, float]:
    """Look at one held-out batch, and warn once a layer."""
    images, _ = next(_in_order(task.data.validation, task))
    found = growing_layers(model, images)
    for name, growth in found.items():
        logger.warning(
            "layer %s: its state grows %.3g-fold over its steps on held-out images; "
            "a smaller dt or fewer steps keep it stable",
            *(name, growth),
        )
    return found


def _check_share(config: TrainConfig, processes: Processes) -> None:
    if config.batch_size % processes.count:
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be shared by {processes.count} processes",
            hint="it counts the images of all processes together: take a multiple",
        )


def _check_fit(
    student: nn.Module, teacher: nn.Module | None, data: DataSet, inputs: Inputs
) -> None:
    """The models take the images, and have an output for each class."""
    top = max(int(part.labels.max()) for part in (data.train, data.validation, data.test))
    widths = {}
    for name, model in (("student", student), ("teacher", teacher)):
        if model is not None:
            widths[name] = _answers(model, name, inputs).shape[1]
            if widths[name] <= top:
                raise ConfigError(
                    f"the labels go up to {top}, the {name} has {widths[name]} classes",
                    hint="use data with the model's classes, or a model with the data's",
                )
    if len(set(widths.values())) > 1:
        raise ConfigError(
            f"the student has {widths['student']} classes, the teacher {widths['teacher']}",
            hint="they must answer the same question",
        )


@torch.no_grad()
def _answers(model: nn.Module, name: str, inputs: Inputs) -> Tensor:
    copy = deepcopy(model).eval()
    try:
        found = copy(torch.zeros(2, *inputs.input_size, device=_device_of(model)))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # the model's own code
        raise ConfigError(
            f"the {name} does not take images of {inputs.input_size}: {str(error).splitlines()[0]}",
            hint="name the size that it was made for with input_size",
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 2:
        kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(
            f"the {name} returns {kind} for 2 images, expected logits (2, classes)",
            hint="training needs a classifier",
        )
    return found
