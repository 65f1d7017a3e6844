"""The command line of the authors' training script, as far as it says what the network is.

Options that say how it is trained are known and passed over.
"""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from condense.errors import ConfigError

CLASSES = {"CIFAR-10": 10, "CIFAR-100": 100, "MNIST-10": 10}
"""By the data sets that their script knows a network for."""

_NUMBERS: dict[tuple[str, ...], type] = {
    **dict.fromkeys([("--dt",), ("--cDx",), ("--cDy",)], float),
    **dict.fromkeys([("-K", "--K"), ("--dx",), ("--dy",)], int),
}
_FLAGS = (
    *(("--non_linear",), ("-dxy", "--constant_Dxy"), ("--use_silu",), ("--use_res",)),
    *(("--init_h0_h",), ("--use_f_for_g",), ("--old_style",), ("-nof", "--no_f")),
    *(("-o", "--original"), ("--separable",)),
)
_TRAINING_VALUES = (
    *("-d --data", "-n --n_holes", "-l --length", "-e --epochs", "-ek --efficient_k", "--opt"),
    *("--opt-eps", "-lr --learning_rate", "-wd --weight-decay", "--reprob", "--remode"),
    *("--recount", "--sched", "--lr-noise", "--lr-noise-pct", "--lr-noise-std", "--lr-cycle-mul"),
    *("--lr-cycle-limit", "--warmup-lr", "--min-lr", "--epoch-repeats", "--start-epoch"),
    *("--decay-epochs", "--warmup-epochs", "--cooldown-epochs", "--patience-epochs"),
    *("--decay-rate --dr", "-b --batch-size", "-tb --test-batch-size", "--model-ema-decay"),
    *("--log_dir", "--model_dir", "-rmn --restart_model_name", "-dc --lr_decay"),
    *("-p --print-freq", "--drop", "--pde_state"),
)
_TRAINING_FLAGS = (
    *("-ct --cutout", "-r --restart", "-rk --restart_known", "--warmup", "--resplit", "--amp"),
    *("--model-ema", "--model-ema-force-cpu"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What a command line says about the network.

    Args:
        model: The network's kind, by their name.
        dataset: Which says how many classes there are.
        repeats: m, blocks of a stage; L, cells, of DARTS.
        width: Factor of a Wide-ResNet's widths.
        sizes: n1 to n4: widths of the stages, layers of the dense blocks, or first C of DARTS.
        original: Whether a ResNet has three stages; four otherwise.
        separable: Whether a ResNet's 3x3 convolutions are a depthwise and a 1x1 one.
        layer: What holds for every Global layer, by their names.
    """

    model: str
    dataset: str
    repeats: int
    width: int
    sizes: tuple[int, int, int, int]
    original: bool
    separable: bool
    layer: Mapping[str, Any]


def read_command(argv: str | Sequence[str]) -> CommandLine:
    """Read a command line, with or without the interpreter and the script before it.

    Raises:
        ConfigError: If an option is unknown, lacks its value, or has one of the wrong kind.
    """
    words = shlex.split(argv) if isinstance(argv, str) else list(argv)
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    given = vars(_parser().parse_args(words[first:]))
    if given["dataset"] not in CLASSES:
        raise ConfigError(
            f"--dataset is {given['dataset']!r}, expected one of {', '.join(CLASSES)}"
        )
    names = ("K", "dt", "dx", "dy", "cDx", "cDy", "constant_Dxy", "custom_uv", "custom_dxy",
             "use_silu", "use_res", "init_h0_h", "use_f_for_g", "no_f", "separable")  # fmt: skip
    return CommandLine(
        model=given["model"],
        dataset=given["dataset"],
        repeats=given["resnet_m"],
        width=given["width"],
        sizes=(given["n1"], given["n2"], given["n3"], given["n4"]),
        original=given["original"],
        separable=given["separable"],
        layer={name: given[name] for name in names} | {"nonlinear_pde": given["non_linear"]},
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        known = [name for action in self._actions for name in action.option_strings]
        wrong = next((word for word in message.split() if word.startswith("-")), "")
        near = get_close_matches(wrong, known, n=1) if "unrecognized" in message else []
        raise ConfigError(
            f"the authors' command line: {message}",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    defaults = {"K": 3, "dt": 0.2, "dx": 1, "dy": 1, "cDx": 1.0, "cDy": 1.0}
    for names, kind in _NUMBERS.items():
        name = names[-1].removeprefix("--")
        parser.add_argument(*names, dest=name, type=kind, default=defaults[name])
    for names in _FLAGS:
        parser.add_argument(*names, action="store_true")
    for name in ("--custom_uv", "--custom_dxy"):
        parser.add_argument(name, default="")
    parser.add_argument("--model", default="Resnet-Global")
    parser.add_argument("-ds", "--dataset", default="CIFAR-10")
    parser.add_argument("-m", "--resnet-m", type=int, default=2)
    parser.add_argument("-wdt", "--width", type=int, default=2)
    for name, default in {"--n1": 64, "--n2": 128, "--n3": 128, "--n4": 128}.items():
        parser.add_argument(name, type=int, default=default)
    for words in _TRAINING_VALUES:
        parser.add_argument(*words.split(), dest="_", nargs="+" if words == "--lr-noise" else None)
    for words in _TRAINING_FLAGS:
        parser.add_argument(*words.split(), dest="_", action="store_true")
    return parser
