"""`condense finetune`: the converted model learns from the original, and so does its control."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from condense.cli.convert import NO_CONTROL
from condense.cli.options import DataOption, Loading, ModelArgument
from condense.cli.progress import progress_for
from condense.cli.session import Session
from condense.errors import ConfigError, TargetNotMetError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """The recipe; fields of `condense.training.TrainConfig`."""

    PANEL: ClassVar = "The recipe"

    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 30
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Images a step.")] = 128
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 0.1
    schedule: Annotated[str, typer.Option(metavar="onecycle|cosine", help="Of the rate.")] = (
        "onecycle"
    )
    temperature: Annotated[float, typer.Option(help="Of the distillation.")] = 4.0
    teacher_weight: Annotated[
        float, typer.Option(help="Share of the distillation in the loss; labels have the rest.")
    ] = 0.9
    amp: Annotated[bool, typer.Option("--amp", help="Mixed precision.")] = False
    ema: Annotated[bool, typer.Option("--ema", help="Keep a moving average of the weights.")] = (
        False
    )
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False
    workers: Annotated[int, typer.Option("--workers", "-j", help="Threads that read images.")] = 0
    limit: Annotated[int | None, typer.Option(help="Train on this many images only.")] = None
    max_drop: Annotated[
        float | None,
        typer.Option(help="Stop within so many points of the original, exit 4 if never."),
    ] = None

    def to_config(self, seed: int, *, with_teacher: bool) -> Any:
        """As the API takes it; without a teacher the labels have all of the loss."""
        from dataclasses import asdict

        from condense.training import TrainConfig

        weight = self.teacher_weight if with_teacher else 0.0
        return TrainConfig(**asdict(self) | {"teacher_weight": weight}, seed=seed)


def finetune(
    session: Session,
    training: TrainingOptions,
    loading: Loading,
    model: ModelArgument = None,
    data: DataOption = None,
    teacher: Annotated[
        str, typer.Option(metavar="original|none|FILE", help="Whose answers to learn.")
    ] = "original",
    control: Annotated[bool, typer.Option(help="Train the control by the same recipe too.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
) -> None:
    """Distil the converted model from the original, and its control alike."""
    from condense.checkpoint.in_run import load_artefact, load_original, open_student, store
    from condense.reporting.on_data import data_for, judge
    from condense.training import finetune as train

    run = session.run
    spec = data or run.remembered_path("data")
    if spec is None:
        raise ConfigError("there is no data to learn from", hint="--data cifar10.npz, for example")
    original = load_original(run)
    exists = (run.artefact("converted") or {}).get("has_control", True)
    if control and model is None and not exists:
        session.note(NO_CONTROL)
    with_control = exists and control and model is None and run.artefact("control") is not None
    pairs = {"converted": "finetuned"} | ({"control": "control_finetuned"} if with_control else {})
    if not resume:
        session.refuse_to_overwrite(*(f"{trained}.pt" for trained in pairs.values()))
    if model is not None:
        open_student(run, model, force=session.force, **loading.to_dict())
    students = {role: load_artefact(run, role) for role in pairs}
    source = original if teacher == "original" else _teacher(teacher, loading)
    images = data_for(original, spec, seed=session.seed)
    run.remember_path("data", spec)
    device = session.torch_device
    score, doubt = judge(original.to(device), images)
    session.note(_shown("original", _scored(score)))
    if doubt:
        session.warn(doubt)
    config = training.to_config(session.seed, with_teacher=source is not None)
    results = {}
    for role, trained in pairs.items():
        result = train(
            students[role],
            teacher=source,
            data=images,
            config=config,
            folder=run.path("training" if role == "converted" else "training/control"),
            resume=resume,
            force=session.force,
            device=device,
            progress=progress_for(session, role),
        )
        store(run, trained, result.model, made_from=(role, "original"), force=True)
        results[trained] = result
    document = {"original": _scored(score), "models": [_result(*item) for item in results.items()]}
    session.emit(document, *_lines(document))
    _check_target(results["finetuned"].met, training.max_drop)
    session.next("report")


def _teacher(source: str, loading: Loading) -> Any:
    from condense.checkpoint import load

    return None if source == "none" else load(source, trust=loading.trust)


def _scored(score: Any) -> dict[str, Any]:
    return {"split": "test", **score.to_dict()}


def _result(role: str, result: Any) -> dict[str, Any]:
    return {
        "role": role,
        "best_epoch": result.best_epoch,
        "val_top1": result.val_top1,
        "seconds": result.seconds,
        "accuracy": _scored(result.test),
    }


def _lines(document: dict[str, Any]) -> list[str]:
    scores = {"original": document["original"]}
    scores |= {model["role"]: model["accuracy"] for model in document["models"]}
    return [_shown(role, score) for role, score in scores.items()]


def _shown(role: str, score: dict[str, Any]) -> str:
    from condense.reporting.figures import accuracy

    return f"{role:17}  {accuracy(score)} top-1 on {score['n']:,} test images"


def _check_target(met: bool | None, max_drop: float | None) -> None:
    if met is False:
        raise TargetNotMetError(
            f"the held-out accuracy never came within {max_drop} points of the original's",
            hint="more --epochs, a larger --keep, or fewer --stages",
        )
