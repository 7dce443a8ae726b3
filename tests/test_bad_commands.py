"""Commands that are wrong: one line and exit code 2, before anything is computed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import vitq_here
from places import VITQ

from vitq.benchmarks.plan.limits import cores
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.run.results_path import FILES, FOLDERS, check_results
from vitq.errors import BadInputError

CELL = "fp32/classification/digits/digits_vit/FP32/seed0"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITQ_SITE", raising=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "smoke", "--jobs", "1000000"], "cores"),
        (["run", "smoke", "--jobs", "0"], "--jobs is 0"),
        (["run", "smoke", "--jobs", "-1"], "--jobs is -1"),
        (["run", "smoke", "--jobs", "1.5"], "--jobs"),
        (["run", "smoke", "--limit", "0"], "--limit"),
        (["run", "smoke", "--limit", "9" * 40], "--limit"),
        (["run", "smoke", "--limit", "nan"], "--limit"),
        (["run", "smoke", "--scope", "backbone"], "no module 'backbone'"),
        (["run", "smoke", "--scope", "blocks.99"], "no module 'blocks.99'"),
        (["run", "smoke", "--scope", ""], "--scope"),
        (["run", "smoke", "--device", "hpu"], "no device is called 'hpu'"),
        (["run", "smoke", "--device", "meta"], "meta"),
        (["run", "smoke", "--device", "mps"], "mps"),
        (["run", "smoke", "--device", "cpu:5"], "cpu:5"),
        (["run", "smoke", "--device", ""], "no device is called ''"),
        (["run", "smoke", "--device", "cuda:99"], "cuda:99 is not here"),
        (["run", "smoke", "--device", "cuda:-1"], "cuda:-1"),
        (["run", "smoke", "--device", "CUDA"], "CUDA"),
        (["run", "smoke", "--device", "x" * 5000], "no device"),
        (["run", "smoke", "--executor", "slurm"], "slurm"),
        (["run", "smoke", "--executor", ""], "executor"),
        (["run", "smoke", "-k", ""], "-k needs an expression"),
        (["run", "smoke", "-k", "  "], "-k needs an expression"),
        (["run", "smoke", "-k", "nosuchcell"], "vitq list cells"),
        (["list", "cells", "-k", ""], "-k needs"),
        (["list", "cells", "-k", "nosuchcell"], "no cell of suite smoke"),
        (["list", "cells", "-k", "(" * 5000], "cannot be read"),
        (["list", "cells", "-k", ")" * 5000], "cannot be read"),
        (["list", "cells", "-k", "not " * 5000], "cannot be read"),
        (["list", "cells", "-k", "a" * 200_000], "characters"),
        (["list", "nothing"], "cannot list 'nothing'"),
        (["list", "method"], "did you mean 'methods'"),
        (["list", "\x1b[31m"], "\\x1b"),
        (["run", "smoke", "--results", ""], "empty"),
        (["run", "smoke", "-o", " "], "empty"),
        (["run", "smoke", "--results", "a\0b"], "NUL"),
        (["run", "smoke", "--results", "~nosuchuser/x"], "nosuchuser"),
        (["report", "smoke", "--out", ""], "empty"),
        (["gate", "--baseline", ""], "empty"),
        (["gate", "nosuchsuite", "-o", "x", "--baseline", "y"], "no suite is called 'nosuchsuite'"),
        (["gate", "--baseline", "y", "--tolerance", "nan"], "--tolerance"),
        (["gate", "--baseline", "y", "--tolerance", "-1"], "--tolerance"),
        (["gate"], "--baseline"),
        (["compare", "nosuchsuite", "-o", "x"], "no suite"),
        (["report", "nosuchsuite", "-o", "x"], "no suite"),
        (["show", "x", "nosuchsuite", "-o", "x"], "no suite"),
        (["show", ""], "empty"),
        (["show"], "Missing argument"),
        (["run", "--nosuch"], "--nosuch"),
        (["nosuch"], "nosuch"),
        (["verify", "--sample", "0"], "--sample"),
        (["run", "a" * 5000], "no suite"),
        (["run", "\udcff"], "no suite"),
    ],
)
def test_a_wrong_word_is_one_line(words: list[str], says: str) -> None:
    vitq_here(*words).refused(says)
    assert list(Path().iterdir()) == []


def test_a_command_without_words_shows_its_help() -> None:
    said = vitq_here()
    assert said.code == 2
    assert "Usage: vitq" in said.err + said.out


@pytest.mark.parametrize("depth", [1, 5000, 5001])
def test_an_expression_may_be_nested_to_any_depth(depth: int) -> None:
    assert picker("(" * depth + "a" + ")" * depth)("xax")
    assert picker("not " * depth + "a")("xax") is (depth % 2 == 0)
    assert picker("a and (b or " * depth + "c" + ")" * depth)("ac")
    assert not picker("a or not b and c")("b")


PLACES = {
    "a file": lambda path: path.write_text("x"),
    "a link to nowhere": lambda path: path.symlink_to("nowhere/at/all"),
    "a pipe": lambda path: os.mkfifo(path),
    "a loop": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", PLACES)
def test_results_go_to_a_folder_alone(kind: str) -> None:
    PLACES[kind](Path("r"))
    vitq_here("run", "smoke", "-k", CELL, "--results", "r").refused("results")
    vitq_here("run", "smoke", "-k", CELL, "--results", "r/below").refused("results")
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("place", ["/dev/null", "/dev/full", "/proc/x", "/proc/self/x", "x" * 5000, "a/" + "x" * 300])
def test_results_go_where_a_folder_can_be_made(place: str) -> None:
    vitq_here("run", "smoke", "-k", CELL, "--results", place).refused("results")


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_what_vitq_keeps_in_the_folder_is_of_its_kind(name: str) -> None:
    Path("r").mkdir()
    PLACES["a pipe"](Path("r", name))
    vitq_here("run", "smoke", "-k", CELL, "--results", "r").refused(name, "a pipe")
    Path("r", name).unlink()
    if name in FOLDERS:
        Path("r", name).write_text("")
    else:
        Path("r", name).mkdir()
    vitq_here("run", "smoke", "-k", CELL, "--results", "r").refused(name)
    check_results(Path("other"))
    assert list(Path("other").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_found_before_a_cell_runs() -> None:
    Path("r").mkdir()
    Path("r").chmod(0o500)
    if os.geteuid() == 0:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "r"], capture_output=True).returncode:
            pytest.skip("root writes everywhere, and a read-only mount cannot be made here")
        try:
            vitq_here("run", "smoke", "-k", CELL, "--results", "r").refused("Read-only")
            vitq_here("run", "smoke", "-k", CELL, "--results", "r/below").refused("Read-only")
            with pytest.raises(BadInputError):
                check_results(Path("r"))
        finally:
            subprocess.run(["umount", "r"], check=True)
    else:
        vitq_here("run", "smoke", "-k", CELL, "--results", "r").refused("denied")


def test_a_report_goes_to_a_folder_alone() -> None:
    Path("out").write_text("")
    vitq_here("report", "smoke", "--out", "out").refused("--out out is a file")
    vitq_here("report", "smoke", "--out", "out/below").refused("--out")
    vitq_here("report", "smoke", "--out", "x" * 5000).refused("--out", "too long")


def test_threads_of_a_suite_are_bound_by_the_machine() -> None:
    suite = "name: tiny\ntasks: [{dataset: digits, models: [digits_vit]}]\nbits: [W8A8]\nmethods: [minmax]\n"
    for more in ("threads: 1000000", "latency: {threads: 1000000}"):
        Path("tiny.yaml").write_text(f"{suite}{more}\n")
        vitq_here("run", "tiny.yaml", "--dry-run").refused("threads is 1000000", "cores")


def run_process(*words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    env = os.environ | {str(k): str(v) for k, v in settings.pop("env", {}).items()}  # type: ignore[attr-defined]
    return subprocess.run(
        [VITQ, *words], env=env, stderr=subprocess.PIPE, text=True, **({"stdout": subprocess.PIPE} | settings)
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_a_line() -> None:
    with Path("/dev/full").open("w") as full:
        for words in (["list", "models"], ["--help"]):
            done = run_process(*words, stdout=full)
            assert (done.returncode, done.stderr) == (
                2, "vitq: standard output cannot be written: No space left on device\n"
            )  # fmt: skip


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    process = subprocess.Popen([VITQ, "list", "cells", "full"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_any_terminal_and_any_argument_will_do() -> None:
    done = run_process("list", "methods", env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    done = run_process("run", os.fsdecode(b"\xff"), env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert "\\udcff" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.6, 1.2, 2.5, 6.0])
def test_ctrl_c_prints_one_line_from_every_process_together(seconds: float) -> None:
    command = [sys.executable, "-c", "from vitq.entry import main; main()", "run", "smoke", "-k", "binary_vit/"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err == "vitq: stopped; finished records are kept, run again to go on\n"
    assert out == ""


def test_the_bound_is_this_machine_s() -> None:
    assert cores() == (os.cpu_count() or 1)
