"""The run folder: files whole or absent, artefacts that know what they were made from."""

import json
from pathlib import Path

import pytest

from condense.errors import CondenseError
from condense.run import Run, sha256, written_whole


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with written_whole(target) as path:
        path.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert [item.name for item in target.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with written_whole(target, force=True) as path:
            path.write_text("new")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        fail()
    assert target.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_nothing_is_overwritten_unless_it_is_forced(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(CondenseError, match=r"a\.txt exists already"), written_whole(target):
        pass
    with written_whole(target, force=True) as path:
        path.write_text("new")
    assert target.read_text() == "new"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CondenseError, match="is a directory, expected a file name"):
        written_whole(tmp_path, force=True).__enter__()


@pytest.mark.parametrize(
    ("number", "hint"), [(28, "free some space"), (122, "free some space"), (13, "another place")]
)
def test_a_disk_that_refuses(tmp_path: Path, monkeypatch, number: int, hint: str) -> None:
    def refuse(_handle: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("os.fsync", refuse)
    with (
        pytest.raises(CondenseError, match="cannot be written: no") as caught,
        written_whole(tmp_path / "a.txt") as path,
    ):
        path.write_text("x")
    assert hint in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """original → converted → finetuned."""
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    made_from: tuple[str, ...] = ()
    for role in ("original", "converted", "finetuned"):
        run.path(f"{role}.pt").write_text(role)
        run.record(
            role, f"{role}.pt", made_from={source: run.hash_of(source) for source in made_from}
        )
        made_from = (role,)
    return run


def test_a_new_run_makes_no_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    assert (run.facts, list(run), "original" in run) == ({}, [], False)
    assert run.artefact("original") is None
    assert not run.folder.exists()


def test_what_was_recorded_is_found_again(run: Run) -> None:
    again = Run(run.folder)
    assert list(again) == ["original", "converted", "finetuned"]
    assert again.hash_of("converted") == sha256(again.path("converted.pt"))
    assert [again.why_stale(role) for role in again] == [None, None, None]


def test_a_file_that_is_gone_or_changed(run: Run) -> None:
    run.path("finetuned.pt").write_text("other")
    assert run.why_stale("finetuned") == "finetuned.pt was changed since"
    run.path("finetuned.pt").unlink()
    assert run.why_stale("finetuned") == "finetuned.pt is missing"


def test_made_again_makes_what_follows_stale(run: Run) -> None:
    run.path("converted.pt").write_text("with other options")
    run.record("converted", "converted.pt", made_from={"original": run.hash_of("original")})
    assert run.why_stale("converted") is None
    assert run.why_stale("finetuned") == "converted was made again since"


def test_staleness_is_handed_down(run: Run) -> None:
    run.path("original.pt").write_text("another")
    assert run.why_stale("finetuned") == (
        "its converted no longer fits: its original no longer fits: original.pt was changed since"
    )


def test_opened_with_other_options_it_is_another_artefact(run: Run) -> None:
    before = run.hash_of("original")
    run.record("original", "original.pt", made_from={}, how={"num_classes": 3})
    assert run.hash_of("original") != before
    assert run.why_stale("converted") == "original was made again since"


def test_places_are_remembered_from_wherever_one_is(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "däta").mkdir()
    (tmp_path / "däta" / "a b.npz").touch()
    (tmp_path / "däta" / "make.py").touch()
    monkeypatch.chdir(tmp_path / "däta")
    run = Run("../run")
    run.remember_path("data", "a b.npz")
    run.remember_path("code", "make.py:images")
    run.remember_path("name", "digits")
    monkeypatch.chdir("/")
    run = Run(tmp_path / "run")
    assert run.facts == {
        "data": "../däta/a b.npz",
        "code": "../däta/make.py:images",
        "name": "digits",
    }
    assert run.remembered_path("data") == str(tmp_path / "däta" / "a b.npz")
    assert run.remembered_path("code") == f"{tmp_path}/däta/make.py:images"
    assert run.remembered_path("name") == "digits"
    assert run.remembered_path("nothing") is None


def test_a_whole_folder_may_be_moved(run: Run, tmp_path: Path) -> None:
    moved = Run(run.folder.rename(tmp_path / "elsewhere"))
    assert [moved.why_stale(role) for role in moved] == [None, None, None]
    manifest = (moved.folder / "run.json").read_text()
    assert str(tmp_path) not in manifest


@pytest.mark.parametrize(
    "content", ["", "3", '{"schema": 2, "facts": {}, "artefacts": {}}', json.dumps({"schema": 1})]
)
def test_a_manifest_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(CondenseError, match="is not a run's manifest of schema 1"):
        list(Run(tmp_path))
