"""A training on the terminal: a bar with images a second and the time left, a line per epoch."""

import sys
from typing import Any

import typer

from condense.cli.session import Session


def progress_for(session: Session, title: str) -> Any:
    """Who watches a training: a bar on a terminal, else a line per epoch; nobody if --quiet."""
    if session.quiet:
        return None
    return Bar(title) if sys.stderr.isatty() else Lines(title)


class Lines:
    """One line per epoch, for logs."""

    def __init__(self, title: str) -> None:
        self.title = title

    def start(self, total: int, done: int) -> None:
        """Say what begins."""
        going_on = f", going on after {done:,}" if done else ""
        typer.echo(f"{self.title}: {total:,} images{going_on}", err=True)

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        """Nothing: steps are too many for a log."""

    def epoch_done(self, record: Any) -> None:
        """Say what the epoch gave."""
        typer.echo(f"{self.title}: {epoch_line(record)}", err=True)

    def stop(self) -> None:
        """Nothing is left to say."""


class Bar:
    """A rich progress bar on stderr."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.title = title
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[speed]}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task(title, total=None, speed="")

    def start(self, total: int, done: int) -> None:
        """Show the bar."""
        self.bar.start()
        self.bar.update(self.task, total=total, completed=done)

    def advance(self, images: int, *, epoch: int, loss: float, lr: float) -> None:
        """Move it on."""
        speed = self.bar.tasks[0].speed
        self.bar.update(
            self.task,
            advance=images,
            description=f"{self.title} epoch {epoch} loss {loss:.3f}",
            speed=f"{speed:,.0f} images/s" if speed else "",
        )

    def epoch_done(self, record: Any) -> None:
        """Leave a line above the bar."""
        self.bar.console.print(f"{self.title}: {epoch_line(record)}", markup=False, highlight=False)

    def stop(self) -> None:
        """Take the bar away."""
        self.bar.stop()


def epoch_line(record: Any) -> str:
    """What an epoch gave, in a line."""
    return (
        f"epoch {record.epoch}  loss {record.train_loss:.3f}  "
        f"held-out {100 * record.val_top1:.1f} %  {record.images_per_s:,.0f} images/s"
    )
