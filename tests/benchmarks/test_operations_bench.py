"""Networks that need no other package, counted twice; the whole table is the script's own work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from jetlift.benchmarks import operations_bench
from jetlift.benchmarks.operations_child import counted
from jetlift.benchmarks.operations_networks import Network, networks
from jetlift.benchmarks.operations_table import Row

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = {
    "name": "a",
    "parameters": 1_000_000,
    "macs": 2e9,
    "flop_counter_macs": 2e9,
    "operations": 4.5e9,
    "weight_bytes": 4e6,
    "moved_bytes": 9e6,
    "fused_bytes": 5e6,
    "uncounted": [],
}


def network(**facts: Any) -> Network:
    return Network("a", "jetlift", lambda: pytest.fail("nothing is made here"), **facts)


def row(listed: float | None = None, facts: dict[str, Any] | None = None, **counts: Any) -> Row:
    return Row(network(**(facts or {})), COUNTS | counts, listed)


@pytest.mark.parametrize(
    ("found", "agrees"),
    [
        (row(), True),
        (row(2.019), True),
        (row(2.03), False),
        (row(flop_counter_macs=1.9e9), False),
        (row(flop_counter_macs=1.9e9, facts={"counter_left_out_gmac": 0.1}), True),
        (row(2.2, {"listed_left_out_gmac": -0.2}), True),
        (row(uncounted=["n (Det): no rule for this operator"]), False),
        (Row(network(), {"name": "a", "failed": "no memory"}, None), False),
    ],
)
def test_a_row_is_judged_after_what_is_explained(found: Row, *, agrees: bool) -> None:
    assert found.agrees(0.01) is agrees
    assert found.line().startswith("a ")


def test_the_counters_agree_on_a_network_with_convolutions() -> None:
    counts = counted(networks()["yolox-nano/image"])
    assert counts["macs"] == counts["flop_counter_macs"] > 1e8
    assert counts["uncounted"] == []
    assert counts["weight_bytes"] < counts["fused_bytes"] < counts["moved_bytes"]


def test_the_script_counts_in_a_child_and_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, table = tmp_path / "rows.json", tmp_path / "table.md"
    assert operations_bench.main(["nerf/field", "--json", str(kept), "--markdown", str(table)]) == 0
    (counts,) = json.loads(kept.read_text())
    assert counts["macs"] == counts["flop_counter_macs"]
    assert "1 networks, 0 beyond 1%; not counted: none" in capsys.readouterr().out
    assert "| nerf/field | jetlift |" in table.read_text()


def test_a_table_that_disagrees_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read from kept counts: nothing is counted anew."""
    kept, workloads = tmp_path / "rows.json", tmp_path / "workloads.csv"
    kept.write_text(json.dumps([COUNTS | {"name": "resnet18@224"}]))
    for gmacs, code in ((2.0, 0), (1.8141, 1)):
        workloads.write_text(f"workload_key,gmacs\nresnet18@224,{gmacs}\n")
        given = ["resnet18@224", "--from", str(kept), "--workloads", str(workloads)]
        assert operations_bench.main(given) == code
    assert "beyond: resnet18@224" in capsys.readouterr().out


def test_a_child_that_fails_is_a_row_with_its_reason() -> None:
    """Those after it are still tried, in a child of their own."""
    found = list(operations_bench._counted(["no such", "nor this"]))
    assert [item["name"] for item in found] == ["no such", "nor this"]
    assert "no such" in found[0]["failed"]


def test_every_network_is_named_once_and_none_is_made_to_list_them() -> None:
    known = networks()
    assert len(known) >= 100
    keys = [item.listed for item in known.values() if item.listed]
    assert len(keys) == len(set(keys)) >= 60
    for item in known.values():
        assert item.source in {"jetlift", "transformers", "timm", "torchvision", "ultralytics"}
        changed = item.listed_left_out_gmac or item.counter_left_out_gmac
        assert bool(changed) <= bool(item.why)
