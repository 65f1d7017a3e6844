"""`condense env`: what a bug report needs."""

from condense.cli.session import Session


def env(session: Session) -> None:
    """Show versions, processor and devices."""
    from condense.measurement import environment

    found = environment()
    width = max(map(len, found))
    session.emit(found, *(f"{key:{width}}  {value}" for key, value in found.items()))
    session.next("analyze MODEL")
