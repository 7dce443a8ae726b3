"""What README.md says, typed as it stands: its site file and its commands, on a small real folder, defaults only."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from pathlib import Path

import pytest
from places import make_machine, vitq

pytestmark = pytest.mark.slow
README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
CELLS = "digits_vit and (fp32/ or repq_vit/ and W4A4 or minmax/ and W8A8 or i_vit[post-training])"
"""What is run of the smoke suite: as the text has it, but for the time it takes."""


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every `$ vitq ...` line of the text, its comment dropped."""
    lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ vitq ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def site_file(root: Path, data: Path, weights: Path) -> None:
    """The text's site file with its folders put where they are here; nothing else is changed."""
    (text,) = blocks("toml")
    for theirs, ours in (("/data/imagenet", data), ("/data/proxy", data), ("/data/weights", weights)):
        assert f'"{theirs}"' in text
        text = text.replace(f'"{theirs}"', f'"{ours}"')
    (root / "vitq.toml").write_text(text, encoding="utf-8")


def small_proxy(source: Path, to: Path, images: int = 32) -> None:
    """The first photographs of both splits, with the rows of ATTRIBUTION.csv that list them."""
    with (source / "ATTRIBUTION.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    rows = [row for split in ("train/", "val/") for row in table if row["file"].startswith(split)]
    chosen = [*rows[:images], *[row for row in rows if row["file"].startswith("val/")][:images]]
    for row in chosen:
        (to / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / row["file"], to / row["file"])
    with (to / "ATTRIBUTION.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows({**row, "order": str(order)} for order, row in enumerate(chosen))


def test_the_commands_run_one_after_the_other(tmp_path: Path) -> None:
    said = commands()
    assert {words[0] for words in said} >= {"list", "run", "compare", "report", "show", "gate"}
    counted = vitq("run", "accounting", "-k", "deit_small and (fp32 or repq_vit)", cwd=tmp_path)
    assert counted.returncode == 0, counted.stderr
    for words in said:
        if words == ["run", "smoke"]:
            words = [*words, "-k", CELLS]
        if words[0] == "gate":
            (tmp_path / "baseline").mkdir()
            shutil.copyfile(tmp_path / "results" / "smoke" / "records.jsonl", tmp_path / "baseline" / "records.jsonl")
        done = vitq(*words, cwd=tmp_path)
        good = (0, 4) if words[0] == "gate" else (0,)  # 4: nothing was compared, for the baseline is this very run
        assert done.returncode in good, (words, done.stdout, done.stderr)
    assert (tmp_path / "results" / "smoke" / "report" / "report.md").is_file()


def test_photographs_run_as_the_text_says(shared: Path, tmp_path: Path) -> None:
    """64 photographs and the ViT-Tiny: verified, then run, without a setting beside the text's own."""
    small_proxy(shared / "data" / "imagenet-proxy", tmp_path / "proxy")
    site_file(tmp_path, tmp_path / "proxy", shared / "data" / "weights")
    verified = vitq("verify", "proxy", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "32 of 32 read" in verified.stdout
    ran = vitq("run", "proxy", "-k", "minmax/ and W8A8", cwd=tmp_path)  # its FP32 accuracy is measured with it
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "failed" not in ran.stdout
    assert "± " in ran.stdout


def test_a_folder_of_noise_runs_as_the_text_says(tmp_path: Path) -> None:
    """For those without the photographs: 40 made images a split, and a model of random weights."""
    machine = make_machine(tmp_path, images=20)
    site_file(tmp_path, machine.data, tmp_path / "weights")
    ran = machine.run()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "± " in ran.stdout
    assert " 40 " in ran.stdout
