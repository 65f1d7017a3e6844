"""`condense report`: everything that a run holds, measured side by side."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from condense.cli.options import DataOption, OutputOption
from condense.cli.session import Session
from condense.errors import CondenseError
from condense.run import Run, written_whole

Format = Literal["table", "json", "csv", "md", "html"]


def report(
    session: Session,
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Run folders; default: --run.")
    ] = None,
    data: DataOption = None,
    runtimes: Annotated[
        str, typer.Option(help="torch, torch_compile (minutes), onnxruntime; commas between.")
    ] = "torch,onnxruntime",
    form: Annotated[Format, typer.Option("--format", help="How to show it.")] = "table",
    output: OutputOption = None,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Measure again and compare with report.json.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=2, help="Rounds of timing.")] = 20,
) -> None:
    """Compare the original, the converted, the finetuned and the control models of a run."""
    from condense.reporting.of_run import report_run

    if output is not None and output.exists() and not session.force:
        raise CondenseError(f"{output} exists already", hint="--force overwrites it")
    documents = []
    for folder in runs or [session.run_folder]:
        run = Run(folder)
        recorded = _recorded(run) if recheck else None
        document = report_run(
            run,
            data=session.data(data),
            device=session.torch_device,
            runtimes=runtimes.split(","),
            repeats=repeats,
            command=" ".join(["condense", *sys.argv[1:]]),
            seed=session.seed,
        )
        if recorded is None:
            _save(run, document)
        documents.append(document if recorded is None else _compared(document, recorded))
    _show(session, documents, "json" if session.as_json else form, output)
    for warning in (text for document in documents for text in document["warnings"]):
        session.warn(warning)
    session.next("export")


def _show(
    session: Session, documents: list[dict[str, Any]], form: Format, output: Path | None
) -> None:
    from condense.reporting import to_csv, to_html, to_markdown, to_table

    def as_json() -> str:
        whole = documents[0] if len(documents) == 1 else {"schema": 1, "reports": documents}
        return json.dumps(whole, indent=2, allow_nan=False) + "\n"

    if form == "json":
        texts = [as_json()]
    elif form == "table":
        texts = []
    else:
        render = {"csv": to_csv, "md": to_markdown, "html": to_html}[form]
        texts = [render(document) for document in documents]
    if output is None and form == "table":
        for document in documents:
            session.emit({}, to_table(document), *document.get("recheck", []))
    elif output is None:
        typer.echo("\n".join(texts), nl=False)
    else:
        body = "\n".join(texts) or "\n".join(to_markdown(document) for document in documents)
        with written_whole(output, force=session.force) as path:
            path.write_text(body, encoding="utf-8")
        session.note(f"written: {output}")


def _save(run: Run, document: dict[str, Any]) -> None:
    from condense.reporting import to_html

    with written_whole(run.path("report.json"), force=True) as path:
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with written_whole(run.path("report.html"), force=True) as path:
        path.write_text(to_html(document), encoding="utf-8")


def _recorded(run: Run) -> dict[str, Any]:
    path = run.path("report.json")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CondenseError(
            f"{path} is not a report to compare with", hint="make one with: condense report"
        ) from error
    return found


def _compared(document: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    from condense.reporting import recheck

    return document | {"recheck": recheck(recorded, document)}
