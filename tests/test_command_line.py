"""The command line as a user meets it, end to end on the embedded digits."""

import json
import subprocess
import sys

import pytest
from places import vitq

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("command_line")]
PICK = "digits_vit and (fp32/ or minmax/ or repq_vit/) and (FP32 or W4A4)"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One small run that all tests look at."""
    root = tmp_path_factory.mktemp("run")
    ran = vitq("run", "smoke", "-k", PICK, "--limit", 200, "--results", "r", cwd=root)
    assert ran.returncode == 0, ran.stderr
    return root, ran


def test_a_run_prints_its_table_and_keeps_whole_records(done):
    root, ran = done
    assert "repq_vit/classification/digits_vit/W4A4/seed0" in ran.stdout
    records = [json.loads(line) for line in (root / "r" / "records.jsonl").read_text().splitlines()]
    for record in records:
        assert record["status"] == "done"
        assert record["metrics"]["top1"]["n"] == 200
        assert record["fp32"]["top1"]["n"] == 200
        assert record["metrics"]["top1"]["stderr"] is not None
        assert record["size"]["packed_mb"] > 0
        assert record["operations"]["macs"] > 0
        assert {"fp32"} <= {row["exec"] for row in record["latency"]}
        assert record["weights_sha256"]
        assert record["provenance"]["packages"]["torch"]
        assert len((root / "r" / record["files"]["subset"]).read_text().split()) == 200
        assert len((root / "r" / record["files"]["calibration"]).read_text().split()) == 32


def test_running_again_does_nothing(done):
    root, _ = done
    before = (root / "r" / "records.jsonl").read_bytes()
    again = vitq("run", "smoke", "-k", PICK, "--limit", 200, "--results", "r", cwd=root)
    assert again.returncode == 0
    assert "3 of them finished before" in again.stdout
    assert (root / "r" / "records.jsonl").read_bytes() == before


def test_the_same_cell_alone_gives_the_same_record(done):
    root, _ = done
    alone = vitq("run", "smoke", "-k", f"{PICK} and repq", "--limit", 200, "--results", "alone", cwd=root)
    assert alone.returncode == 0

    def result(folder):
        lines = (root / folder / "records.jsonl").read_text().splitlines()
        record = next(r for r in map(json.loads, lines) if r["cell"]["method"] == "repq_vit")
        return record["metrics"], record["details"]["logits_sha256"], record["size"], record["operations"]

    assert result("alone") == result("r"), "not the same bit for bit"


def test_report_compare_show_and_gate(done):
    root, _ = done
    report = vitq("report", "smoke", "--results", "r", cwd=root)
    assert report.returncode == 0, report.stderr
    text = (root / "r" / "report" / "report.md").read_text()
    assert "repq_vit" in text
    assert list((root / "r" / "report").glob("*.png"))
    assert vitq("compare", "smoke", "--results", "r", cwd=root).returncode == 4, "digits are compared with no paper"
    shown = vitq("show", "repq_vit/", "--results", "r", "--layers", cwd=root)
    assert shown.returncode == 0, shown.stderr
    assert "blocks.0.attn.qkv" in shown.stdout
    gate = vitq("gate", "smoke", "--results", "r", "--baseline", "r", cwd=root)
    assert gate.returncode == 4, gate.stdout
    assert "is the results folder itself" in gate.stdout


def test_a_changed_accuracy_does_not_pass_the_gate(done):
    root, _ = done
    text = (root / "r" / "records.jsonl").read_text()
    for way in (+1.0, -1.0):
        lines = [json.loads(line) for line in text.splitlines()]
        for line in lines:
            if line["kind"] == "accuracy":
                top1 = line["metrics"]["top1"]
                top1["value"] = min(100.0, top1["value"] + way)
        changed = root / f"changed{way}.jsonl"
        changed.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert vitq("gate", "smoke", "--results", "r", "--baseline", changed, cwd=root).returncode == 1


def test_dry_run_and_lists(tmp_path):
    dry = vitq("run", "smoke", "--dry-run", "--results", "nowhere", cwd=tmp_path)
    assert dry.returncode == 0
    assert "to run" in dry.stdout
    assert not (tmp_path / "nowhere").exists()
    for what in ("methods", "models", "suites", "cells"):
        listed = vitq("list", what, cwd=tmp_path)
        assert listed.returncode == 0
        assert listed.stdout.strip()


def test_help_and_a_finished_suite_need_no_torch():
    heavy = "torch", "timm", "matplotlib", "sklearn", "scipy"
    code = (
        f"import vitq.benchmarks.session, vitq.benchmarks.listing, sys; print([m for m in {heavy} if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_accounting_runs_without_data_or_weights(tmp_path):
    ran = vitq("run", "accounting", "-k", "deit_small and (fp32 or repq_vit)", "--results", "a", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    compared = vitq("compare", "accounting", "--results", "a", cwd=tmp_path)
    assert compared.returncode == 0, compared.stdout
    assert "reproduced" in compared.stdout


def test_verify_says_what_it_checked(tmp_path):
    checked = vitq("verify", "smoke", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert "digits_swin" in checked.stdout
