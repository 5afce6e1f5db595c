import json
import re
from html.parser import HTMLParser

import pytest
from study_fixtures import process, small_export

from lckd.pacs.html_report import html_of
from lckd.segmentation import Segmenter

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def outcome(small_study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    small_export(small_study, folder, sequences=("flair", "t1ce"), extras=("localizer",))
    return process(Segmenter(device="cpu"), folder, tmp_path_factory.mktemp("out"), sequences=("flair",))


class Page(HTMLParser):
    """Tags that are open, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.attributes, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_it_is_one_whole_page_that_needs_nothing_else(outcome):
    page = Page((outcome.folder / "report.html").read_text())
    assert not page.open
    sources = [value for _, name, value in page.attributes if name in ("src", "href")]
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,iVBOR")
    assert not any(tag == "script" for tag, *_ in page.attributes)


def test_it_says_what_a_reader_has_to_know(outcome):
    text, report = Page((outcome.folder / "report.html").read_text()).text, outcome.report
    assert "Research use only" in text
    assert "FLAIR (reference)" in text
    assert "not asked for" in text
    assert "T2 no not found in the study" in text
    assert all(warning in text for warning in report["warnings"])
    assert f"{report['volumes_ml']['regions']['wt']:.1f}" in text
    assert f"{report['expected_dice']['wt']['dice']:.2f}" in text
    assert report["weights"]["sha256"] in text
    assert report["software"]["version"] in text


def test_what_headers_say_is_no_markup(outcome):
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"
    report = json.loads(json.dumps(outcome.report))
    report["warnings"] = [attack]
    report["series"]["flair"]["description"] = attack
    report["series"]["flair"]["reasons"] = [attack]
    report["series"]["t1"]["why_not"] = attack
    report["identification"][0]["description"] = attack
    page = Page(html_of(report, PNG))
    assert not page.open
    assert not any(tag == "script" or name == "onerror" for tag, name, _ in page.attributes)
    assert len([tag for tag, name, _ in page.attributes if tag == "img" and name == "src"]) == 1
    assert page.text.count("<script>alert(1)</script>") == 5
    assert "49" not in re.findall(r"onerror=alert\(1\)>(.{12})", page.text)[0]


def test_it_copes_without_an_evaluation(outcome):
    page = Page(html_of({**outcome.report, "expected_dice": None, "estimated_dice": None}, PNG))
    assert not page.open
    assert "whole tumour" in page.text


def test_of_what_was_not_found_nothing_is_estimated(outcome):
    estimated = {"et": None, "wt": 0.123, "tc": None}
    text = Page(html_of({**outcome.report, "estimated_dice": estimated}, PNG)).text
    assert "0.12" in text
    assert "None" not in text
