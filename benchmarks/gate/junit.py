"""The gate as JUnit XML, which CI systems show: a test case a cell."""

from __future__ import annotations

from collections import defaultdict
from xml.etree import ElementTree as ET

from vitq.benchmarks.gate.policy import ACCEPTED, FAILING, UNJUDGED, GateRow
from vitq.benchmarks.gate.result import NOTHING_COMPARED, GateResult
from vitq.escape import lines, visible


def junit(result: GateResult, suite: str) -> str:
    """An XML document. A cell that was not compared is skipped; comparing too little is an error of its own."""
    cells: dict[str, list[GateRow]] = defaultdict(list)
    for row in result.rows:
        cells[row.cell].append(row)
    root = ET.Element("testsuite", name=visible(f"vitq gate {suite}"))
    for cell, rows in cells.items():
        _case(root, cell, rows)
    if result.exit_code == NOTHING_COMPARED:
        case = ET.SubElement(root, "testcase", classname="vitq.gate", name="enough was compared")
        ET.SubElement(case, "error", message=visible(result.summary))
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        root.set(name, str(len(list(root.iter(tag)))))
    ET.SubElement(root, "system-out").text = lines(result.render())
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(root: ET.Element, cell: str, rows: list[GateRow]) -> None:
    case = ET.SubElement(root, "testcase", classname="vitq.gate", name=visible(cell))
    failing = [row for row in rows if row.verdict in FAILING]
    if failing:
        message = "; ".join(told_of(row) for row in failing)
        ET.SubElement(case, "failure", message=visible(message)).text = "\n".join(
            visible(told_of(row)) for row in failing
        )
    elif all(row.verdict in UNJUDGED for row in rows):
        ET.SubElement(case, "skipped", message=visible("; ".join(row.note or row.verdict for row in rows)))
    told = [told_of(row) for row in rows if row.verdict in ("within", "faster", ACCEPTED)]
    if told:
        ET.SubElement(case, "system-out").text = "\n".join(visible(line) for line in told)


def told_of(row: GateRow) -> str:
    """A row as a line of prose, without its cell."""
    allowed = f" (allowed {row.allowed})" if row.allowed else ""
    note = f": {row.note}" if row.note else ""
    return f"{row.quantity} {row.verdict}, {row.baseline} -> {row.current}{allowed}{note}"
