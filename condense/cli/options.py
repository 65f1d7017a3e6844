"""Options that commands share: dataclasses whose fields become a command's parameters."""

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_origin, get_type_hints

import typer

from condense.cli.session import Session, expected_failures
from condense.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How to read a model file that does not say everything about itself."""

    PANEL: ClassVar = "The model file"

    arch: Annotated[
        str | None,
        typer.Option(
            help="Architecture of a bare state dict: torchvision:NAME, timm:NAME, condense:NAME, "
            "pkg.mod:factory or file.py:factory. Without it, it is read off the weights.",
        ),
    ] = None
    arch_arg: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Argument of the architecture; repeat.")
    ] = None
    num_classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None
    input_size: Annotated[
        str | None, typer.Option(metavar="CxHxW", help="Size of one input, for example 3x32x32.")
    ] = None
    normalization: Annotated[
        str | None,
        typer.Option(metavar="imagenet|cifar10|none", help="What inputs are normalised by."),
    ] = None
    mean: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Mean of each channel, inputs in 0..1.")
    ] = None
    std: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Standard deviation of each channel.")
    ] = None
    trust: Annotated[
        bool, typer.Option("--trust", help="Open a file that runs code when it is opened.")
    ] = False

    def to_dict(self) -> dict[str, Any]:
        """As keyword arguments of `condense.load`."""
        return {
            "arch": self.arch,
            "arch_args": pairs(self.arch_arg, "--arch-arg"),
            "num_classes": self.num_classes,
            "input_size": size(self.input_size),
            "normalization": self.normalization,
            "mean": numbers(self.mean, "--mean"),
            "std": numbers(self.std, "--std"),
            "trust": self.trust,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOptions:
    """What takes the place of the repeats."""

    PANEL: ClassVar = "The layer"

    layer: Annotated[str, typer.Option(help="The layer, by its name in condense.layers.")] = (
        "global"
    )
    keep: Annotated[int, typer.Option(min=1, help="Blocks that stay in each stage.")] = 1
    steps: Annotated[
        int | None, typer.Option(min=0, help="K of global; the number of layers of the others.")
    ] = None
    dt: Annotated[float | None, typer.Option(help="Time step.")] = None
    scheme: Annotated[
        str | None,
        typer.Option(metavar="reference|conservative|implicit", help="How global advances."),
    ] = None
    boundary: Annotated[
        str | None, typer.Option(metavar="periodic|zero|replicate", help="Beyond the edge.")
    ] = None
    layer_arg: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Any other option of the layer; repeat.")
    ] = None

    def to_dict(self) -> dict[str, Any]:
        """As keyword arguments of `condense.conversion.make_plan`."""
        named = {key: getattr(self, key) for key in ("steps", "dt", "scheme", "boundary")}
        options = {key: value for key, value in named.items() if value is not None}
        return {
            "layer": self.layer,
            "keep": self.keep,
            "options": options | pairs(self.layer_arg, "--layer-arg"),
        }


def command(app: typer.Typer, function: Callable[..., None]) -> None:
    """Make `function` a command; a parameter that is a dataclass becomes one option per field."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {n: hint for n, hint in hints.items() if is_dataclass(hint)}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        group = groups.get(parameter.name)
        flat += _options(group) if group else [_as_option(parameter, hints[parameter.name])]

    @wraps(function)
    def run(**values: Any) -> None:
        given = {
            name: group(**{option.name: values.pop(option.name) for option in _options(group)})
            for name, group in groups.items()
        }
        session: Session = given["session"]
        with expected_failures(session, is_resumable="resume" in hints):
            function(**given, **values)

    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in flat}
    app.command(function.__name__)(run)


def pairs(texts: list[str] | None, option: str) -> dict[str, Any]:
    """`["a=1", "b=x"]` as a dict; numbers, true, false and none are read as such.

    Raises:
        ConfigError: If one of them has no `=`.
    """
    found = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ConfigError(f"{option} is {text!r}, expected KEY=VALUE")
        found[key.replace("-", "_")] = _plain(value)
    return found


def size(text: str | None, option: str = "--input-size") -> tuple[int, int, int] | None:
    """`"3x32x32"` as (3, 32, 32).

    Raises:
        ConfigError: If it is not three positive whole numbers.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"{option} is {text!r}, expected CxHxW, for example 3x32x32")
    channels, height, width = map(int, parts)
    return channels, height, width


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """`"0.5,0.5"` as (0.5, 0.5).

    Raises:
        ConfigError: If one of them is not a number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} is {text!r}, expected numbers with commas between") from error


def _plain(text: str) -> bool | int | float | str | None:
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@cache  # half the commands share them, and reading them takes milliseconds
def _options(group: Any) -> list[inspect.Parameter]:
    """The fields that are annotated as options; others are not for the command line."""
    hints = get_type_hints(group, include_extras=True)
    parameters = inspect.signature(group).parameters
    return [
        _as_option(parameters[field.name], _under(group.PANEL, hints[field.name]))
        for field in fields(group)
        if get_origin(hints[field.name]) is Annotated
    ]


def _as_option(parameter: inspect.Parameter, hint: Any) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint)


def _under(panel: str, hint: Any) -> Any:
    """The same option under a heading of its own in `--help`."""
    option = copy(hint.__metadata__[0])
    option.rich_help_panel = panel
    return Annotated[hint.__origin__, option]


DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="An .npz file, an image folder, a folder with MNIST or CIFAR, digits, or "
        "pkg.mod:factory.",
    ),
]
ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]", help="A model file, or torchvision:NAME; default: the run's."
    ),
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")]
FreshOption = Annotated[
    bool,
    typer.Option("--fresh", help="Measure again what was measured on this machine before."),
]
