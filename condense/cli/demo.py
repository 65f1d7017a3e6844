"""`condense demo`: the whole way on a small network and data that come with condense."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from condense.cli.analyze import analyze
from condense.cli.convert import convert
from condense.cli.export import export
from condense.cli.finetune import TrainingOptions, finetune
from condense.cli.options import LayerOptions, Loading
from condense.cli.report import report
from condense.cli.session import Session
from condense.errors import CondenseError

FOLDER = Path("condense-demo")
DATA = "digits"


def demo(
    session: Session,
    epochs: Annotated[int, typer.Option(min=1, help="Of the distillation.")] = 15,
) -> None:
    """Condense a small pretrained ResNet on handwritten digits, and show what was gained."""
    from condense.models.digits import WEIGHTS

    if session.run_folder == Session().run_folder:
        session = replace(session, run_folder=FOLDER)
    folder = session.run_folder
    if folder.exists() and not session.force:
        raise CondenseError(f"{folder} exists already", hint="--force makes the demo again")
    if folder.exists():
        _remove(folder)
    folder.mkdir(parents=True)
    checkpoint = folder / WEIGHTS.name
    shutil.copyfile(WEIGHTS, checkpoint)
    shown = replace(session, as_json=False)
    silent = replace(shown, is_silent=session.as_json)
    options = TrainingOptions(epochs=epochs, batch_size=64)
    _step(session, f"analyze {checkpoint}")
    analyze(session=silent, loading=Loading(), layer=LayerOptions(), model=str(checkpoint))
    _step(session, "convert --stages all")
    convert(session=silent, loading=Loading(), layer=LayerOptions())
    _step(session, f"finetune --data {DATA} --epochs {epochs} --batch-size 64")
    finetune(session=silent, training=options, loading=Loading(), data=DATA)
    _step(session, "export")
    export(session=silent, loading=Loading())
    _step(session, "report")
    report(session=session)
    session.note(f"look at {folder / 'report.html'}; now your own\nnext: condense analyze MODEL")


def _step(session: Session, words: str) -> None:
    session.note(f"\n$ condense {words} --run {session.run_folder}")


def _remove(folder: Path) -> None:
    """Remove an earlier demo, and nothing that is not one."""
    if not (folder / "run.json").exists():
        raise CondenseError(
            f"{folder} is not an earlier demo", hint="name another folder with --run"
        )
    shutil.rmtree(folder)
