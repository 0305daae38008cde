"""From run folders to a report: one HTML page that opens offline, the same in Markdown, and every number as JSON.

    from mpdvae import report
    results = report.write(folders, html=Path("report.html"), command="mpdvae report runs/*")
    print(report.console(results))

The report reads run folders and nothing else: no model, no data set, no torch.

    schema      what a run folder's files must hold      statistics  differences paired by seed
    collect     folders -> comparable groups             metrics     the numbers of a run by name
    claims      what is claimed, as data                 verdicts    the rule that judges it
    published   numbers of the literature, by protocol   setup       what differs from the released set-up
    noise       of subsets, of seeds, of both            scores      codes beside what they must beat
    families    models that differ in one dial           plane, sensitivity  where they lie, by both weights
    tables, grid, charts, figures, development           what is shown, whatever the form
    page, markdown, results                              the three forms
"""

from collections.abc import Sequence
from pathlib import Path

from mpdvae.measures.intervals import Estimate
from mpdvae.report.collect import Collection, collect
from mpdvae.report.files import check_free, write_all
from mpdvae.report.results import Results
from mpdvae.system.untrusted_text import printable

__all__ = ["Collection", "Estimate", "Results", "collect", "console", "write"]


def write(
    run_folders: Sequence[Path],
    *,
    html: Path,
    command: str,
    markdown: Path | None = None,
    results: Path | None = None,
    title: str | None = None,
) -> Results:
    """Reads the folders and writes the report, each file whole or not at all.

    Arguments:
        run_folders: run folders; unfinished ones are listed in the report.
        html: the page.
        command: the command that makes this report, which the report prints.
        markdown: the same in short; beside the page with the ending .md by default.
        results: every number as JSON; beside the page with the ending .json by default.
        title: heading of the report.

    Raises:
        InputError: for folders that are no runs, broken or missing files, one run given twice, or a name that is taken
            by a file that no report wrote.
    """
    from mpdvae.report import markdown as markdown_form
    from mpdvae.report import page, verdicts
    from mpdvae.report.results import to_json

    paths = [html, markdown or html.with_suffix(".md"), results or html.with_suffix(".json")]
    _check_names(paths)
    collection = collect(run_folders)
    judged = tuple(tuple(verdicts.judge_all(study)) for study in collection.studies)
    made = Results(collection, judged, command, title or "Mutual posterior divergence, reproduced", *paths)
    write_all({made.html: page.render(made), made.markdown: markdown_form.render(made), made.json: to_json(made)})
    return made


def console(results: Results, width: int = 124) -> str:
    """Tables and verdicts for a terminal."""
    from mpdvae.report.tables import console_table
    from mpdvae.report.verdicts import console_verdicts

    parts = []
    for study, judged in zip(results.collection.studies, results.verdicts, strict=True):
        parts += [console_table(study, width), console_verdicts(judged, width)]
    for run in results.collection.unfinished:
        parts.append(f"{results.relative(run.folder)}: {run.in_words}, not in the table.")
    return "\n".join(map(printable, "\n\n".join(parts).split("\n")))


def _check_names(paths: Sequence[Path]) -> None:
    from mpdvae.errors import InputError

    if paths[0].suffix.lower() not in (".html", ".htm"):
        raise InputError(f"the report is a web page: expected a name that ends in .html, got {paths[0]}.")
    if len(set(paths)) < len(paths):
        raise InputError(f"page, Markdown and results need different names, got {', '.join(map(str, paths))}.")
    for path in paths:
        check_free(path)
