"""Fixtures that every part of the suite shares."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("condense", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("condense")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the golden vectors, the real data and the real checkpoints."""
    folder = os.environ.get("CONDENSE_SHARED")
    if not folder:
        pytest.skip("CONDENSE_SHARED is not set: the real data and golden vectors are absent")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"CONDENSE_SHARED names {folder}, which is not a directory")
    return path
