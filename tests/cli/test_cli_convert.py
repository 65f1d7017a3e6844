"""`condense convert`."""

import json
from pathlib import Path

import pytest
import torch

import condense as api


@pytest.fixture
def analysed(condense):
    assert condense("analyze", "model.safetensors", "--no-latency").exit_code == 0
    return condense


def converted_in(words: list[str], condense) -> dict:
    result = condense("convert", "--json", "--quiet", *words)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_all_stages_and_their_control(analysed) -> None:
    found = converted_in([], analysed)
    assert found["schema"] == 1
    assert [item["stage"] for item in found["plan"]["replacements"]] == ["layer1", "layer2"]
    assert {model["role"]: model["params"] for model in found["models"]} == {
        "original": 112_058,
        "converted": 21_338,
        "control": 19_130,
    }
    run = json.loads(Path("condense-run/run.json").read_text())
    assert run["artefacts"].keys() == {"original", "converted", "control"}
    assert run["artefacts"]["original"]["file"] == "../model.safetensors"
    assert json.loads(Path("condense-run/plan.json").read_text()) == found["plan"]


def test_the_table_and_the_next_command(analysed) -> None:
    result = analysed("convert")
    assert result.exit_code == 0
    assert "layer1: 4 blocks become global" in result.stdout
    assert "21,338" in result.stdout
    assert result.stderr == "next: condense finetune --data DATA\n"


def test_a_model_may_be_named_here(condense) -> None:
    result = condense("convert", "model.safetensors")
    assert result.exit_code == 0, result.stderr
    assert Path("condense-run/converted.pt").exists()


def test_named_stages_only(analysed) -> None:
    found = converted_in(["--stages", "layer2"], analysed)
    assert [item["stage"] for item in found["plan"]["replacements"]] == ["layer2"]
    verdicts = {verdict["stage"]: verdict["convert"] for verdict in found["plan"]["verdicts"]}
    assert verdicts == {"layer1": False, "layer2": True}


@pytest.mark.slow
def test_auto_takes_those_that_are_faster_or_says_that_none_is(analysed) -> None:
    result = analysed("convert", "--stages", "auto")
    if result.exit_code == 0:
        assert "next: condense finetune" in result.stderr
    else:
        assert result.exit_code == 3
        assert "hint: " in result.stderr
        assert not Path("condense-run/converted.pt").exists()


def test_keep_steps_scheme_and_boundary_reach_the_plan(analysed) -> None:
    words = ["--keep", "2", "--steps", "3", "--dt", "0.1", "--scheme", "conservative"]
    found = converted_in([*words, "--boundary", "zero"], analysed)
    for item in found["plan"]["replacements"]:
        assert len(item["blocks"]) == 3
        assert item["options"] == {
            "steps": 3,
            "dt": 0.1,
            "scheme": "conservative",
            "boundary": "zero",
        }


def test_steps_are_the_number_of_layers_where_a_layer_has_none(analysed) -> None:
    found = converted_in(["--layer", "linear-mix", "--steps", "2"], analysed)
    assert {item["count"] for item in found["plan"]["replacements"]} == {2}


def test_a_dry_run_writes_the_plan_only_and_its_next_command_works(analysed) -> None:
    result = analysed("convert", "--dry-run", "--seed", "3")
    assert result.exit_code == 0
    assert result.stderr == "next: condense convert --plan condense-run/plan.json\n"
    assert sorted(path.name for path in Path("condense-run").iterdir()) == ["plan.json", "run.json"]
    follow = analysed("convert", "--plan", "condense-run/plan.json")
    assert (follow.exit_code, follow.stderr) == (0, "next: condense finetune --data DATA\n")


