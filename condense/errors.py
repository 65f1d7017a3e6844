"""What can go wrong through no fault of condense: a sentence, a hint and an exit code each."""

EXIT_FAULT, EXIT_USAGE, EXIT_INPUT, EXIT_TARGET = 1, 2, 3, 4


class CondenseError(Exception):
    """A user's mistake or an unusable input.

    Args:
        message: What was found and what was expected; lower case, no full stop.
        hint: What to do next, as one line.
    """

    exit_code = EXIT_INPUT

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(CondenseError):
    """An option has a value that it cannot take."""

    exit_code = EXIT_USAGE


class UnknownNameError(ConfigError):
    """A name that nothing goes by; the message lists what there is."""


class CheckpointError(CondenseError):
    """A model file that cannot be used."""


class UntrustedFileError(CheckpointError):
    """A model file that would run code when opened."""


class DataError(CondenseError):
    """A data set that cannot be used."""


class NothingToConvertError(CondenseError):
    """A model or a selection of stages without anything to replace."""


class SelfCheckError(CondenseError):
    """Our own output failed its check: an export that disagrees, a recount that differs."""

    exit_code = EXIT_FAULT


class TargetNotMetError(CondenseError):
    """Everything ran, and the stated target was not reached."""

    exit_code = EXIT_TARGET
