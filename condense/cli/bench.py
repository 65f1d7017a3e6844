"""`condense bench`: layers, stages, convolutions and the training loop, timed on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import typer

from condense.cli.options import DataOption, Loading, OutputOption, command, size
from condense.cli.session import Session
from condense.errors import CondenseError, ConfigError

SUFFIXES = (".svg", ".html", ".htm")

bench = typer.Typer(
    help="Time layers, stages, convolutions and the training loop on this machine.",
    no_args_is_help=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How to time layers."""

    PANEL: ClassVar = "The timing"

    batch_sizes: Annotated[
        str, typer.Option("--batch-size", "-b", metavar="1,64", help="Images at a time.")
    ] = "1,64"
    steps: Annotated[
        str, typer.Option(metavar="1,5", help="K, for the layers that make steps.")
    ] = "1,5"
    runtimes: Annotated[
        str, typer.Option(help="torch, torch_compile (minutes), onnxruntime; commas between.")
    ] = "torch,onnxruntime"
    thread_counts: Annotated[
        str | None, typer.Option(metavar="1,2", help="Several --threads, one after the other.")
    ] = None
    repeats: Annotated[int, typer.Option(min=2, help="Rounds of timing.")] = 20

    @property
    def step_numbers(self) -> list[int]:
        """K."""
        return _whole(self.steps, "--steps")

    def to_conditions(self) -> Any:
        """As the API takes it."""
        from condense.measurement.bench_cases import Conditions

        threads, runtimes = self.thread_counts, self.runtimes.split(",")
        return Conditions(
            batch_sizes=_whole(self.batch_sizes, "--batch-size"),
            threads=_whole(threads, "--thread-counts") if threads is not None else (),
            runtimes=cast("Any", runtimes),
            repeats=self.repeats,
        )


def layers(
    session: Session,
    timing: Timing,
    shape: Annotated[
        str | None,
        typer.Option(metavar="16x32x32,…", help="CxHxW of the maps; default: CIFAR ResNets'."),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(metavar="global,…", help="Which layers; default: all.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Time every layer, by kernel and runtime, against the residual block of its shape."""
    from condense.measurement.bench_layers import SHAPES, bench_layers

    _check_output(session, output)
    shapes = [size(text, "--shape") for text in shape.split(",")] if shape else SHAPES
    found = bench_layers(
        [item for item in shapes if item is not None],
        layers=layer.split(",") if layer else None,
        steps=timing.step_numbers,
        conditions=timing.to_conditions(),
        device=session.torch_device,
    )
    _show(session, found.to_dict(), output)


def stages(
    session: Session,
    loading: Loading,
    timing: Timing,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model file, or torchvision:NAME.")
    ],
    layer: Annotated[
        str, typer.Option(metavar="global,…", help="Which layers; all for every one.")
    ] = "global",
    keep: Annotated[int, typer.Option(min=1, help="Blocks that stay in each stage.")] = 1,
    output: OutputOption = None,
) -> None:
    """Time layers against the repeats that they would replace, stage by stage."""
    from condense.analysis import analyze
    from condense.analysis.bench_stages import bench_stages
    from condense.checkpoint import load
    from condense.checkpoint.origin import settled_input_size

    _check_output(session, output)
    conditions = timing.to_conditions()
    network = load(model, **loading.to_dict())
    found = bench_stages(
        network.to(session.torch_device),
        analyze(network, settled_input_size(network)),
        layers=None if layer == "all" else layer.split(","),
        steps=timing.step_numbers,
        keep=keep,
        conditions=conditions,
    )
    _show(session, found.to_dict(), output)


def convs(
    session: Session,
    at: Annotated[
        str, typer.Option(metavar="CxHxW", help="The maps, where something else is varied.")
    ] = "128x32x32",
    sizes: Annotated[
        str, typer.Option(metavar="N,…", help="Rows and columns of the maps; none for no panel.")
    ] = "8,16,32,64",
    kernel_sizes: Annotated[
        str, typer.Option(metavar="K,…", help="Of the kernels; elsewhere it is the first of them.")
    ] = "3,5,7",
    channels: Annotated[
        str, typer.Option(metavar="C,…", help="Numbers of channels; none for no panel.")
    ] = "32,64,128,256,512",
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="Maps at a time.")
    ] = 4,
    repeats: Annotated[int, typer.Option(min=2, help="Rounds of timing.")] = 20,
    output: OutputOption = None,
) -> None:
    """Time the low-cost convolutions against the full one, by size, kernel and channels."""
    from condense.measurement.bench_convs import Point, bench_convs, sweeps

    _check_output(session, output)
    kernels = _whole(kernel_sizes, "--kernel-sizes")
    fixed = Point(channels=_square(at)[0], size=_square(at)[1], kernel_size=kernels[0])
    panels = sweeps(
        fixed,
        sizes=_whole(sizes, "--sizes") if sizes != "none" else [],
        kernel_sizes=kernels if len(kernels) > 1 else [],
        channels=_whole(channels, "--channels") if channels != "none" else [],
    )
    found = bench_convs(panels, batch_size=batch_size, repeats=repeats, device=session.torch_device)
    _show(session, found.to_dict(), output)


def loop(
    session: Session,
    arch: Annotated[
        str, typer.Argument(metavar="[ARCH]", help="The teacher, a name in condense.models.")
    ] = "resnet32",
    data: DataOption = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=2, help="Images a step.")
    ] = 128,
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 10,
    output: OutputOption = None,
) -> None:
    """Time a step of finetune against forward and backward of student and teacher alone."""
    from condense.training.bench_loop import bench_condensing

    _check_output(session, output)
    found = bench_condensing(
        arch, data=data, batch_size=batch_size, steps=steps, device=session.torch_device
    )
    _show(session, found.to_dict(), output)


for function in (layers, stages, convs, loop):
    command(bench, function)


def _whole(text: str, option: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"{option} is {text!r}, expected whole numbers with commas between")
    return [int(part) for part in parts]


def _square(text: str) -> tuple[int, int]:
    """Channels and side of square maps."""
    found = size(text, "--at")
    if found is None or found[1] != found[2]:
        raise ConfigError(f"--at is {text!r}, expected square maps", hint="for example 128x32x32")
    return found[0], found[1]


def _check_output(session: Session, output: Path | None) -> None:
    """Stop before minutes of timing if the picture cannot be written."""
    if output is None:
        return
    if output.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{output} does not say what to draw, expected a name in {', '.join(SUFFIXES)}",
            hint="for example -o bench.svg",
        )
    if output.exists() and not session.force:
        raise CondenseError(f"{output} exists already", hint="--force overwrites it")


def _show(session: Session, document: dict[str, Any], output: Path | None) -> None:
    from condense.reporting import bench_html, bench_svg, bench_table
    from condense.run import written_whole

    if output is not None:
        draw = bench_svg if output.suffix.lower() == ".svg" else bench_html
        with written_whole(output, force=session.force) as path:
            path.write_text(draw(document), encoding="utf-8")
        session.note(f"written: {output}")
    session.emit(document, bench_table(document))
    session.next("analyze MODEL")
