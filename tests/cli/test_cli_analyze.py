"""`condense analyze`."""

import json
from pathlib import Path

import pytest
import torch

STAGE_KEYS = {
    "name",
    "blocks",
    "repeats",
    "in_shape",
    "out_shape",
    "params",
    "macs",
    "latency_ms",
    "convertible",
    "reason",
    "replacement",
}


def test_the_table_names_the_architecture_and_the_next_command(condense) -> None:
    result = condense("analyze", "model.safetensors", "--no-latency")
    assert result.exit_code == 0
    assert result.stdout.startswith("condense:resnet_digits at 1x8x8\n")
    assert "layer1: convertible" in result.stdout
    assert result.stderr == "next: condense convert --stages all\n"


def test_json_is_all_there_is_on_stdout_and_has_the_designs_keys(condense) -> None:
    result = condense("analyze", "model.safetensors", "--json", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["schema"] == 1
    assert found["architecture"] == "condense:resnet_digits"
    assert found["input_size"] == [1, 8, 8]
    assert found["totals"]["params"] == 112_058
    for stage in found["stages"]:
        assert stage.keys() >= STAGE_KEYS
        assert stage["latency_ms"] > 0
        assert stage["replacement"].keys() >= {"params", "macs", "latency_ms"}
    assert [len(stage["blocks"]) for stage in found["stages"]] == [5, 5]


def test_quiet_silences_the_next_command(condense) -> None:
    result = condense("analyze", "model.safetensors", "--no-latency", "-q")
    assert (result.exit_code, result.stderr) == (0, "")


def test_verbose_says_what_is_done(condense) -> None:
    result = condense("analyze", "model.safetensors", "--no-latency", "-v")
    assert "info: " in result.stderr


def test_the_next_command_names_a_folder_that_is_not_the_default(condense) -> None:
    result = condense("analyze", "model.safetensors", "--no-latency", "--run", "a run")
    assert result.stderr == "next: condense convert --stages all --run 'a run'\n"
    assert Path("a run/run.json").exists()


def test_the_same_again_needs_no_force_and_changes_nothing(condense, hashes) -> None:
    first = condense("analyze", "model.safetensors", "--no-latency")
    before = hashes(Path("condense-run"))
    again = condense("analyze", "model.safetensors", "--no-latency")
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert hashes(Path("condense-run")) == before


def test_another_model_in_the_same_run_is_refused(condense, hashes) -> None:
    condense("analyze", "model.safetensors", "--no-latency")
    before = hashes(Path("condense-run"))
    result = condense("analyze", "condense:resnet20", "--no-latency")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "error: condense-run is about another model, model.safetensors\n" in result.stderr
    assert "--force" in result.stderr
    assert hashes(Path("condense-run")) == before
    assert condense("analyze", "condense:resnet20", "--no-latency", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("name", "size"),
    [("condense:resnet20", "3x32x32"), ("torchvision:resnet18", "3x224x224")],
)
def test_a_network_by_name_has_random_weights_and_says_so(condense, name: str, size: str) -> None:
    result = condense("analyze", name, "--no-latency")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{name} at {size}\n")
    assert result.stderr.startswith(f"warning: {name} has random weights")
    assert Path("condense-run/original.pt").exists()


def test_random_weights_follow_the_seed_and_stay_the_runs(condense, hashes) -> None:
    words = ["analyze", "condense:resnet20", "--no-latency", "--num-classes", "7"]
    kept = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        result = condense(*words, "--run", folder, "--seed", seed)
        assert result.exit_code == 0, result.stderr
        kept.append(hashes(Path(folder))["original.pt"])
    assert kept[0] == kept[1] != kept[2]
    assert condense(*words, "--run", "a").exit_code == 0
    assert hashes(Path("a"))["original.pt"] == kept[0]
    refused = condense(*words, "--run", "a", "--seed", "1")
    assert refused.exit_code == 3
    assert "another model" in refused.stderr


def test_a_model_without_repeats_is_analysed_and_sent_away(condense) -> None:
    result = condense("analyze", "torchvision:alexnet", "--no-latency", "--json")
    assert result.exit_code == 0
    assert not any(stage["convertible"] for stage in json.loads(result.stdout)["stages"])
    assert "next: condense analyze ANOTHER_MODEL" in result.stderr


def test_the_model_is_found_from_another_folder(condense, tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "mödels and more"
    place.mkdir()
    Path("model.safetensors").rename(place / "größe 1.safetensors")
    monkeypatch.chdir(place)
    assert (
        condense("analyze", "größe 1.safetensors", "--no-latency", "--run", "lauf ü").exit_code == 0
    )
    monkeypatch.chdir("/")
    result = condense("convert", "--run", place / "lauf ü", "--json", "-q")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["models"][0]["params"] == 112_058


def test_options_of_a_bare_state_dict_are_remembered(condense) -> None:
    from condense.models import create

    torch.save(create("resnet20", num_classes=4).state_dict(), "bare.pt")
    words = ["--arch", "condense:resnet20", "--mean", "0.1,0.2,0.3", "--std", "1,1,1"]
    result = condense("analyze", "bare.pt", "--no-latency", *words, "--num-classes", 4)
    assert result.exit_code == 0, result.stderr
    assert condense("convert", "-q").exit_code == 0
    origin = torch.load("condense-run/converted.pt", weights_only=True)["origin"]
    assert list(origin["mean"]) == [0.1, 0.2, 0.3]
    assert origin["num_classes"] == 4


def test_opened_with_other_options_what_was_made_is_stale(condense) -> None:
    condense("analyze", "model.safetensors", "--no-latency")
    condense("convert")
    condense("analyze", "model.safetensors", "--no-latency", "--mean", "0.5", "--std", "0.25")
    result = condense("finetune", "--data", "digits")
    assert result.exit_code == 3
    assert "no longer fits: original was made again since" in result.stderr
