"""The command line, step by step in a folder of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from condense.cli.app import app

Steps = Callable[..., dict[str, Any]]


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Run a command that has to succeed; its JSON document."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> dict[str, Any]:
        line = [*map(str, words), "--json", "--quiet"]
        result = CliRunner().invoke(app, line, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    return run