def test_the_plan_alone_rebuilds_the_network_bit_for_bit(analysed) -> None:
    assert analysed("convert", "--seed", "5", "--steps", "2").exit_code == 0
    Path("condense-run/plan.json").rename("kept.json")
    words = ["--plan", "kept.json", "--seed", "9"]
    assert analysed("convert", "model.safetensors", "--run", "other", *words).exit_code == 0
    one, two = (api.load(f"{run}/converted.pt").state_dict() for run in ("condense-run", "other"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_seed_draws_the_new_layers(analysed) -> None:
    analysed("convert", "model.safetensors", "--run", "a")
    analysed("convert", "model.safetensors", "--run", "b", "--seed", "1")
    one, two = (api.load(f"{run}/converted.pt").state_dict() for run in ("a", "b"))
    assert any(not torch.equal(one[key], two[key]) for key in one)


def test_nothing_is_overwritten_without_force(analysed, hashes) -> None:
    analysed("convert")
    before = hashes(Path("condense-run"))
    result = analysed("convert", "--keep", "2")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "error: condense-run/plan.json exists already\nhint: --force makes it again\n"
    )
    assert hashes(Path("condense-run")) == before
    assert analysed("convert", "--keep", "2", "--force").exit_code == 0
    assert hashes(Path("condense-run")) != before


@pytest.mark.slow
def test_a_target_in_reach_and_one_that_is_not(analysed, hashes) -> None:
    found = converted_in(["--target", "params=50%"], analysed)
    sizes = {model["role"]: model["params"] for model in found["models"]}
    assert sizes["converted"] <= sizes["original"] / 2
    before = hashes(Path("condense-run"))
    result = analysed("convert", "--target", "params=1%", "--force")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: ")
    assert hashes(Path("condense-run")) == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--layer", "globl"], "no layer named 'globl'"),
        (["--layer-arg", "stepz=2"], "stepz"),
        (["--dt", "-1"], "dt"),
        (["--scheme", "upwind"], "upwind"),
        (["--boundary", "open"], "open"),
    ],
)
def test_a_layer_that_cannot_be_is_2(analysed, words: list[str], complaint: str) -> None:
    result = analysed("convert", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr
    assert not Path("condense-run/plan.json").exists()


@pytest.mark.parametrize("target", ["params", "params=x%", "weight=50%", "params=0%", "macs=-3M"])
def test_a_target_that_means_nothing_is_2(analysed, target: str) -> None:
    result = analysed("convert", "--target", target)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")


def test_a_stage_that_does_not_exist(analysed) -> None:
    result = analysed("convert", "--stages", "layer1,layr2")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "layr2" in result.stderr
    assert "layer1, layer2" in result.stderr
    assert "hint: did you mean 'layer2'?" in result.stderr
    assert not Path("condense-run/plan.json").exists()


def test_without_a_model_it_says_where_to_begin(condense) -> None:
    result = condense("convert")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "error: condense-run has no original model yet\n"
        "hint: make it with: condense analyze MODEL\n"
    )


@pytest.mark.parametrize(
    ("content", "code", "complaint"),
    [
        (None, 3, "plan.json cannot be read: No such file or directory"),
        ("{", 3, "plan.json is not JSON, expected a plan"),
        ("[]", 2, "a plan is made of mappings"),
        ('{"replacments": []}', 2, "a plan has no key 'replacments'"),
        ('{"replacements": [], "input_size": [1, 8, 8]}', 3, "replaces nothing"),
    ],
)
def test_a_plan_that_is_none(analysed, content, code: int, complaint: str) -> None:
    if content is not None:
        Path("plan.json").write_text(content)
    result = analysed("convert", "--plan", "plan.json")
    assert (result.exit_code, result.stdout) == (code, "")
    assert complaint in result.stderr
    assert not Path("condense-run/converted.pt").exists()


def test_a_plan_of_another_network(analysed) -> None:
    assert analysed("convert", "condense:resnet20", "--run", "other", "--dry-run").exit_code == 0
    result = analysed("convert", "--plan", "other/plan.json")
    assert result.exit_code in (2, 3)
    assert result.stderr.startswith("error: ")
    assert not Path("condense-run/plan.json").exists()


@pytest.mark.slow
def test_new_layers_are_fitted_to_what_they_replace(analysed) -> None:
    analysed("convert", "model.safetensors", "--run", "plain", "--stages", "layer1")
    result = analysed("convert", "--fit", "digits", "--stages", "layer1")
    assert result.exit_code == 0, result.stderr
    one, two = (api.load(f"{run}/converted.pt").state_dict() for run in ("plain", "condense-run"))
    changed = {key for key in one if not torch.equal(one[key], two[key])}
    assert changed
    assert all(key.startswith("layer1.1.") for key in changed)


