"""report.md: claims, tables and commands as Markdown, with exactly the same text as the page.

Text from run folders is escaped, so that a name can neither break a table nor inject HTML.
"""

from collections.abc import Sequence

from mpdvae.report.collect import Study
from mpdvae.report.development import CAPTION, HEADING, fates
from mpdvae.report.files import MARK
from mpdvae.report.grid import Table, lines
from mpdvae.report.leaderboard import CAPTION as LEADERBOARD_CAPTION
from mpdvae.report.leaderboard import HEADING as LEADERBOARD_HEADING
from mpdvae.report.leaderboard import TITLE as LEADERBOARD_TITLE
from mpdvae.report.leaderboard import places
from mpdvae.report.numbers import number
from mpdvae.report.opening import half_seen, joined, opening, question, unreliable
from mpdvae.report.overview import NOT_ABOUT, Cell, Overview, overview
from mpdvae.report.page import commands, headline, summary
from mpdvae.report.plane import HEADING as PLANE_HEADING
from mpdvae.report.plane import points
from mpdvae.report.published import comparable, explanation
from mpdvae.report.results import Results, differing, environments, shared
from mpdvae.report.setup import differences
from mpdvae.report.tables import tables
from mpdvae.report.titles import titles
from mpdvae.report.verdicts import Verdict, rule
from mpdvae.system.untrusted_text import code, escape


