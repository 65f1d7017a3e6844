"""Fixtures that every part of the suite shares."""

import os
from collections.abc import Iterator
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


@pytest.fixture(autouse=True, scope="session")
def _own_latency_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The suite neither reads nor writes the latencies that the user's own runs measured."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("cache"))
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setenv("LOCALAPPDATA", folder)
        yield
