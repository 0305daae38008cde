"""report.html: one self-contained page.

The file contains everything: styles, scripts, plotly.js (once), pictures as data URIs. A content security policy forbids
all requests, so that the page stays private and works offline. Text from run folders is untrusted: jinja2 escapes all of
it, and figures are embedded as JSON that cannot close its script element.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from mpdvae.errors import listed
from mpdvae.report.charts import charts
from mpdvae.report.collect import Run, Study
from mpdvae.report.development import CAPTION, HEADING, Fate, fates, verdict_of
from mpdvae.report.explorer import CAPTION as EXPLORER_CAPTION
from mpdvae.report.explorer import Explorer, explorer
from mpdvae.report.figures import Address, Chart
from mpdvae.report.files import MARK
from mpdvae.report.grid import Table, lines
from mpdvae.report.leaderboard import CAPTION as LEADERBOARD_CAPTION
from mpdvae.report.leaderboard import HEADING as LEADERBOARD_HEADING
from mpdvae.report.leaderboard import TITLE as LEADERBOARD_TITLE
from mpdvae.report.leaderboard import Place, places
from mpdvae.report.numbers import duration, number, plural
from mpdvae.report.opening import Opening, half_seen, opening, question, unreliable
from mpdvae.report.overview import NOT_ABOUT, overview
from mpdvae.report.pictures import Gallery, galleries
from mpdvae.report.plane import CAPTION as PLANE_CAPTION
from mpdvae.report.plane import HEADING as PLANE_HEADING
from mpdvae.report.plane import TITLE as PLANE_TITLE
from mpdvae.report.plane import Plane, Point, plane, points
from mpdvae.report.published import Published, comparable, explanation
from mpdvae.report.results import Results, differing, environments, shared
from mpdvae.report.setup import SOURCE, Matter, differences
from mpdvae.report.tables import tables
from mpdvae.report.titles import titles
from mpdvae.report.verdicts import Verdict, rule
from mpdvae.version import __version__

SCRIPTS = ["theme.js", "figures.js", "cursor.js", "tables.js", "sheets.js", "map.js", "walks.js", "explorer.js"]
"""In the order in which they run: each builds on the ones before it."""


@dataclass(frozen=True)
class Card:
    """One verdict, with a sentence about the likelihoods that it rests on, empty if these are reliable."""

    verdict: Verdict
    caution: str
    half_seen: str
    """A sentence about data sets that the claim is about and that were not run; may be empty."""


@dataclass(frozen=True)
class View:
    """The content that the template shows for one study."""

    name: str
    title: str
    study: Study
    summary: str
    opening: Opening
    cards: tuple[Card, ...]
    rule: str
    tables: tuple[Table, ...]
    published: tuple[Published, ...]
    explanation: str
    fates: tuple[Fate, ...]
    plane: Plane | None
    charts: tuple[Chart, ...]
    points: tuple[Point, ...]
    places: tuple[Place, ...]
    explorer: Explorer
    galleries: tuple[Gallery, ...]
    setup: tuple[Matter, ...]
    """The rows that differ."""
    alike: str
    """Titles of the rows that do not."""

    @property
    def within(self) -> str:
        """What there is below the first screen, in one line."""
        parts = [
            "leaderboard" if self.places else "",
            "evidence for each claim",
            f"numbers of {plural(len(self.study.variants), 'model')}",
            "collapse",
            "codes to explore" if self.explorer.models else "",
            plural(len(self.charts), "chart"),
            "pictures" if self.galleries else "",
            "set-up",
        ]
        return listed([part for part in parts if part])


def render(results: Results) -> str:
    """Returns the text of the page."""
    import jinja2
    from plotly.offline import get_plotlyjs

    # Undefined names raise an error: a misspelt field must not be rendered as an empty one.
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, duration=duration, commands=commands, collapse=verdict_of, lines=lines)
    found = environments(results.collection.runs)
    anchors = {run.folder: f"#run{number}" for number, run in enumerate(results.collection.runs, start=1)}
    anchor = anchors.__getitem__
    datasets = [run.setting.dataset for run in results.collection.runs]
    return environment.get_template("template.html").render(
        results=results,
        overview=overview(results.collection.studies, results.verdicts),
        views=[view(f"study{i}", *of, datasets, anchor) for i, of in enumerate(_studies(results), start=1)],
        anchor=anchor,
        question=question(results.collection.studies),
        not_about=NOT_ABOUT,
        headline=headline(results),
        environments=found,
        differing=differing(found),
        shared=shared(found),
        fate_heading=HEADING,
        fate_caption=CAPTION,
        plane_title=PLANE_TITLE,
        plane_caption=PLANE_CAPTION,
        plane_heading=PLANE_HEADING,
        leaderboard_title=LEADERBOARD_TITLE,
        leaderboard_heading=LEADERBOARD_HEADING,
        leaderboard_caption=LEADERBOARD_CAPTION,
        released=SOURCE,
        mark=MARK,
        version=__version__,
        style=_asset("page.css") + _asset("explore.css"),
        explorer_caption=EXPLORER_CAPTION,
        scripts=[_asset(name) for name in SCRIPTS],
        plotly=get_plotlyjs() if results.collection.runs else "",
    )


def view(
    name: str, title: str, study: Study, verdicts: Sequence[Verdict], datasets: Sequence[str], address: Address
) -> View:
    """Returns everything that is shown for one study of a report on these data sets."""
    return View(
        name=name,
        title=title,
        study=study,
        summary=summary(study),
        opening=opening(study, verdicts),
        cards=tuple(Card(verdict, unreliable(verdict, study), half_seen(verdict, datasets)) for verdict in verdicts),
        rule=rule(verdicts[0].look),
        tables=tuple(tables(study)),
        published=comparable(study.setting),
        explanation=explanation(study.setting),
        fates=fates(study),
        plane=plane(study, address),
        charts=tuple(charts(study, address)),
        points=points(study),
        places=places(study),
        explorer=explorer(study),
        galleries=tuple(galleries(study)),
        setup=tuple(row for row in differences(study) if not row.same),
        alike=", ".join(row.title.lower() for row in differences(study) if row.same),
    )


def headline(results: Results) -> str:
    """Returns one sentence about all runs."""
    runs = results.collection.runs
    if not runs:
        return "No run has finished yet."
    scales = list(dict.fromkeys(run.setting.scale for run in runs))
    datasets = list(dict.fromkeys(run.setting.dataset for run in runs))
    seconds = sum((run.manifest.training_seconds or 0.0) + (run.manifest.evaluation_seconds or 0.0) for run in runs)
    return (
        f"{plural(len(runs), 'run')} on {listed(datasets)} at scale {listed(scales)}; "
        f"{duration(seconds)} of computing time in total."
    )


def summary(study: Study) -> str:
    """Returns a short description of what a study compares."""
    seeds = Counter(len(variant.seeds) for variant in study.variants)
    fewest, most = min(seeds), max(seeds)
    each = plural(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    training = sum(run.manifest.training_seconds or 0.0 for run in study.runs)
    evaluation = sum(run.manifest.evaluation_seconds or 0.0 for run in study.runs)
    return (
        f"{plural(len(study.variants), 'model')}, {each} each. {study.setting.protocol}. Likelihood on the "
        f"{study.setting.measured}. Training took {duration(training)}, evaluation {duration(evaluation)}."
    )


def commands(run: Run) -> list[tuple[str, str]]:
    """Returns the commands that reproduce a run's numbers, each once, with a description of its results."""
    made: dict[str, list[str]] = {}
    parts = [
        ("the run and its learning curves", run.manifest.command),
        ("likelihoods", run.density.command),
        ("diagnostics", run.diagnostics.command),
        ("information", run.information.command if run.information else ""),
        ("use of the code", run.code_use.command if run.code_use else ""),
        ("representation", run.representation.command if run.representation else ""),
    ]
    for what, command in parts:
        if command:
            made.setdefault(command, []).append(what)
    return [(", ".join(what), command) for command, what in made.items()]


def _studies(results: Results) -> list[tuple[str, Study, tuple[Verdict, ...]]]:
    """Returns each study with its title and verdicts."""
    studies = results.collection.studies
    return list(zip(titles([study.setting for study in studies]), studies, results.verdicts, strict=True))


def _asset(name: str) -> str:
    return files("mpdvae.report").joinpath(name).read_text(encoding="utf-8")