def render(results: Results) -> str:
    """Returns the text of report.md."""
    parts = [
        f"<!-- {MARK} -->",
        f"# {escape(results.title)}",
        question(results.collection.studies),
        escape(headline(results)),
    ]
    pairs = list(zip(results.collection.studies, results.verdicts, strict=True))
    across = overview(results.collection.studies, results.verdicts)
    parts += _overview(across) if across else []
    for title, (study, verdicts) in zip(titles([study.setting for study, _ in pairs]), pairs, strict=True):
        parts += _at_a_glance(title, study, verdicts) if across else _alone(study, verdicts)
        parts += _detail(study, verdicts, [run.setting.dataset for run in results.collection.runs])
    parts += ["## How to reproduce", f"This report: {code(results.command)}", *_again(results), *_environments(results)]
    if results.collection.unfinished:
        lines = [
            f"- {escape(run.model)}, seed {run.seed} ({escape(results.relative(run.folder))}): {escape(run.in_words)}"
            for run in results.collection.unfinished
        ]
        parts += ["## Unfinished runs", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """Returns a Markdown table; `align` has one letter, l or r, for each column."""
    rule = ["---:" if letter == "r" else "---" for letter in align]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def _overview(across: Overview) -> list[str]:
    """Returns the judgement across several data sets: each claim once, with its rule."""
    rows = []
    for line in across.claims:
        told = joined(line.claim.statement, f"({line.claim.source})", line.note)
        rows.append([line.claim.id, escape(told), line.claim.whose, *map(_cell, line.cells)])
    header = ["", "claim", "whose", *map(escape, across.titles)]
    return [
        *_lines(across.lines),
        "## Do the claims hold?",
        grid(header, rows, "l" * len(header)),
        *map(escape, across.rules),
    ]


def _cell(cell: Cell | None) -> str:
    return NOT_ABOUT if cell is None else _word(cell.verdict) + (f", {cell.caution}" if cell.caution else "")


def _at_a_glance(title: str, study: Study, verdicts: Sequence[Verdict]) -> list[str]:
    """Returns the beginning of one data set of several."""
    glance = escape(opening(study, verdicts).glance)
    return [f"## {escape(title)}", glance, escape(summary(study)), *leaderboard(study), "### Evidence for the claims"]


def _alone(study: Study, verdicts: Sequence[Verdict]) -> list[str]:
    """Returns the beginning of the only study."""
    return [
        f"## {escape(study.setting.title)}",
        *_lines(opening(study, verdicts).lines),
        escape(summary(study)),
        *leaderboard(study),
        f"### Do the claims hold? (scale {escape(study.setting.scale)})",
        grid(["", "claim", "whose", "verdict"], [_claim(verdict) for verdict in verdicts], "llll"),
        escape(rule(verdicts[0].look)),
    ]


def _lines(lines: Sequence[tuple[str, str]]) -> list[str]:
    return [f"**{title}.** {escape(text)}" for title, text in lines]


def _detail(study: Study, verdicts: Sequence[Verdict], datasets: Sequence[str]) -> list[str]:
    parts = [
        *_evidence(study, verdicts, datasets),
        *(part for made in tables(study) for part in _table(made)),
        "### Comparison with published numbers",
        escape(explanation(study.setting)),
    ]
    published = [
        [escape(p.model), number(p.nll_nats, 2), number(p.kl_nats, 2), p.ours or "–", escape(p.source)]
        for p in comparable(study.setting)
    ]
    if published:
        parts.append(grid(["published model", "NLL (nats)", "KL (nats)", "our model", "source"], published, "lrrll"))
    rows = [list(map(escape, fate.cells)) for fate in fates(study)]
    parts += ["### Collapse diagnosis", escape(CAPTION), grid(HEADING, rows, "llrrrr")]
    if varied := [list(map(escape, point.cells)) for point in points(study) if point.varied]:
        parts += ["### Models that differ in one setting", grid(PLANE_HEADING, varied, "ll")]
    rows = [row for row in differences(study) if not row.same]
    setup = [
        [row.title, escape(row.released), "; ".join(escape(f"{m}: {text}" if m else text) for text, m in row.here)]
        for row in rows
    ]
    return [*parts, "### Differences from the paper's set-up", grid(["", "released code", "here"], setup, "lll")]


def leaderboard(study: Study) -> list[str]:
    """Returns the leaderboard of a study with remedies; empty for another study."""
    found = places(study)
    if not found:
        return []
    rows = [list(map(escape, place.cells)) for place in found]
    return [
        f"### {LEADERBOARD_TITLE}",
        escape(LEADERBOARD_CAPTION),
        grid(LEADERBOARD_HEADING, rows, "ll" + 7 * "r"),
    ]


def _table(made: Table) -> list[str]:
    parts = [f"### {made.title}"]
    for section in made.sections:
        heading, rows = lines(made, section)
        header = [escape(section.title), *map(escape, heading)]
        parts.append(grid(header, [list(map(escape, row)) for row in rows], "l" + "r" * len(heading)))
    return [*parts, *map(escape, made.notes)]


def _claim(verdict: Verdict) -> list[str]:
    return [
        verdict.claim.id,
        f"{escape(verdict.claim.statement)} ({escape(verdict.claim.source)})",
        verdict.claim.whose,
        _word(verdict),
    ]


def _word(verdict: Verdict) -> str:
    return f"**{verdict.word}**" + (f", {escape(verdict.repeats)}" if verdict.repeats else "")


def _evidence(study: Study, verdicts: Sequence[Verdict], datasets: Sequence[str]) -> list[str]:
    lines = []
    for verdict in verdicts:
        sentences = [item.sentence for item in verdict.evidence] or [verdict.reason]
        sentences += filter(None, (half_seen(verdict, datasets), unreliable(verdict, study)))
        listed = [f"- {verdict.claim.id}: {escape(verdict.conditions)}"] if verdict.conditions else []
        lines += [*listed, *(f"- {verdict.claim.id}: {escape(sentence)}" for sentence in sentences)]
    return ["\n".join(lines)] if lines else []


def _again(results: Results) -> list[str]:
    lines = []
    for run in results.collection.runs:
        lines.append(f"- {escape(run.model)}, seed {run.seed} ({escape(results.relative(run.folder))})")
        lines += [f"  - {what}: {code(command)}" for what, command in commands(run)]
        lines += [f"  - problems: {escape(run.manifest.troubles)}"] if run.manifest.troubles else []
    hashes = sorted({(run.setting.dataset, run.setting.data_hash) for run in results.collection.runs})
    data = [f"Data: {escape(name)}, SHA-256 {code(digest or 'not recorded')}" for name, digest in hashes]
    return ["\n".join(lines), *data] if lines else []


def _environments(results: Results) -> list[str]:
    found = environments(results.collection.runs)
    if not found:
        return []
    common = ", ".join(f"{name} {value}" for name, value in shared(found).items())
    different = differing(found)
    if not different:
        return [f"Environment of all runs: {escape(common)}."]
    rows = [
        [
            escape(", ".join(results.relative(run.folder) for run in e.runs)),
            *(escape(str("not recorded" if e.fields.get(name) is None else e.fields[name])) for name in different),
        ]
        for e in found
    ]
    return [
        f"The environments differ in {escape(', '.join(different))}.",
        grid(["runs", *map(escape, different)], rows, "l" * (len(different) + 1)),
        f"They share: {escape(common)}.",
    ]
