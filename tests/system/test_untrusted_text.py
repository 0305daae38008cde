"""Text from runs that others have made, wherever it is shown: it is text, whatever is in it.

The law: what is shown has the same structure as with a harmless text in its place, and a terminal has nothing to obey.
"""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hostile_text import HOSTILE
from report_folders import make_run
from rich.console import Console
from small_runs import tiny

from mpdvae import report
from mpdvae.errors import InputError, printable
from mpdvae.experiments.experiment import with_changes
from mpdvae.report.figures import script_safe
from mpdvae.runs.model_card import Results, model_card
from mpdvae.system.untrusted_text import code, escape
from mpdvae.workflows.progress_display import RunProgress, Watcher, _panel, busy, plain

EACH = pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
HARMLESS = "harmless"


class Elements(HTMLParser):
    """Start tags with the names of their attributes, and what JSON there is."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, ...]] = []
        self.json: list[str] = []
        self._in_json = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *sorted(name for name, _ in attrs)))
        self._in_json = ("type", "application/json") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._in_json = False

    def handle_data(self, data: str) -> None:
        if self._in_json:
            self.json.append(data)


def page_of(folder: Path, text: str) -> tuple[report.Results, str, str]:
    """A report whose runs say `text` wherever a run can: what was found, and its page and Markdown."""
    names = [text, HARMLESS]
    one = make_run(folder / "one", text, protocol=text, dataset=text, torch=text, command=text, class_names=names)
    failed = make_run(folder / "two", text, 1, status=text)
    (failed / "failure.log").write_text(f"Traceback\n{text.splitlines()[-1]}\n")
    made = report.write(
        [one, failed],
        html=folder / "r.html",
        markdown=folder / "r.md",
        results=folder / "r.json",
        command=text,
        title=text,
    )
    return made, (folder / "r.html").read_text(), (folder / "r.md").read_text()


def strings(value: object) -> list[str]:
    """All texts of a figure that a reader sees."""
    if isinstance(value, dict):
        return [text for key, part in value.items() if key not in ("meta", "hovertemplate") for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("harmless"), HARMLESS)


@EACH
def test_a_report_has_the_same_structure(tmp_path, harmless, text):
    made, html, markdown = page_of(tmp_path, text)
    page, expected = Elements(html), Elements(harmless[1])
    assert page.found == expected.found
    for figure in map(json.loads, page.json):
        if "data" in figure and "layout" in figure:
            assert not any("<" in shown for shown in strings(figure["data"]))
    assert len(markdown.split("\n")) == len(harmless[2].split("\n"))
    bars = [len(re.findall(r"(?<!\\)\|", re.sub(r"(`+).*?\1", "", line))) for line in markdown.split("\n")]
    assert bars == [len(re.findall(r"(?<!\\)\|", line)) for line in harmless[2].split("\n")]
    for shown in (markdown, report.console(made)):
        assert {c for c in shown if not c.isprintable()} == {"\n"}


@EACH
def test_json_inside_a_page_stays_there(text):
    inside = script_safe({text: [text]})
    assert json.loads(inside) == {text: [text]}
    assert inside.isascii()
    assert not re.search(r"[<>&]", inside)


@EACH
def test_markdown_shows_it_as_it_is(text):
    for shown in (escape(text), code(text)):
        assert shown.isprintable()
        assert "<script" not in re.sub(r"^(`+).*\1$", "", shown)
    fence = re.match(r"`+", code(text))
    assert fence
    assert fence[0] not in code(text)[len(fence[0]) : -len(fence[0])]


@EACH
def test_a_model_card_has_the_same_structure(text):
    def card(said: str, name: str) -> str:
        results = Results(
            density={
                "split": said,
                "images": 10,
                "samples": 4,
                "nll_nats": {"mean": 1.0, "standard_error": 0.5},
            },
            representation={"knn10_accuracy": {said: {"mean": 0.5}}},
            manifest={"data": {"protocol": said, "sha256": said}},
        )
        told = {"data__dataset": name, "data__condition_classes": 2}
        experiment = with_changes(tiny(), name=name, model=name, reproduces=name, **told)
        return model_card(experiment, (1, 8, 8), results, source=said, licence=said, class_names=[said, HARMLESS])

    try:
        with_changes(tiny(), name=text)
        name = text
    except InputError:
        name = HARMLESS  # control characters are no part of a name
    made, expected = card(text, name).split("\n"), card(HARMLESS, HARMLESS).split("\n")
    assert len(made) == len(expected)
    end = expected.index("---", 1)
    assert made[0] == made[end] == "---"
    for line, other in zip(made[1:end], expected[1:end], strict=True):
        key, _, value = line.partition(": ")
        assert key == other.partition(": ")[0]
        assert value.isascii()
        json.loads(value)
    assert [re.match(r"#* ?", line)[0] for line in made[end:]] == [
        re.match(r"#* ?", line)[0] for line in expected[end:]
    ]
    assert all(line.isprintable() for line in made)
    for line in made[end:]:
        if "mpdvae.load" not in line:
            assert "<" not in re.sub(r"(`+).*?\1", "", line)


@EACH
def test_a_terminal_obeys_nothing(capsys, text):
    entry = {
        "step": 3,
        "verdict": text,
        "negative_elbo_nats": 1.0,
        "reconstruction_nats": 1.0,
        "kl_nats": 1.0,
        "active_units": 1,
        "latent_dim": 2,
        "mpd_mean_nats": 1.0,
        "mpd_std_nats": 1.0,
        "gradient_norms": {text: 1.0},
        "active_units_by_variance": {text: 1},
    }
    progress = RunProgress(text, 3, 6, entry)
    with busy(text), Watcher(text) as watcher:
        watcher.say(text)
        watcher.say(progress.in_words())
    screen = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=400, legacy_windows=False)
    screen.print(_panel(progress, entry))
    assert isinstance(screen.file, io.StringIO)
    for shown in (capsys.readouterr().out, screen.file.getvalue()):
        assert {c for c in shown if not c.isprintable()} == {"\n"}
        assert printable(text.split("\n")[0]) in shown


def test_lines_stay_lines_on_a_terminal():
    assert plain("a\nb\x1b[2J").plain == "a\nb\\x1b[2J"
