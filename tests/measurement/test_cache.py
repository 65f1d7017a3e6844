"""The cache of latencies: found again, told apart, and never in the way."""

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from condense.layers import GlobalLayer, build_layer
from condense.layers.fused import readable
from condense.measurement.cache import (
    MOST,
    LatencyCache,
    cache_folder,
    kernels_of,
    key_of,
    latency_cache,
    machine_facts,
    structure_of,
)

FACTS = {"cpu": "of the test", "shape": (16, 32, 32)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    return tmp_path / "condense" / "latencies.json"


def keep(value: object, facts: dict[str, object] = FACTS) -> None:
    with latency_cache() as cache:
        cache.put(facts, value)


def test_what_was_measured_is_found_again_with_its_date(file: Path) -> None:
    keep({"ms": 1.5})
    with latency_cache() as cache:
        assert cache.get(FACTS, dict) == {"ms": 1.5}
        assert cache.get(FACTS | {"shape": (16, 32, 31)}, dict) is None
    (entry,) = json.loads(file.read_text())["entries"].values()
    assert set(entry) == {"date", "value"}


def test_fresh_answers_nothing_and_replaces_what_there_was(file: Path) -> None:
    keep(1.0)
    keep(3.0, {"another": 1})
    with latency_cache(fresh=True) as cache:
        assert cache.get(FACTS, float) is None
        cache.put(FACTS, 2.0)
    assert LatencyCache(file).get(FACTS, float) == 2.0
    assert LatencyCache(file).get({"another": 1}, float) == 3.0


def test_what_was_measured_before_an_interrupt_is_kept(file: Path) -> None:
    def interrupted() -> None:
        with latency_cache() as cache:
            cache.put(FACTS, 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert LatencyCache(file).get(FACTS, float) == 1.0


def test_two_at_a_time_do_not_lose_each_others_entries(file: Path) -> None:
    with latency_cache() as first, latency_cache() as second:
        first.put({"a": 1}, 1.0)
        second.put({"b": 1}, 2.0)
    assert LatencyCache(file).get({"a": 1}, float) == 1.0
    assert LatencyCache(file).get({"b": 1}, float) == 2.0


def test_nothing_new_writes_nothing(file: Path) -> None:
    with latency_cache():
        pass
    assert not file.parent.exists()


def test_only_the_newest_stay(file: Path) -> None:
    file.parent.mkdir()
    old = {f"old {i}": {"date": f"2020-{i:05}", "value": i} for i in range(MOST)}
    file.write_text(json.dumps({"schema": 1, "entries": old}))
    keep(1.0)
    entries = json.loads(file.read_text())["entries"]
    assert len(entries) == MOST
    assert key_of(FACTS) in entries
    assert "old 0" not in entries


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"schema": 1}', b'{"schema": 1, "entries": [1]}', b"\xff"],
)
def test_a_corrupt_file_is_ignored_with_a_message_and_replaced(
    file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    keep(1.0)
    assert "cannot be read and is ignored" in caplog.text
    assert LatencyCache(file).get(FACTS, float) == 1.0


def test_another_schema_is_ignored(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"schema": 99, "entries": {}}')
    with latency_cache() as cache:
        assert cache.get(FACTS, float) is None


def test_an_entry_that_cannot_be_used_is_ignored(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep("much")
    with caplog.at_level(logging.WARNING):
        assert LatencyCache(file).get(FACTS, float) is None
    assert "an entry that cannot be used is ignored" in caplog.text


@pytest.mark.parametrize("hindrance", ["file in the way", "directory in the way"])
def test_what_cannot_be_written_is_no_error(
    file: Path, hindrance: str, caplog: pytest.LogCaptureFixture
) -> None:
    if hindrance == "file in the way":
        file.parent.write_text("")
    else:
        file.mkdir(parents=True)
    keep(1.0)
    assert "not kept for the next time" in caplog.text


def test_the_folder_is_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "unix"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "windows"))
    assert cache_folder("linux") == tmp_path / "unix" / "condense"
    assert cache_folder("win32") == tmp_path / "windows" / "condense"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("linux") == tmp_path / ".cache" / "condense"


def test_structure_tells_apart_what_has_another_latency() -> None:
    modules = [
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=1).to(memory_format=torch.channels_last),
        nn.Conv2d(4, 4, 3, padding=1).double(),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)),
        *(build_layer("rd-explicit", 4, {"dt": dt}) for dt in (0.1, 0.2)),
        *(GlobalLayer(4, steps=steps) for steps in (1, 2)),
    ]
    assert len({structure_of(module) for module in modules}) == len(modules)


def test_structure_does_not_depend_on_weights_or_mode() -> None:
    first, second = nn.BatchNorm2d(4), nn.BatchNorm2d(4).eval()
    nn.init.ones_(second.bias)
    assert structure_of(first) == structure_of(second)


def test_kernels_are_those_that_run() -> None:
    layer = nn.Sequential(GlobalLayer(4)).eval()
    with readable():
        assert kernels_of(layer) == ["readable"]
    assert kernels_of(nn.Conv2d(4, 4, 1)) == []
    assert kernels_of(layer.half()) == ["readable"]


def test_the_machine_is_named() -> None:
    facts = machine_facts(torch.zeros(1, dtype=torch.float64))
    assert facts["dtype"] == "torch.float64"
    assert facts["device"] == "cpu"
    assert facts["gpu"] is None
    assert facts["threads"] == torch.get_num_threads()
    json.dumps(facts)
