"""`condense report`: everything that a run holds, measured side by side."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from condense.cli.options import DataOption, OutputOption
from condense.cli.session import SCHEMA, Session
from condense.errors import CondenseError, ConfigError
from condense.run import Run, written_whole

Format = Literal["table", "json", "csv", "md", "html"]
SUFFIXES: dict[str, Format] = {
    ".json": "json",
    ".csv": "csv",
    ".md": "md",
    ".html": "html",
    ".htm": "html",
}


def report(
    session: Session,
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Run folders; default: --run.")
    ] = None,
    data: DataOption = None,
    runtimes: Annotated[
        str, typer.Option(help="torch, torch_compile (minutes), onnxruntime; commas between.")
    ] = "torch,onnxruntime",
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", help="How to show it; default: a table, or as OUTPUT's name ends."
        ),
    ] = None,
    output: OutputOption = None,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Measure again and compare with report.json.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=2, help="Rounds of timing.")] = 20,
) -> None:
    """Compare the original, the converted, the finetuned and the control models of a run."""
    from condense.reporting import recheck as compare
    from condense.reporting.of_run import report_run, run_pictures

    form = _settled(form, output, as_json=session.as_json)
    if output is not None and output.exists() and not session.force:
        raise CondenseError(f"{output} exists already", hint="--force overwrites it")
    documents, pictures = [], []
    for run in map(Run, runs or [session.run_folder]):
        recorded = _recorded(run) if recheck else None
        spec = data or run.remembered_path("data")
        document = report_run(
            run,
            data=spec,
            device=session.torch_device,
            runtimes=runtimes.split(","),
            repeats=repeats,
            command=shlex.join(["condense", *sys.argv[1:]]),
            seed=session.seed,
        )
        pictures.append(run_pictures(run, data=spec, seed=session.seed))
        if recorded is None:
            _save(run, document, pictures[-1])
        else:
            document["recheck"] = compare(recorded, document)
        if data is not None:
            run.remember_path("data", data)
        documents.append(document)
    _show(session, documents, pictures, form, output)
    is_exported = all("onnx" in Run(folder) for folder in runs or [session.run_folder])
    session.next("report -o report.html" if is_exported else "export")


def _settled(form: Format | None, output: Path | None, *, as_json: bool) -> Format:
    """The format that was asked for, in whichever way."""
    if form is None and output is not None:
        form = SUFFIXES.get(output.suffix.lower())
        if form is None:
            raise ConfigError(
                f"{output} does not say what to write, expected a name in {', '.join(SUFFIXES)}",
                hint="or give --format",
            )
    if as_json and output is None and form not in (None, "json"):
        raise ConfigError(f"--json and --format {form} exclude each other", hint="leave one out")
    return form or ("json" if as_json else "table")


def _show(
    session: Session,
    documents: list[dict[str, Any]],
    pictures: list[dict[str, str]],
    form: Format,
    output: Path | None,
) -> None:
    from condense.reporting import to_table

    if form == "table" and output is None:
        for document in documents:
            session.emit({}, to_table(document), *document.get("recheck", []))
        return
    for warning in (text for document in documents for text in document["warnings"]):
        session.warn(warning)
    text = _text(documents, pictures, form)
    if output is None:
        typer.echo(text, nl=False)
        return
    with written_whole(output, force=session.force) as path:
        path.write_text(text, encoding="utf-8")
    if session.as_json:
        typer.echo(_text(documents, pictures, "json"), nl=False)
    session.note(f"written: {output}")


def _text(documents: list[dict[str, Any]], pictures: list[dict[str, str]], form: Format) -> str:
    from condense.reporting import to_csv, to_html, to_markdown

    if form == "json":
        whole = documents[0] if len(documents) == 1 else {"schema": SCHEMA, "reports": documents}
        return json.dumps(whole, indent=2, allow_nan=False) + "\n"
    if form == "html":
        both = zip(documents, pictures, strict=True)
        return "\n".join(to_html(document, pictures=drawn) for document, drawn in both)
    render = to_csv if form == "csv" else to_markdown
    return "\n".join(render(document) for document in documents)


def _save(run: Run, document: dict[str, Any], pictures: dict[str, str]) -> None:
    from condense.reporting import to_html

    with written_whole(run.path("report.json"), force=True) as path:
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with written_whole(run.path("report.html"), force=True) as path:
        path.write_text(to_html(document, pictures=pictures), encoding="utf-8")


def _recorded(run: Run) -> dict[str, Any]:
    path = run.path("report.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        is_report = found["schema"] == SCHEMA and all(model["role"] for model in found["models"])
    except (OSError, ValueError, TypeError, KeyError):
        is_report = False
    if not is_report:
        raise CondenseError(
            f"{path} is not a report to compare with", hint="make one with: condense report"
        )
    return dict(found)
