"""Every bad input gives one clear line and exit code 2, and loses nothing."""

import os
import shutil
import subprocess

import pytest
from places import MODEL, Machine, make_machine, vitq

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return make_machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture
def machine(template, tmp_path):
    shutil.copytree(template.root, tmp_path / "m")
    return Machine(tmp_path / "m")


def refused(done: subprocess.CompletedProcess, *says: str) -> None:
    """Exit code 2, one line that begins with vitq: and says this, no traceback."""
    assert done.returncode == 2, done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("vitq: ")]
    assert len(lines) == 1, done.stderr
    for word in says:
        assert word in lines[0], lines[0]
    assert "Traceback" not in done.stderr


def test_the_machine_itself_is_good(machine):
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert "fp32/classification" in done.stdout


def test_missing_data_folder(machine):
    shutil.rmtree(machine.data)
    refused(machine.run(), "data set folder", "is not there")


def test_data_set_without_a_place(machine):
    (machine.root / "vitq.toml").write_text("[datasets]\n")
    refused(machine.run(), "imagenet-proxy")


def test_class_unsorted_val(machine):
    for path in list(machine.data.glob("val/*/*.JPEG")):
        path.rename(machine.data / "val" / f"{path.parent.name}_{path.name}")
    for folder in list(machine.data.glob("val/n*")):
        if folder.is_dir():
            folder.rmdir()
    refused(machine.run(), "val", "synset")


def test_truncated_image_is_named(machine):
    path = machine.image()
    path.write_bytes(path.read_bytes()[:300])
    refused(machine.run(), path.name)


def test_truncated_image_leaves_other_cells_alone(machine):
    (machine.root / "tiny.yaml").write_text(
        (machine.root / "tiny.yaml")
        .read_text()
        .replace("[{method: fp32, bits: [FP32]}]", "[{method: fp32, bits: [FP32]}, minmax]")
    )
    path = next((machine.data / "train").rglob("*.JPEG"))
    for other in (machine.data / "train").rglob("*.JPEG"):
        other.write_bytes(path.read_bytes()[:300])
    done = machine.run()
    refused(done, "truncated")
    assert "done" in next(line for line in done.stderr.splitlines() if "fp32/" in line)


def test_weights_of_another_model(machine):
    import timm
    from safetensors.torch import save_file

    other = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=10)
    save_file(other.state_dict(), machine.root / "weights" / f"{MODEL}.safetensors")
    refused(machine.run(), "head")


def test_truncated_weights(machine):
    path = machine.root / "weights" / f"{MODEL}.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    refused(machine.run(), "cannot be read")


def test_missing_weights(machine):
    (machine.root / "weights" / f"{MODEL}.safetensors").unlink()
    refused(machine.run(), MODEL, "weights")


def test_unknown_cell(machine):
    refused(machine.run("-k", "nosuchcell"), "nosuchcell", "vitq list cells")


def test_typo_in_the_suite(machine):
    path = machine.root / "tiny.yaml"
    path.write_text(path.read_text().replace("methods:", "metods:"))
    refused(machine.run(), "line 5", "did you mean 'methods'")


def test_typo_in_the_site_file(machine):
    path = machine.root / "vitq.toml"
    path.write_text(path.read_text().replace("[datasets]", "[dataset]"))
    refused(machine.run(), "did you mean 'datasets'")


def test_unknown_suite_device_and_executor(machine):
    refused(vitq("run", "smok", cwd=machine.root), "did you mean 'smoke'")
    refused(machine.run("--device", "tpu7"), "tpu7")
    refused(machine.run("--executor", "slurm"), "slurm")


def test_broken_record_is_named_and_kept(machine):
    assert machine.run().returncode == 0
    path = machine.results / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"{}\n" + whole)
    refused(machine.run(), "line 1 is not a record")
    refused(vitq("gate", "tiny.yaml", "--baseline", path, cwd=machine.root), "line 1")
    assert path.read_bytes() == b"{}\n" + whole


def test_half_a_record_is_set_aside_and_the_cell_runs_again(machine):
    assert machine.run().returncode == 0
    path = machine.results / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for cut in (1, 2):  # the line that says who asked, then a measurement too
        path.write_bytes(b"".join(lines[: len(lines) - cut]) + lines[len(lines) - cut][:-40])
        done = machine.run()
        assert done.returncode == 0
        assert "records.broken" in done.stderr
        assert len(path.read_bytes().splitlines()) == len(lines)


def test_nothing_to_show_compare_or_gate(machine):
    refused(vitq("show", "fp32", "tiny.yaml", cwd=machine.root), "no records")
    refused(vitq("compare", "tiny.yaml", cwd=machine.root), "no records")
    refused(vitq("gate", "tiny.yaml", "--baseline", "nowhere.jsonl", cwd=machine.root), "no records")


def test_full_disk_keeps_what_is_finished(machine):
    disk = machine.root / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk]).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        assert machine.run("--results", disk / "r").returncode == 0
        before = (disk / "r" / "records.jsonl").read_bytes()
        subprocess.run(["dd", "if=/dev/zero", f"of={disk}/filler", "bs=4k"], stderr=subprocess.DEVNULL)
        suite = machine.root / "tiny.yaml"
        suite.write_text(suite.read_text().replace("FP32]}]", "FP32]}, minmax]"))
        refused(machine.run("--results", disk / "r"), "full")
        assert (disk / "r" / "records.jsonl").read_bytes() == before
    finally:
        subprocess.run(["umount", disk], check=True)
