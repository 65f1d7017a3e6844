"""Architectures by name: `torchvision:NAME`, `timm:NAME`, `condense:NAME`, or a factory."""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from condense.checkpoint import zoos
from condense.checkpoint.preprocessing import Preprocessing
from condense.errors import CheckpointError, CondenseError, ConfigError, UnknownNameError
from condense.models import MODELS

FORMS = "torchvision:NAME, timm:NAME, condense:NAME, pkg.mod:factory or file.py:factory"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Something that makes networks.

    Args:
        name: As `find` takes it.
        make: Gives the network with random weights.
        takes: Which of `num_classes` and `in_channels` it can be told.
        args: Its further options.
        describe: What its input looks like.
    """

    name: str
    make: Callable[..., nn.Module]
    takes: frozenset[str] = frozenset({"num_classes", "in_channels"})
    args: dict[str, Any] = field(default_factory=dict)
    describe: Callable[[nn.Module], Preprocessing] = lambda _: Preprocessing()

    def build(self, **sizes: int | None) -> nn.Module:
        """The network, for so many classes and channels as far as it can be told.

        Raises:
            CheckpointError: If it cannot be built.
        """
        known = {key: n for key, n in sizes.items() if n is not None and key in self.takes}
        try:
            network = self.make(**(known | self.args))
        except CondenseError:
            raise
        except Exception as error:  # a factory that is not ours fails as it likes
            raise CheckpointError(
                f"{self.name} cannot be built: {type(error).__name__}: {error}",
                hint="give what it needs with --arch-arg name=value or --num-classes",
            ) from error
        if not isinstance(network, nn.Module):
            raise CheckpointError(
                f"{self.name} gave a {type(network).__name__}, expected a torch.nn.Module"
            )
        return network


def find(name: str, args: dict[str, Any] | None = None) -> Architecture:
    """The architecture of that name.

    Args:
        name: One of the forms above, or a bare name of condense or torchvision.
        args: Options that it is built with.

    Raises:
        UnknownNameError: If there is none, with the nearest.
        ConfigError: If an option is one that a checkpoint has no say in.
        CheckpointError: If the package or file that it is in cannot be imported.
    """
    args = dict(args or {})
    scheme, colon, rest = name.rpartition(":")
    if not colon:
        return _bare(name, args)
    if scheme in SCHEMES:
        return SCHEMES[scheme](rest, args)
    return _factory(scheme, rest, args)


def is_built_in(name: str) -> bool:
    """Whether building it runs nothing but condense, torchvision or timm."""
    return name.rpartition(":")[0] in {*SCHEMES, ""}


def known_channels(name: str, network: nn.Module) -> int | None:
    """Channels that the network takes; None for a factory whose order of modules says nothing."""
    if not is_built_in(name):
        return None
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return next((module.in_channels for module in convolutions), None)


def parse_args(pairs: Sequence[str]) -> dict[str, Any]:
    """Options from `name=value`; values are read as Python constants where they are any.

    Raises:
        ConfigError: If there is no `=`.
    """
    args = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"{pair!r} is not an option; expected name=value")
        try:
            args[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            args[key] = value
    return args


def _condense(name: str, args: dict[str, Any]) -> Architecture:
    spec = MODELS[name]
    known = inspect.signature(spec.build).parameters
    _check_args(f"condense:{name}", args, known)
    described = Preprocessing(input_size=spec.input_size, mean=spec.mean, std=spec.std)
    return Architecture(
        name=f"condense:{name}",
        make=spec.build,
        takes=frozenset({"num_classes", "in_channels"} & set(known)),
        args=args,
        describe=lambda _: described,
    )


def _torchvision(name: str, args: dict[str, Any]) -> Architecture:
    known = zoos.torchvision_names()
    if name not in known:
        raise _unknown("torchvision classifier", name, known)
    _refuse_downloads(args)
    return Architecture(
        name=f"torchvision:{name}",
        make=partial(zoos.torchvision_model, name),
        args=args,
        describe=partial(zoos.torchvision_preprocessing, name),
    )


def _timm(name: str, args: dict[str, Any]) -> Architecture:
    known = zoos.timm_names()
    if name not in known:
        raise _unknown("timm model", name, known)
    _refuse_downloads(args)
    return Architecture(
        name=f"timm:{name}",
        make=partial(zoos.timm_model, name),
        args=args,
        describe=zoos.timm_preprocessing,
    )


SCHEMES: dict[str, Callable[[str, dict[str, Any]], Architecture]] = {
    "condense": _condense,
    "torchvision": _torchvision,
    "timm": _timm,
}


def _bare(name: str, args: dict[str, Any]) -> Architecture:
    if name in MODELS:
        return _condense(name, args)
    known = zoos.torchvision_names()
    if name in known:
        return _torchvision(name, args)
    raise _unknown("architecture", name, [*MODELS, *known])


def _factory(place: str, name: str, args: dict[str, Any]) -> Architecture:
    module = _module_of_file(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, name):
        public = [item for item in vars(module) if not item.startswith("_")]
        raise _unknown(f"factory in {place}", name, public)
    factory = getattr(module, name)
    if not callable(factory):
        raise UnknownNameError(f"{place}:{name} is a {type(factory).__name__}, expected a factory")
    known = inspect.signature(factory).parameters
    if not any(item.kind is item.VAR_KEYWORD for item in known.values()):
        _check_args(f"{place}:{name}", args, known)
    return Architecture(
        name=f"{place}:{name}",
        make=factory,
        takes=frozenset({"num_classes", "in_channels"} & set(known)),
        args=args,
    )


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # the user's own module, with the user's own mistakes
        raise CheckpointError(
            f"{name} cannot be imported: {type(error).__name__}: {error}",
            hint=f"architectures are {FORMS}",
        ) from error


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist, expected a Python file with a factory")
    spec = importlib.util.spec_from_file_location(f"_condense_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CheckpointError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # as in _module
        raise CheckpointError(
            f"{path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def _check_args(where: str, args: dict[str, Any], known: Any) -> None:
    for key in args:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise ConfigError(
                f"{where} has no option {key!r}; it has: {', '.join(known)}",
                hint=f"did you mean {near[0]!r}?" if near else None,
            )


def _refuse_downloads(args: dict[str, Any]) -> None:
    for key in zoos.FETCHING_OPTIONS & args.keys():
        raise ConfigError(
            f"option {key!r} would fetch other weights than the file's",
            hint="download the weights and name their file",
        )


def _unknown(kind: str, name: str, known: Sequence[str]) -> UnknownNameError:
    near = get_close_matches(name, known, n=3, cutoff=0.3)
    shown = f"; the nearest: {', '.join(near)}" if near else ""
    return UnknownNameError(
        f"no {kind} named {name!r}{shown}",
        hint=f"did you mean {near[0]!r}?" if near else f"architectures are {FORMS}",
    )
