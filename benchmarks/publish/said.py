"""What is written beside published records: what was run on what, every table, and how a reader can check it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vitq.benchmarks.commands.declared_options import declared_options
from vitq.benchmarks.plan.suite import Suite
from vitq.reports import tables
from vitq.reports.compare_tables import compare_table
from vitq.reports.figure import load_figures
from vitq.reports.pictures import Picture
from vitq.reports.run_tables import ablation_table, seeds_table
from vitq.reports.run_words import latency_sections, troubles, what_was_run
from vitq.reports.verdicts import compare
from vitq.rows import Row

DATA = {
    "smoke": "the digits, scenes and models that come with vitq",
    "digits-seeds": "the digits and models that come with vitq",
    "accounting": "nothing: counts follow from the architecture",
    "proxy": "photographs that docs/proxy.md says how to get, and a ViT-Tiny known by its sha256",
    "latency": "as proxy; times are of the machine that is named",
}


def said(suite: Suite, rows: Sequence[Row]) -> str:
    """The README of one suite's records, in Markdown."""
    rows = tables.order(rows)
    comparisons = compare(rows, load_figures(), declared_options())
    sections = {
        f"`{suite.name}`": f"{suite.description.strip()}\n\n{what_was_run(rows)}\n\n{_check(suite.name)}",
        "Results": tables.results_table(rows),
        **latency_sections(rows, None),
        "Variants side by side": ablation_table(rows),
        "Over seeds": seeds_table(rows),
        "Against the papers": compare_table(comparisons),
        "Warnings and failures": troubles(rows),
    }
    return "\n\n".join(f"{'##' if at else '#'} {name}\n\n{sections[name]}" for at, name in enumerate(sections)) + "\n"


def overview(found: Mapping[str, Sequence[Row]], pictures: Sequence[Picture]) -> str:
    """The README of all of them: what each holds, where and of which code it was measured, and the pictures drawn."""
    lines = ["| suite | cells | measured on | of commit | finished | needs |", "|:--|:--|:--|:--|:--|:--|"]
    lines += [_line(name, rows) for name, rows in found.items()]
    shown = [f"![{picture.title.lower()}]({picture.file.name})\n" for picture in pictures]
    return "\n".join([_OVERVIEW.format(table="\n".join(lines)), *shown])


def _line(name: str, rows: Sequence[Row]) -> str:
    counts = Counter(row.status for row in rows)
    cells = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    where = "; ".join(sorted({row.provenance.gpu or row.provenance.cpu for row in rows}))
    commits = ", ".join(sorted({(row.provenance.git_commit or "none")[:10] for row in rows}))
    days = sorted({row.provenance.finished[:10] for row in rows})
    data = DATA.get(name) or ", ".join(sorted({row.cell.dataset for row in rows}))
    when = days[0] if len(days) < 2 else f"{days[0]} to {days[-1]}"
    return f"| [`{name}`]({name}/README.md) | {cells} | {where} | {commits} | {when} | {data} |"


def _check(name: str) -> str:
    return (
        f"Made again and compared with these, sample by sample: `vitq run {name} && vitq gate {name} --baseline "
        f"reports/results/{name}`. As one page: `vitq report {name} --results reports/results/{name} --out report`."
    )


_OVERVIEW = """# Published results

Every record of the suites below as `vitq run` wrote it, with the outcome of every sample, its versions, machine and
command; made by one script, `python -m vitq.benchmarks.publish`. Models and artifacts stay where they were made; a
model is known by the sha256 in its record.

{table}

A record names the code, data, weights and versions that decide it, and a later `vitq` measures anew what they
changed: `vitq run smoke --results reports/results/smoke --dry-run -v` says which of them differ here.
`pip install -c reports/results/constraints.txt vitq` installs the versions behind these results.
"""
