"""`condense train`: a network from scratch, by a recipe of the papers."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

import typer

from condense.cli.options import DataOption, numbers, pairs, size
from condense.cli.progress import progress_for
from condense.cli.session import Session
from condense.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What of the network is not to follow from the data."""

    PANEL: ClassVar = "The network"

    arch_arg: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Argument of the architecture; repeat.")
    ] = None
    num_classes: Annotated[int | None, typer.Option(min=2, help="More than the data has.")] = None
    input_size: Annotated[
        str | None, typer.Option(metavar="CxHxW", help="Size of one input; default: the data's.")
    ] = None
    normalization: Annotated[
        str | None,
        typer.Option(metavar="imagenet|cifar10|none", help="Default: the data's own statistics."),
    ] = None
    mean: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Mean of each channel, inputs in 0..1.")
    ] = None
    std: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Standard deviation of each channel.")
    ] = None

    def to_options(self) -> Any:
        """As the API takes it."""
        from condense.checkpoint.preprocessing import wanted
        from condense.training import NetworkOptions

        return NetworkOptions(
            arch_args=pairs(self.arch_arg, "--arch-arg"),
            num_classes=self.num_classes,
            preprocessing=wanted(
                input_size=size(self.input_size),
                normalization=self.normalization,
                mean=numbers(self.mean, "--mean"),
                std=numbers(self.std, "--std"),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Options that count more than the recipe's; fields of `condense.training.TrainConfig`."""

    PANEL: ClassVar = "Instead of the recipe's"

    epochs: Annotated[
        int | None, typer.Option(help="Milestones of the rate move in proportion.")
    ] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="Images.")] = None
    optimizer: Annotated[str | None, typer.Option(metavar="sgd|adam", help="Which.")] = None
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None
    schedule: Annotated[
        str | None, typer.Option(metavar="onecycle|cosine|step", help="Of the rate.")
    ] = None
    warmup: Annotated[float | None, typer.Option(help="Share in which the rate rises.")] = None
    weight_decay: Annotated[float | None, typer.Option(help="On weights, not on biases.")] = None
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None
    label_smoothing: Annotated[float | None, typer.Option(help="Share of a label spread.")] = None
    augment: Annotated[
        bool | None, typer.Option("--augment/--no-augment", help="Crop and flip at random.")
    ] = None
    cutout: Annotated[int | None, typer.Option(help="Side of a square to blot out.")] = None
    drop_path: Annotated[float | None, typer.Option(help="Share of paths dropped at last.")] = None
    auxiliary_weight: Annotated[float | None, typer.Option(help="Of the second head.")] = None
    amp: Annotated[bool | None, typer.Option("--amp", help="Mixed precision.")] = None
    ema: Annotated[bool | None, typer.Option("--ema", help="Keep a moving average.")] = None
    compile: Annotated[bool | None, typer.Option("--compile", help="Use torch.compile.")] = None
    workers: Annotated[
        int | None, typer.Option("--workers", "-j", help="Threads that read images.")
    ] = None
    limit: Annotated[int | None, typer.Option(help="Train on this many images only.")] = None

    def to_dict(self) -> dict[str, Any]:
        """Those that were given, as keyword arguments of `condense.train`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def train(
    session: Session,
    network: Network,
    changes: Changes,
    arch: Annotated[
        str, typer.Argument(help="A name in condense.models, torchvision:NAME or pkg.mod:factory.")
    ],
    data: DataOption = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="global-cifar|lowcost-cifar|darts|mnist", help="Default: the network's own."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
) -> None:
    """Train a network from scratch; it becomes the run's original."""
    from condense.checkpoint.in_run import TRAINED, check_trainable, store_trained
    from condense.data import load
    from condense.reporting.fields import fields_svg
    from condense.reporting.on_data import images_of
    from condense.reporting.trained import trained_document, trained_lines
    from condense.run import written_whole
    from condense.training import settled_recipe
    from condense.training import train as fit

    run = session.run
    recipe = settled_recipe(arch, recipe)
    check_trainable(run, force=session.force)
    if not resume:
        session.refuse_to_overwrite(TRAINED)
    spec = data or run.remembered_path("data")
    if spec is None:
        raise ConfigError("there is no data to learn from", hint="--data cifar10.npz, for example")
    options = network.to_options()
    asked = options.preprocessing.input_size
    images = load(spec, input_size=asked, num_classes=options.num_classes, seed=session.seed)
    run.remember_path("data", spec)
    result = fit(
        arch,
        data=images,
        recipe=recipe,
        network=options,
        folder=run.path("training/original"),
        resume=resume,
        force=session.force,
        device=session.torch_device,
        progress=progress_for(session, arch),
        seed=session.seed,
        **changes.to_dict(),
    )
    document = {"architecture": arch, "role": "original", "file": TRAINED, "recipe": recipe}
    document |= trained_document(result, images.classes)
    store_trained(run, result.model, seed=session.seed, **document)
    if picture := fields_svg(result.model, images_of(result.model, images, images.validation, 1)):
        with written_whole(run.path("fields.svg"), force=True) as path:
            path.write_text(picture, encoding="utf-8")
    session.emit(document, *trained_lines(document))
    session.next("report")
