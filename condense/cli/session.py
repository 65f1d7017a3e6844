"""What every command has: the run folder, the shared options, the three streams, the exit codes."""

import contextlib
import errno
import json
import logging
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, ClassVar

import typer

from condense.errors import EXIT_INPUT, CondenseError, ConfigError
from condense.run import Run

SCHEMA = 1
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
LOGGER = logging.getLogger("condense")


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what handles Ctrl-C handles it too."""

    exit_code = EXIT_TERMINATED


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The options that every command takes, and what is printed through them."""

    PANEL: ClassVar = "Everywhere"

    run_folder: Annotated[
        Path, typer.Option("--run", metavar="DIR", help="Run folder.", show_default=True)
    ] = Path("condense-run")
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done.")] = False
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps … or auto.")] = "auto"
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.")] = None
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of everything that is drawn.")
    ] = 0
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite what exists.")] = False
    is_silent: bool = False  # no result on stdout: a step of a longer command

    @property
    def run(self) -> Run:
        """The run folder as it is on disk now."""
        return Run(self.run_folder)

    @property
    def torch_device(self) -> str:
        """Where to compute: what was asked for, or the GPU if there is one.

        Raises:
            ConfigError: If there is no such device here.
        """
        import torch

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"there is no device {self.device!r} here", hint="leave --device out, or use cpu"
            ) from error
        return self.device

    def refuse_to_overwrite(self, *names: str) -> None:
        """Stop before any work if a file of the run would be overwritten without --force.

        Raises:
            CondenseError: For the first that exists.
        """
        for path in map(self.run.path, names):
            if path.exists() and not self.force:
                raise CondenseError(f"{path} exists already", hint="--force makes it again")

    def emit(self, document: dict[str, Any], *shown: Any) -> None:
        """Print the result on stdout: `document` with --json, else what is to be shown."""
        if self.is_silent:
            return
        if self.as_json:
            typer.echo(json.dumps({"schema": SCHEMA, **document}, indent=2, allow_nan=False))
            return
        console = _console(stderr=False)
        for item in shown:
            console.print(item, markup=False, highlight=False, soft_wrap=isinstance(item, str))

    def note(self, message: str) -> None:
        """Say something on stderr that --quiet silences."""
        if not self.quiet:
            typer.echo(message, err=True)

    def warn(self, message: str) -> None:
        """Say something on stderr that --quiet does not silence."""
        typer.echo(f"warning: {message}", err=True)

    def next(self, words: str) -> None:
        """Name the command that comes next."""
        folder = shlex.quote(str(self.run_folder))
        option = "" if self.run_folder == Session().run_folder else f" --run {folder}"
        self.note(f"next: condense {words}{option}")


@contextlib.contextmanager
def expected_failures(session: Session, *, is_resumable: bool = False) -> Iterator[None]:
    """Turn a user's mistake into a sentence, a hint and an exit code; our faults pass."""
    hint = "the same command with --resume goes on from there" if is_resumable else None
    before, level = signal.signal(signal.SIGTERM, _terminate), LOGGER.level
    handler = _show_log(verbose=session.verbose)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # --arch mymodule:factory, which lies where the user stands
    try:
        if session.threads is not None:
            import torch

            torch.set_num_threads(session.threads)
        if session.device != "auto":
            _ = session.torch_device  # one that is not there is told before any work
        yield
    except CondenseError as error:
        _fail(str(error), error.hint, error.exit_code, error)
    except KeyboardInterrupt as error:
        code = getattr(error, "exit_code", EXIT_INTERRUPTED)
        _fail("terminated" if code == EXIT_TERMINATED else "interrupted", hint, code, error)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail("not enough memory", "try a smaller --batch-size", EXIT_INPUT, error)
    except OSError as error:
        if error.errno == errno.EPIPE:  # `condense report | head`: whoever reads has had enough
            raise
        place = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        _fail(f"{place}{reason}", "check the path, the disk and the rights", EXIT_INPUT, error)
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        signal.signal(signal.SIGTERM, before)


def _show_log(*, verbose: bool) -> logging.Handler:
    """Show what the library logs as this command line shows everything: `warning: …` on stderr."""
    handler = _ToStderr()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO if verbose else logging.WARNING)
    return handler


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


def _is_out_of_memory(error: BaseException) -> bool:
    """Of Python, of the GPU (a class of torch's, which may not be loaded), of torch on the CPU."""
    names = ("MemoryError", "OutOfMemoryError")
    return type(error).__name__ in names or "can't allocate memory" in str(error)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _fail(message: str, hint: str | None, code: int, cause: BaseException) -> None:
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    raise typer.Exit(code) from cause


def _console(*, stderr: bool) -> Any:
    from rich.console import Console

    return Console(stderr=stderr)