CONVOLUTIONS = ("--layer", "linear-mix", "--scope", "conv")


def test_convolutions_keep_their_blocks_and_have_no_control(analysed) -> None:
    result = analysed("convert", *CONVOLUTIONS, "--stages", "layer1")
    assert result.exit_code == 0
    assert "layer1: 10 convolutions become linear-mix\n" in result.stdout
    assert "conv1 and 10 more: kept; not asked for\n" in result.stdout
    assert "control" not in result.stdout
    assert result.stderr == (
        "no control: no block is removed; hold the converted model against the original\n"
        "next: condense finetune --data DATA\n"
    )
    assert not Path("condense-run/control.pt").exists()
    plan = json.loads(Path("condense-run/plan.json").read_text())
    assert plan["scope"] == "conv"
    follow = analysed("convert", "--plan", "condense-run/plan.json", "--force", "--json", "-q")
    assert json.loads(follow.stdout)["plan"] == plan


@pytest.mark.slow
def test_convolutions_all_the_way(analysed, hashes) -> None:
    """After a conversion of stages, whose control and finetuned models must not be taken for it."""
    short = ("--epochs", "1", "--limit", "128", "--batch-size", "64")
    assert analysed("convert").exit_code == 0
    assert analysed("finetune", "--data", "digits", *short).exit_code == 0
    refused = analysed("convert", *CONVOLUTIONS)
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert analysed("convert", *CONVOLUTIONS, "--force").exit_code == 0
    result = analysed("finetune", *short, "--force")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("no control: no block is removed")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["original", "finetuned"]
    report = analysed("report", "--json", "--repeats", "2", "--runtimes", "torch")
    found = json.loads(report.stdout)
    models = {model["role"]: model for model in found["models"]}
    assert models.keys() == {"original", "converted", "finetuned"}
    assert {model["depth_blocks"] for model in models.values()} == {10}
    assert models["finetuned"]["params"] < models["original"]["params"] / 3
    said = " ".join(found["warnings"])
    assert "finetuned has no control, as its conversion changed convolutions" in said
    assert "control is left out: control.pt is missing" in said
    assert "control_finetuned is left out: its control no longer fits" in said
    assert analysed("export").exit_code == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--scope", "conv"], "scope 'conv' needs the layer linear-mix, got 'global'"),
        (["--scope", "convs"], "scope must be one of stage, conv, got 'convs'"),
        ([*CONVOLUTIONS, "--keep", "2"], "removes no blocks, so it cannot keep 2 of them"),
        ([*CONVOLUTIONS, "--stages", "auto"], "scope 'conv' does not go with stages 'auto'"),
        ([*CONVOLUTIONS, "--target", "params=9%"], "scope 'conv' does not go with a target"),
        ([*CONVOLUTIONS, "--steps", "3"], "takes no options of the layer, got steps"),
    ],
)
def test_what_single_convolutions_cannot_be_asked_is_2(analysed, words, complaint: str) -> None:
    result = analysed("convert", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert complaint in result.stderr
    assert not Path("condense-run/plan.json").exists()


@pytest.mark.slow
def test_convolutions_are_fitted_to_what_they_replace(analysed) -> None:
    words = [*CONVOLUTIONS, "--stages", "layer2"]
    analysed("convert", "model.safetensors", "--run", "plain", *words)
    assert analysed("convert", "--fit", "digits", *words).exit_code == 0
    one, two = (api.load(f"{run}/converted.pt").state_dict() for run in ("plain", "condense-run"))
    changed = {key for key in one if not torch.equal(one[key], two[key])}
    assert changed
    assert all(key.startswith("layer2.") and "conv" in key for key in changed)


@pytest.mark.parametrize("layer", ["rd-explicit", "rd-circulant"])
def test_a_time_step_beyond_the_bound_says_the_bound(layer: str, analysed) -> None:
    result = analysed("convert", "--layer", layer, "--dt", "50")
    assert result.exit_code == 0
    assert "layer1.1: dt 50 is beyond " in result.stderr
    assert "the bound of its operator, and is cut down to it" in result.stderr
    assert "beyond" not in analysed("convert", "--layer", layer, "--dt", "0.01", "--force").stderr
