"""Global layers of the authors' published code: their options, their names, their weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from condense.errors import CheckpointError, ConfigError
from condense.layers.authors_names import to_ours
from condense.layers.global_layer import GlobalLayer
from condense.layers.inverted_residual import round_channels
from condense.layers.options import check_choice, check_known

# What each option is when a configuration does not say.
DEFAULTS: Mapping[str, Any] = {
    "K": 1,
    "dt": 0.2,
    "dx": 1,
    "dy": 1,
    "cDx": 1.0,
    "cDy": 1.0,
    "constant_Dxy": False,
    "custom_uv": "",
    "custom_dxy": "",
    "cell_type": "default",
    "nonlinear_pde": True,
    "init_h0_h": False,
    "use_f_for_g": False,
    "use_dot": False,
    "use_silu": False,
    "use_res": False,
    "no_f": False,
    "use_diff_eps": True,
    "old_style": False,
    "separable": False,
    "in_chs": None,
    "out_chs": None,
    "stride": 1,
    "dilation": 1,
    "pad_type": "",
    "dw_kernel_size": 3,
    "exp_kernel_size": 1,
    "pw_kernel_size": 1,
    "exp_ratio": 1.0,
    "noskip": False,
    "act_layer": None,
    "norm_layer": "BatchNorm2d",
    "se_layer": None,
    "drop_path_rate": 0.0,
    "genotype": None,
    "C_prev_prev": None,
    "C_prev": None,
    "C_curr": None,
    "reduction": False,
    "reduction_prev": False,
}

_ACTIVATIONS = {"swish": "silu", "hard_swish": "hardswish", "hard_sigmoid": "hardsigmoid"}
_BLOCKS = {
    "": "depthwise",
    "default": "identity",
    "identity": "identity",
    "DwConv": "depthwise",
    "FullConv": "full",
    "PwConv": "pointwise",
    "BasicBlock": "basic",
    "Bottleneck": "bottleneck",
    "BasicDense": "dense",
    "InvertedResidualCell": "inverted-residual",
    "DartCell": "darts-cell",
}


def from_authors(
    planes: int, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> GlobalLayer:
    """A Global layer of the authors' code, its weights included, in their precision.

    Args:
        planes: Their positional channel argument.
        config: Every option that their layer was given, by their names.
        state_dict: Its weights, by their names.

    Raises:
        ConfigError: If an option is unknown or has a value that the papers do not define.
        CheckpointError: If the weights do not fit the options.
    """
    channels, options = authors_options(planes, _told_by_weights(config, state_dict))
    layer = GlobalLayer(channels, **options)
    _load(layer.to(_precision(state_dict)), state_dict)
    return layer


def authors_options(planes: int, config: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Channels and options of `GlobalLayer`, as plain values, for a layer of the authors' code.

    Raises:
        ConfigError: If an option is unknown or has a value that the papers do not define.
    """
    # Theirs to know and nobody's to use: an unknown option that is off changes nothing.
    check_known((key for key, value in config.items() if value), DEFAULTS, "the authors' layer")
    given = {**DEFAULTS, **config}
    _check_defined(given)
    in_channels = _in_channels(planes, given)
    name = "C_prev" if given["cell_type"] == "DartCell" else "out_chs"
    channels: int = given[name] or planes
    diffusion: Any = _coefficient(given["custom_dxy"], channels, given)
    if given["constant_Dxy"]:
        diffusion = [given["cDx"], given["cDy"]]
    options = {
        "steps": given["K"],
        "dt": given["dt"],
        "dx": given["dx"],
        "dy": given["dy"],
        "coefficients": {
            "velocity": _coefficient(given["custom_uv"], channels, given),
            "diffusion": diffusion,
            "product": bool(given["use_dot"]),
            "velocity_from": "f" if given["use_f_for_g"] else "h",
        },
        "coefficient_eps": None if given["use_diff_eps"] else 1e-5,
        "init": _block(given["cell_type"] or "identity", {**given, "in_chs": in_channels}),
        "replace_source": _replaces_source(planes, given) or None,
        "activation": _activation(given),
        "before": "h" if given["init_h0_h"] else "f",
        "source": not given["no_f"],
        "residual": bool(given["use_res"]),
    }
    return channels, options


def _precision(state_dict: Mapping[str, Tensor]) -> torch.dtype:
    kinds = (tensor.dtype for tensor in state_dict.values() if tensor.is_floating_point())
    return next(kinds, torch.get_default_dtype())


