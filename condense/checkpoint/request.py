"""What a user says about a model file beside its name."""

from dataclasses import dataclass, field
from typing import Any

from condense.checkpoint.preprocessing import Preprocessing
from condense.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of `load`, checked and grouped.

    Args:
        arch: Name of the architecture, if it is not to be told from the weights.
        arch_args: Options that it is built with.
        num_classes: How many the weights must have.
        preprocessing: What of the input is not to be the architecture's default.
        trust: Whether the file may run what it wants.
    """

    arch: str | None = None
    arch_args: dict[str, Any] = field(default_factory=dict)
    num_classes: int | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    trust: bool = False

    def check_classes(self, found: int | None, where: object) -> None:
        """Compare what was found with what was asked for.

        Raises:
            CheckpointError: If they differ.
        """
        if None not in (found, self.num_classes) and found != self.num_classes:
            raise CheckpointError(
                f"{where} has {found} classes in its weights, expected {self.num_classes}",
                hint=f"leave --num-classes out, or say --num-classes {found}",
            )
