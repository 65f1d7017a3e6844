"""`condense zoo`: the papers' networks, counted here, beside the papers' figures."""

from typing import Annotated

import typer

from condense.cli.session import Session


def zoo(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One network; default: all of them.")
    ] = None,
) -> None:
    """Count the papers' networks and show the papers' figures beside."""
    from condense.reporting.zoo import build_zoo, zoo_details, zoo_rows, zoo_table

    rows = zoo_rows(name)
    session.note(f"counting {len(rows)} rows")
    document = build_zoo(rows)
    shown = [zoo_table(document)] + ([zoo_details(document)] if name else [])
    session.emit(document, *shown)
    session.next("zoo NAME" if name is None else "analyze MODEL")
