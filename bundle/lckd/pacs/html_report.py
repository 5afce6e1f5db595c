"""A study's report as one page that needs nothing else: for people, without the patient's identity."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from jinja2.runtime import ChainableUndefined

from lckd.files import write_atomically
from lckd.preview import COLOURS
from lckd.sequences import REGION_NAMES, SEQUENCE_NAMES

TEMPLATE = "report.html.j2"


def html_of(report: Mapping[str, Any], preview: bytes) -> str:
    """The page.

    Args:
        report: content of ``report.json``.
        preview: the PNG.
    """
    # a missing sequence has no series to show; everything else that is missing is a defect
    environment = Environment(
        loader=PackageLoader("lckd.pacs", "."), autoescape=select_autoescape(default=True), undefined=ChainableUndefined
    )
    return environment.get_template(TEMPLATE).render(
        report=report,
        preview=b64encode(preview).decode("ascii"),
        regions=REGION_NAMES,
        sequences=SEQUENCE_NAMES,
        colours=COLOURS,
    )


def write_html(report: Mapping[str, Any], preview: bytes, path: Path) -> None:
    """Write the page, atomically.

    Raises:
        OSError: no permission, or the disk is full.
    """
    text = html_of(report, preview)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
