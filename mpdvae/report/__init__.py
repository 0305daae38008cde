"""Turns run folders into a report: an HTML page that opens offline, a Markdown version, and all numbers as JSON.

    from mpdvae import report
    results = report.write(folders, html=Path("report.html"), command="mpdvae report runs/*")
    print(report.console(results))

The report reads run folders and nothing else: no model, no data set, no torch.

    schema      schema of the files of a run folder      collect     folders -> comparable groups of runs
    metrics     the numbers of a run, by name            claims      the tested claims, as data
    contrasts   differences of models and their noise    verdicts    the rule that judges the claims
    outcomes    its words                                stability   would a repeat give the same word?
    looks       levels of repeated judgements            power       seeds and images that a claim needs
    comparison  two results.json of the same matrix      published   published numbers, by protocol
    setup       differences from the released set-up     noise       of subsets, of seeds, of both
    scores      scores of codes and of their baselines   families    models that differ in one setting
    plane       models by rate and distortion            sensitivity numbers by both weights
    development curves and collapse verdicts             opening     the first screen: asked, found, how far to trust it
    titles      short names that tell studies apart      overview    the first screen for several data sets
    leaderboard remedies against collapse, ranked        explored    explore.json and its sheets of images
    pilots      noise of earlier matrices, for `power`   per_image   density.csv: numbers by test image
    pictures    image grids that runs wrote              page, markdown, results: the three output formats
    tables, grid, charts, figures, labels, palette, explorer   content, independent of the output format

For anyone who shows a number. A number carries its unit, its interval and its protocol; numbers of different protocols are
never put in one table. The format of results.json is read by other programs: fields may be added, not changed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mpdvae.errors import printable
from mpdvae.measures.intervals import Estimate
from mpdvae.report.collect import Collection, collect
from mpdvae.report.files import check_free, write_all
from mpdvae.report.looks import FIXED, Look
from mpdvae.report.results import Results

__all__ = ["Collection", "Estimate", "Results", "collect", "console", "write"]


def write(
    run_folders: Sequence[Path],
    *,
    html: Path,
    command: str,
    markdown: Path | None = None,
    results: Path | None = None,
    title: str | None = None,
    looks: Mapping[str, Look] | None = None,
) -> Results:
    """Reads the run folders and writes the report. Each file is written atomically.

    Arguments:
        run_folders: run folders; unfinished runs are listed in the report.
        html: path of the HTML page.
        command: the command that produces this report; the report prints it.
        markdown: path of the shorter Markdown version; default: next to the page, with the suffix .md.
        results: path of the JSON file with all numbers; default: next to the page, with the suffix .json.
        title: heading of the report.
        looks: by data set, which of several judgements this is while seeds are added. Default: it is the only one.

    Raises:
        InputError: if a folder is not a run, a file is broken or missing, a run is given twice, or an output file exists
            that was not written by a report.
    """
    from mpdvae.report import markdown as markdown_form
    from mpdvae.report import page, verdicts
    from mpdvae.report.results import to_json

    paths = [html, markdown or html.with_suffix(".md"), results or html.with_suffix(".json")]
    _check_names(paths)
    collection = collect(run_folders)
    known = looks or {}
    judged = tuple(
        tuple(verdicts.judge_all(study, look=known.get(study.setting.dataset, FIXED))) for study in collection.studies
    )
    made = Results(collection, judged, command, title or "Mutual posterior divergence, reproduced", *paths)
    write_all({made.html: page.render(made), made.markdown: markdown_form.render(made), made.json: to_json(made)})
    return made


def console(results: Results, width: int = 124) -> str:
    """Returns the tables and verdicts as text for a terminal."""
    from mpdvae.report.leaderboard import compares_remedies, console_leaderboard
    from mpdvae.report.tables import console_table
    from mpdvae.report.verdicts import console_verdicts

    parts = []
    for study, judged in zip(results.collection.studies, results.verdicts, strict=True):
        parts += [
            (console_leaderboard if compares_remedies(study) else console_table)(study, width),
            console_verdicts(judged, width),
        ]
    for run in results.collection.unfinished:
        parts.append(f"{results.relative(run.folder)}: {run.in_words}, not in the table.")
    return "\n".join(map(printable, "\n\n".join(parts).split("\n")))


def _check_names(paths: Sequence[Path]) -> None:
    from mpdvae.errors import InputError

    if paths[0].suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"html: expected a file name that ends in .html, got {paths[0]}; use a name such as report.html."
        )
    if len(set(paths)) < len(paths):
        raise InputError(
            "html, markdown, results: expected three different file names, got "
            f"{', '.join(map(str, paths))}; give each its own name."
        )
    for path in paths:
        check_free(path)
