"""What to say when a model does not run on an image of the stated size."""

from collections.abc import Sequence

from torch import nn

from condense.errors import CondenseError


def describe_failure(
    error: Exception,
    stack: Sequence[tuple[str, nn.Module]],
    model: nn.Module,
    input_size: Sequence[int],
) -> CondenseError:
    """A sentence on what was given, where the model stopped, and what it seems to expect.

    Args:
        error: What the model raised.
        stack: Names and modules of the calls that had not ended, outermost first.
        model: The whole model.
        input_size: (C, H, W) of the image that it was given.
    """
    name, module = stack[-1] if stack else ("", model)
    place = f"module {name!r}" if name else "the model itself"
    size = "x".join(str(number) for number in input_size)
    message = f"the model does not run on a {size} image: {place} raised {_short(error)}"
    return CondenseError(message, hint=_expectation(module, model, input_size))


def _expectation(failed: nn.Module, model: nn.Module, input_size: Sequence[int]) -> str:
    if size := getattr(getattr(model, "origin", None), "input_size", None):
        return f"its architecture takes --input-size {'x'.join(str(number) for number in size)}"
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    if first is not None and first.in_channels != input_size[0]:
        return (
            f"its first convolution takes {first.in_channels} channels, {input_size[0]} were given"
        )
    if isinstance(failed, nn.Linear):
        return f"that layer takes {failed.in_features} features: choose another height and width"
    if isinstance(failed, nn.Conv2d):
        return (
            f"that layer takes {failed.in_channels} channels in a map of at least its kernel's size"
        )
    return "state the size that the model was made for with --input-size"


def _short(error: Exception, limit: int = 160) -> str:
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if len(lines[0]) <= limit else f"{lines[0][:limit]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