def _told_by_weights(
    config: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> Mapping[str, Any]:
    """`default` is an identity, unless the weights hold a plain convolution for it."""
    convolutions = {"custom_uv": "convg.weight", "custom_dxy": "convDx.weight"}
    plain = {
        option: ""
        for option, weight in convolutions.items()
        if config.get(option) == "default" and weight in state_dict
    }
    return {**config, **plain}


def _replaces_source(planes: int, given: Mapping[str, Any]) -> bool:
    out_channels = given["out_chs"] or planes
    return bool(given["stride"] != 1 or _in_channels(planes, given) != out_channels)


def _in_channels(planes: int, given: Mapping[str, Any]) -> int:
    channels: int = given["in_chs"] or planes
    return channels


def _coefficient(name: str, channels: int, given: Mapping[str, Any]) -> dict[str, Any]:
    if name == "":
        size = {"kernel_size": given["dw_kernel_size"], "dilation": given["dilation"]}
        return {"block": "depthwise", **size, "bias": bool(given["old_style"])}
    return _block(name, {**given, "in_chs": channels, "stride": 1})


def _block(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    check_choice("block type", name, _BLOCKS)
    options: dict[str, Any] = {}
    if name == "DwConv":
        options = {"bias": True}
    elif name == "BasicBlock":
        options = {"separable": bool(given["separable"])}
    elif name == "InvertedResidualCell":
        options = _inverted_residual(given)
    elif name == "DartCell":
        options = _darts_cell(given)
    return {"block": _BLOCKS[name], **options}


def _inverted_residual(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "in_channels": given["in_chs"],
        "stride": given["stride"],
        "kernel_size": given["dw_kernel_size"],
        "expand_kernel": given["exp_kernel_size"],
        "project_kernel": given["pw_kernel_size"],
        "dilation": given["dilation"],
        "expansion": given["exp_ratio"],
        "activation": _activation(given),
        "squeeze": _squeeze(given),
        "skip": not given["noskip"],
        "drop_path": given["drop_path_rate"],
    }


def _squeeze(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Their kinds of squeeze-and-excitation; `mbv3` rounds its width to a multiple of 8."""
    options = given["se_layer"]
    if not options:
        return None
    check_known(options, ("kind", "rd_ratio"), "se_layer")
    check_choice("se_layer kind", options["kind"], ("effnet", "mbv3"))
    width = round_channels(given["in_chs"] * given["exp_ratio"]) * options.get("rd_ratio", 0.25)
    if options["kind"] == "mbv3":
        channels = round_channels(width)
        return {"channels": channels, "activation": "relu", "gate": "hardsigmoid"}
    return {"channels": round(width), "activation": _activation(given), "gate": "sigmoid"}


def _darts_cell(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "in_channels": given["C_prev_prev"],
        "width": given["C_curr"],
        "genotype": given["genotype"],
        "reduction": bool(given["reduction"]),
        "reduction_before": bool(given["reduction_prev"]),
    }


def _activation(given: Mapping[str, Any]) -> str:
    name = given["act_layer"] or ("silu" if given["use_silu"] else "relu")
    return _ACTIVATIONS.get(name, name)


def _check_defined(given: Mapping[str, Any]) -> None:
    if not given["nonlinear_pde"]:
        raise ConfigError("nonlinear_pde=False is not defined by the papers, expected True")
    check_choice("norm_layer", given["norm_layer"], ("BatchNorm2d",))
    if given["pad_type"]:
        raise ConfigError(f"pad_type must be empty, got {given['pad_type']!r}")


def _load(layer: GlobalLayer, state_dict: Mapping[str, Tensor]) -> None:
    wanted = layer.authors_state_dict()
    missing, left_over = wanted.keys() - state_dict.keys(), state_dict.keys() - wanted.keys()
    if missing or left_over:
        raise CheckpointError(
            "the weights do not fit the options: "
            f"missing {sorted(missing)}, unexpected {sorted(left_over)}",
            hint="pass the configuration that these weights were trained with",
        )
    for name, tensor in wanted.items():
        if tensor.shape != state_dict[name].shape:
            found, expected = tuple(state_dict[name].shape), tuple(tensor.shape)
            raise CheckpointError(f"{name} has shape {found}, the options ask for {expected}")
    layer.load_state_dict(to_ours(state_dict))
