"""`condense zoo`: counted from the networks, beside the figures that the papers print."""

import json
from dataclasses import replace
from functools import partial
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from condense.cli.app import app
from condense.errors import UnknownNameError
from condense.models import MODELS, PUBLISHED
from condense.models.global_resnet import global_resnet
from condense.reporting import zoo
from condense.reporting.zoo import build_zoo, zoo_rows

KEYS = {"name", "params", "macs_paper", "macs", "elementwise_ops", "depth_blocks", "published",
        "note"}  # fmt: skip


def counted(name: str) -> dict[str, Any]:
    return build_zoo(zoo_rows(name)[:1])["networks"][0]


def test_a_row_has_ours_and_the_papers() -> None:
    row = counted("resnet32_global")
    assert row.keys() >= KEYS
    assert (row["params"], row["depth_blocks"]) == (161_850, 7)
    assert row["macs_paper"] == pytest.approx(15.360e6, rel=1e-3)
    assert row["published"]["params"] == 162e3
    assert row["published"]["source"] == "paper A, table 1"
    assert row["published"]["top1"] == 0.9193
    assert row["difference"]["params"] == pytest.approx(161_850 / 162e3 - 1)
    assert row["reproduced"] is False  # seven blocks, where the paper says six
    assert "two networks" in row["note"]


def test_widening_a_network_changes_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    before = counted("resnet32_global")
    wider = partial(global_resnet, 1, bias=True, widths=(32, 64, 128, 128))
    spec = replace(MODELS["resnet32_global"], build=wider)
    monkeypatch.setitem(MODELS._entries, "resnet32_global", spec)
    after = counted("resnet32_global")
    for key in ("params", "macs_paper", "macs", "elementwise_ops"):
        assert after[key] > 1.9 * before[key], key
    assert after["published"] == before["published"]
    assert after["reproduced"] is False


def test_a_deeper_network_is_deeper(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(MODELS["resnet32_global"], build=partial(global_resnet, 2))
    monkeypatch.setitem(MODELS._entries, "resnet32_global", spec)
    assert counted("resnet32_global")["depth_blocks"] == 11


def test_a_control_has_no_published_figures() -> None:
    row = counted("resnet32_global_control")
    assert row["published"]["params"] is None
    assert row["difference"] == {"params": None, "macs_paper": None}
    assert row["reproduced"] is None


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match="no network 'densenet_globl'; there are: "
    ) as caught:
        zoo_rows("densenet_globl")
    assert caught.value.hint == "did you mean 'densenet_global'?"


def test_rows_that_cannot_be_reproduced_say_why() -> None:
    rows = {row.name: row.remark for row in PUBLISHED}
    mobile = ("mobilenet_v2_global", "mobilenet_v3_large_global", "efficientnet_b0_global")
    for name in (*mobile, "neupde", "mdeq"):
        assert "cannot be reproduced" in str(rows[name])


def test_an_adaptive_network_is_counted_at_a_fixed_number_of_evaluations() -> None:
    row = counted("mdeq")
    assert row["options"] == {"solver": "picard", "evaluations": 19}
    assert row["published"]["macs"] == 1.5e9
    assert row["reproduced"] is True
    fewer = replace(zoo_rows("mdeq")[0], options={"solver": "picard", "evaluations": 5})
    (other,) = build_zoo([fewer])["networks"]
    assert other["params"] == row["params"]
    assert other["macs"] < 0.3 * row["macs"]
    text = StringIO()
    Console(file=text, width=80).print(zoo.zoo_details({"networks": [row]}))
    assert "counted with solver='picard', evaluations=19" in text.getvalue()


def test_a_network_of_torchvision_is_found_by_its_bare_name() -> None:
    assert zoo_rows("mobilenet_v2") == zoo_rows("torchvision:mobilenet_v2")
    with pytest.raises(UnknownNameError, match="no network 'mobilnet_v2'") as caught:
        zoo_rows("mobilnet_v2")
    assert caught.value.hint == "did you mean 'mobilenet_v2'?"


def test_the_table_fits_a_terminal() -> None:
    document = build_zoo([*zoo_rows("resnet32_global"), *zoo_rows("resnet32_global_control")])
    text = StringIO()
    Console(file=text, width=80).print(zoo.zoo_table(document), zoo.zoo_details(document))
    for part in ("161,850", "162 k -0.1 %", "7", "two networks", "paper A, table 1", "91.93 %"):
        assert part in " ".join(text.getvalue().split())
    assert "…" not in text.getvalue()


def test_the_command_prints_json_alone() -> None:
    result = CliRunner().invoke(app, ["zoo", "mnist10_global", "--json"])
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)["networks"]
    assert row["name"] == "mnist10_global"
    assert row["params"] == 524
    shown = CliRunner().invoke(app, ["zoo", "mnist10_global"])
    assert "95.03 %" in shown.stdout
    assert CliRunner().invoke(app, ["zoo", "mnist11"]).exit_code == 2


@pytest.mark.slow
def test_every_row_is_counted() -> None:
    networks = build_zoo(PUBLISHED)["networks"]
    assert len(networks) == len({(n["name"], n["dataset"]) for n in networks}) == len(PUBLISHED)
    for network in networks:
        assert all(network[key] > 0 for key in KEYS - {"name", "published", "note"})
        assert network["reproduced"] is not False or network["remark"], network["name"]
