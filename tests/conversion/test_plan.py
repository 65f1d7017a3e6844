"""A plan is plain data."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condense.conversion import Plan, Replacement
from condense.errors import ConfigError

names = st.text(min_size=1, max_size=6)
options = st.dictionaries(names, st.one_of(st.integers(), st.booleans(), names), max_size=2)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    blocks = draw(st.lists(names, unique=True, min_size=1, max_size=5))
    cut = draw(st.integers(1, len(blocks)))
    parts = [part for part in (blocks[:cut], blocks[cut:]) if part]
    return Plan(
        replacements=tuple(
            Replacement(
                stage=draw(names),
                blocks=tuple(part),
                layer=draw(names),
                count=draw(st.integers(1, 3)),
                channels=draw(st.integers(1, 99)),
                options=draw(options),
            )
            for part in parts
        ),
        input_size=(3, draw(st.integers(1, 99)), 8),
        seed=draw(st.integers(0, 99)),
        control=draw(st.booleans()),
        verdicts=tuple(draw(st.lists(options, max_size=2))),
    )


@given(plan=plans())
def test_a_plan_survives_json(plan: Plan) -> None:
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def values(**changes: Any) -> dict[str, Any]:
    item = {"stage": "layer1", "blocks": ["layer1.1"], "layer": "global", "channels": 4}
    return {"replacements": [item], "input_size": [3, 8, 8]} | changes


def test_missing_keys_have_defaults() -> None:
    plan = Plan.from_dict(values())
    assert (plan.seed, plan.control, plan.verdicts) == (0, False, ())
    assert (plan.replacements[0].count, plan.replacements[0].options) == (1, {})


def test_the_control_is_the_same_plan() -> None:
    plan = Plan.from_dict(values())
    assert plan.as_control().control
    assert plan.as_control().replacements == plan.replacements


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "a plan has no key 'sed'"),
        ({"schema": 9}, "a plan has schema 1, got 9"),
        ({"seed": "x"}, "seed must be a whole number >= 0, got 'x'"),
        ({"seed": True}, "seed must be a whole number"),
        ({"control": 1}, "control must be true or false, got 1"),
        ({"input_size": [3, 8]}, r"input_size must be three whole numbers \(C, H, W\)"),
        ({"input_size": 3}, "input_size must be three"),
        ({"verdicts": ["x"]}, "verdicts must be a list of mappings"),
        ({"replacements": 3}, "replacements must be a list, got 3"),
        ({"replacements": [3]}, "a plan is made of mappings, got 3"),
        ({"replacements": [{"stage": "x"}]}, "needs the key 'blocks', it is missing"),
    ],
)
def test_a_wrong_plan_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan.from_dict(values(**changes))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blocks", []),
        ("blocks", "b"),
        ("count", 0),
        ("channels", "4"),
        ("options", []),
        ("layer", 1),
    ],
)
def test_a_wrong_replacement_is_refused(key: str, value: object) -> None:
    item = values()["replacements"][0] | {key: value}
    with pytest.raises(ConfigError, match=f"a plan's {key} must be"):
        Plan.from_dict(values(replacements=[item]))


def test_an_unknown_key_gets_the_nearest_as_a_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        Plan.from_dict(values(sed=1))
    assert caught.value.hint == "did you mean 'seed'?"


def test_no_block_is_replaced_twice() -> None:
    item = values()["replacements"][0]
    with pytest.raises(ConfigError, match=r"'layer1\.1' appears twice"):
        Plan.from_dict(values(replacements=[item, item]))


def convolution(**changes: Any) -> dict[str, Any]:
    item = {"stage": "layer1", "blocks": ["layer1.0.conv1"], "layer": "linear-mix", "channels": 4}
    return values(scope="conv", replacements=[item | changes])


def test_a_plan_for_convolutions_has_no_control() -> None:
    plan = Plan.from_dict(convolution())
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert not plan.has_control
    with pytest.raises(ConfigError, match="removes no block, so it has no control"):
        plan.as_control()


@pytest.mark.parametrize(
    "changes",
    [{"layer": "global"}, {"count": 2}, {"options": {"dt": 1}}, {"blocks": ["a", "b"]}],
)
def test_a_convolution_gives_way_to_one_plain_mix(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="puts one linear-mix without options in the place"):
        Plan.from_dict(convolution(**changes))


def test_plans_from_before_there_were_scopes_are_of_stages() -> None:
    assert Plan.from_dict(values()).scope == "stage"
    with pytest.raises(ConfigError, match="scope must be one of stage, conv, got 'block'"):
        Plan.from_dict(values(scope="block"))
