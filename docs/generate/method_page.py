"""What a method's page generates: its card, its options as declared, and the papers' figures beside those measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from measurements import comparisons, runs, told, unbroken, without_latency

from vitq import escape
from vitq.methods.cards import When, all_cards
from vitq.options import Declared
from vitq.reports.layout import render
from vitq.reports.tables import results_table
from vitq.reports.verdicts import Comparison


def card(method: str) -> str:
    """Paper, fidelity, widths, what was compared, where this differs, and what others could not reproduce."""
    known = all_cards()[method]
    widths = known.supports
    paper = f"{known.paper}, {known.venue}".removesuffix(", ")
    link = f" [arXiv {known.arxiv}](https://arxiv.org/abs/{known.arxiv})" if known.arxiv else ""
    facts = [
        f"**Paper.** {_text(paper)}.{link}",
        f"**Regime.** {known.regime}. **Fidelity.** {known.fidelity}.",
        f"**Widths.** Weights {_widths(widths.weights)}, activations {_widths(widths.activations)} bits.",
        f"**Reads.** {_reads({str(name): when for name, when in known.reads.items()})}",
        f"**Compared.** {_text(known.compared)}",
        *_listed("Differences", known.differences),
        *_listed("What others could not reproduce", known.others_could_not_reproduce),
        *_listed("Notes", known.notes),
    ]
    return "\n\n".join(facts)


def options(method: str) -> str:
    """Every option with its default, its values, where the default comes from, and what another value makes."""
    known = all_cards()[method].options
    if not known:
        return f"`{method}` has no option."
    rows = [_option(option) for option in known.values()]
    lines = ["| option | default | values | another value makes | source | note |", "|:--|:--|:--|:--|:--|:--|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _option(option: Declared) -> list[str]:
    values = [f"`{_word(choice)}`" for choice in option.choices or ()] or [option.item or option.kind]
    if option.none:
        values.append("`none`")
    joined = ", ".join(values)
    shown = f"list of {joined}" if option.kind == "list" else joined
    when = ", ".join(f"`{name}: {_word(value)}`" for name, value in option.effect_when.items())
    effect = f"another {option.effect}" + (f" with {when}" if when else "")
    return [f"`{option.name}`", f"`{_word(option.recorded)}`", shown, effect, _text(option.source), _text(option.note)]


def _word(value: Any) -> str:
    """A value as a suite's YAML has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_word, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def figures(method: str) -> str:
    """Every figure that `vitq compare` knows of the method, by where it is printed, with its verdict."""
    mine = [c for c in comparisons() if c.figure is not None and c.figure.cell_method == method]
    if not mine:
        return f"No source that could be read gives a figure of `{method}`."

    def where(c: Comparison) -> tuple[str, str]:
        return ("", "") if c.figure is None else (c.figure.evidence, c.figure.source)

    parts = [told()]
    for (evidence, source), group in groupby(mine, key=where):
        parts.append(f"**{_text(evidence).capitalize()}:** {_text(source)}")
        parts.append(render([_figure(c) for c in group], "markdown", right=("reported", "FP32 there", "here", "diff")))
    return "\n\n".join(parts)


def _figure(c: Comparison) -> dict[str, str]:
    figure = c.figure
    assert figure is not None
    error = f" ± {c.stderr:.2f}" if c.stderr is not None else ""
    return {
        "table": figure.table,
        "model": figure.model,
        "data": figure.dataset,
        "bits": figure.bits,
        "variant": figure.variant,
        "metric": figure.metric,
        "FP32 there": "" if figure.fp_value is None else f"{figure.fp_value:g}",
        "reported": figure.printed,
        "others measured": figure.others,
        "here": "" if c.measured is None else f"{c.measured:.{figure.decimals}f}{error}",
        "diff": "" if c.difference is None else f"{c.difference:+.{figure.decimals}f}",
        "verdict": c.verdict,
        "reason": "" if c.reason == "no such cell" else c.reason,
    }


def measured(method: str) -> str:
    """What was measured here of the method, a table a suite, times left out."""
    found = {name: [row for row in known if row.cell.method == method] for name, known in runs().items()}
    parts = [
        f"**`{name}`**\n\n{unbroken(results_table(without_latency(mine), 'markdown'))}"
        for name, mine in found.items()
        if mine
    ]
    return "\n\n".join([told(), *parts]) if parts else f"{told()} Nothing was measured of `{method}`."


def _widths(widths: Iterable[int]) -> str:
    known = sorted(widths)
    return str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _reads(reads: Mapping[str, When | list[When]]) -> str:
    """Which data decide the numbers, and under which options."""
    parts = []
    for name, said in reads.items():
        whens = [_when(when) for when in (said if isinstance(said, list) else [said])]
        parts.append(f"{name} data" + (f" {' or '.join(whens)}" if all(whens) else ""))
    return f"{'; '.join(parts).capitalize()}." if parts else "No data decide its numbers."


def _when(when: When) -> str:
    only = [f"where `{name}` is {_or(values)}" for name, values in when.only.items()]
    unless = [f"unless `{name}` is {_or(values)}" for name, values in when.unless.items()]
    return " and ".join([*only, *unless])


def _or(values: list[Any]) -> str:
    return " or ".join(f"`{_word(value)}`" for value in values)


def _listed(heading: str, items: list[str]) -> list[str]:
    return [f"### {heading}", "\n".join(f"- {_text(item)}" for item in items)] if items else []


def _text(text: str) -> str:
    return escape.markdown(text)
