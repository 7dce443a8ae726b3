"""The command line as a user meets it, end to end on the embedded digits."""

import json
import subprocess
import sys
import textwrap

import pytest
from places import vitq

from vitq import outcomes
from vitq.benchmarks.run.store import read_lines, read_rows

pytestmark = pytest.mark.slow
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
    folder = root / "r"
    assert "repq_vit/classification/digits/digits_vit/W4A4/seed0/limit200" in ran.stdout
    for row in read_rows(folder):
        assert row.status == "done"
        assert row.metrics["top1"].n == row.fp32["top1"].n == 200
        assert row.metrics["top1"].stderr is not None
        assert row.size.packed_mb > 0
        assert row.operations.macs > 0
        assert row.latency[0].exec == "fp32"
        assert len(row.part("weights")) == 64
        assert row.provenance.packages["torch"]
        assert row.provenance.threads == 1
        assert len((folder / row.files["subset"]).read_text().split()) == 200
        right = outcomes.read(folder / row.outcomes, row.metrics).right["top1"]
        assert 100 * right.mean() == pytest.approx(row.metrics["top1"].value)
        assert (folder / row.model_file.path).stat().st_size == row.model_file.bytes
        if row.cell.method != "fp32":
            assert (row.calibrated.read, row.calibrated.given, row.calibrated.evaluated) == (32, 32, 0)
            assert len((folder / row.files["calibration"]).read_text().split()) == 32


def test_the_file_of_a_model_gives_the_outputs_that_were_measured(done):
    """In this process, with the record's threads: the same bits on the first validation batch."""
    root, _ = done
    row = next(r for r in read_rows(root / "r") if r.cell.method == "repq_vit")
    code = f"""
        import hashlib, sys, torch, vitq
        torch.set_num_threads(1)
        from vitq.methods.toolkit import devices
        devices.make_deterministic()
        from vitq.tasks import registry
        from vitq.tasks.places import Places
        task = registry.load("classification")
        loaded = task.load_model("digits_vit", Places())
        data = task.open_data("digits", loaded, Places(), limit=200, seed=0, calibration={{}})
        with torch.inference_mode():
            logits = task.forward(vitq.load({str(root / "r" / row.model_file.path)!r}), next(iter(data.validation())))
        print(hashlib.sha256(logits.float().contiguous().numpy().tobytes()).hexdigest())
    """
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert said.stdout.strip() == row.output_sha256, said.stderr


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
        row = next(r for r in read_rows(root / folder) if r.cell.method == "repq_vit")
        return row.metrics, row.fp32, row.output_sha256, row.size, row.operations, row.model_file.sha256, row.key

    assert result("alone") == result("r"), "not the same bit for bit"


def test_what_is_wanted_besides_is_measured_without_doing_the_rest_again(done):
    """Another subset needs the accuracy alone: the model is read from its file."""
    root, _ = done
    before = len(read_lines(root / "r"))
    words = ("run", "smoke", "-k", f"{PICK} and repq", "--results", "r")
    dry = vitq(*words, "--limit", 100, "--dry-run", cwd=root).stdout
    assert "to run    repq_vit/classification/digits/digits_vit/W4A4/seed0/limit100  (accuracy)" in dry
    assert vitq(*words, "--limit", 100, cwd=root).returncode == 0
    kinds = [line.kind for line in read_lines(root / "r")[before:]]
    assert sorted(kinds) == ["accuracy", "accuracy", "cell"], "FP32 and the model on the other subset, and who asked"


def test_report_compare_show_and_clean(done):
    root, _ = done
    report = vitq("report", "smoke", "--results", "r", cwd=root)
    assert report.returncode == 0, report.stderr
    text = (root / "r" / "report" / "report.md").read_text()
    assert "repq_vit" in text
    assert list((root / "r" / "report").glob("*.png"))
    assert vitq("compare", "smoke", "--results", "r", cwd=root).returncode == 4, "digits are compared with no paper"
    cell = "repq_vit/classification/digits/digits_vit/W4A4/seed0/limit200"
    shown = vitq("show", cell, "--results", "r", "--layers", cwd=root)
    assert shown.returncode == 0, shown.stderr
    for word in ("blocks.0.attn.qkv", "identity weights", "identity code of the method", "key accuracy"):
        assert word in shown.stdout
    (root / "r" / "models" / "stray.safetensors").write_bytes(b"x" * 1000)
    assert "would delete 1 files" in vitq("clean", "smoke", "--results", "r", "--dry-run", cwd=root).stdout
    assert "deleted 1 files" in vitq("clean", "smoke", "--results", "r", cwd=root).stdout
    again = vitq("run", "smoke", "-k", PICK, "--limit", 200, "--results", "r", cwd=root)
    assert "3 of them finished before" in again.stdout
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
    modules = ", ".join(f"vitq.benchmarks.commands.{name}" for name in ("run", "names", "results", "show"))
    code = f"import {modules}, sys; print([m for m in {heavy} if m in sys.modules])"
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
