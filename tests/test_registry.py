"""Tables of named things."""

import pytest

from condense.errors import UnknownNameError
from condense.registry import Registry


@pytest.fixture
def table() -> Registry[int]:
    table: Registry[int] = Registry("number", group="condense.tests")
    table.register("two")(2)
    table.register("one")(1)
    return table


def test_entries_are_found_and_listed_by_name(table: Registry[int]) -> None:
    assert (table["one"], table["two"]) == (1, 2)
    assert (list(table), len(table)) == (["one", "two"], 2)
    assert "one" in table
    assert "three" not in table


def test_a_name_is_taken_once(table: Registry[int]) -> None:
    with pytest.raises(ValueError, match="there is already a number named 'one'"):
        table.register("one")(3)
    assert table["one"] == 1


def test_a_name_that_is_nearly_right(table: Registry[int]) -> None:
    with pytest.raises(UnknownNameError, match="no number named 'tow'; there are: one, two") as e:
        table["tow"]
    assert e.value.hint == "did you mean 'two'?"
    with pytest.raises(UnknownNameError) as e:
        table["xxxxxxx"]
    assert e.value.hint is None


def test_a_plugin_is_loaded_on_the_first_miss(table: Registry[int], monkeypatch) -> None:
    loaded = []

    class Point:
        def load(self) -> None:
            loaded.append(self)
            table.register("three")(3)

    def points(*, group: str) -> list[Point]:
        assert group == "condense.tests"
        return [Point()]

    monkeypatch.setattr("condense.registry.entry_points", points)
    assert table["one"] == 1
    assert loaded == []
    assert table["three"] == 3
    assert len(loaded) == 1


def test_a_table_without_plugins() -> None:
    with pytest.raises(UnknownNameError, match="no thing named 'a'; there are: "):
        Registry[int]("thing")["a"]


def test_every_table_is_full_whenever_it_is_visible() -> None:
    from condense.layers import LAYERS
    from condense.models import MODELS

    assert {"global", "linear-mix", "rd-explicit", "rd-implicit", "mobilenet"} <= set(LAYERS)
    assert {"resnet32", "resnet_digits"} <= set(MODELS)
