"""Which questions stop a study, and what answers them without a person."""

import pytest
from pydicom import dcmread
from study_fixtures import edit_series, process, series_files, small_export

from lckd.__main__ import main
from lckd.segmentation import Segmenter

SAME_NAME = {"t1": "t1_se_tra", "t1ce": "t1_se_tra"}


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter()


@pytest.fixture
def unnamed(small_study, tmp_path):
    """T1 and T1ce of one name, without bolus tags."""
    return small_export(
        small_study,
        tmp_path / "export",
        sequences=("flair", "t1", "t1ce"),
        descriptions=SAME_NAME,
        contrast_tags="missing",
    )


def test_pixels_tell_t1ce_from_t1_where_only_the_order_does(segmenter, unnamed, tmp_path):
    outcome = process(segmenter, unnamed.folder, tmp_path / "out")
    assert outcome.state == "done"
    assert outcome.report["series"]["t1ce"]["series_uid"] == unnamed.series_uids["t1ce"]
    assert "pixels show contrast" in outcome.report["series"]["t1ce"]["reasons"][-1]
    assert not any("without review" in warning for warning in outcome.report["warnings"])
    assert all(row["confidence"] >= 0.65 for row in outcome.table if row["used"])


def test_pixels_that_show_no_difference_leave_it_to_a_person(segmenter, unnamed, tmp_path):
    plain, enhanced = (series_files(unnamed, name) for name in ("t1", "t1ce"))
    for one, other in zip(plain, enhanced, strict=True):
        copied = dcmread(other)
        copied.PixelData = dcmread(one).PixelData
        copied.save_as(other)
    outcome = process(segmenter, unnamed.folder, tmp_path / "out")
    assert outcome.state == "review"
    assert "name them in an override file" in outcome.reasons[0]
    assert not list((tmp_path / "out").iterdir())


def test_a_question_that_pixels_cannot_answer_is_asked_at_once(segmenter, unnamed, tmp_path):
    edit_series(unnamed, "flair", lambda dataset: setattr(dataset, "SeriesDescription", "wibble"))
    outcome = process(segmenter, unnamed.folder, tmp_path / "out")
    assert (outcome.state, outcome.step) == ("review", "identify")


def test_what_a_person_accepted_is_asked_again_of_who_does_not(segmenter, small_study, tmp_path):
    export = small_export(small_study, tmp_path / "export", sequences=("t1",), contrast_tags="missing")
    assert process(segmenter, export.folder, tmp_path / "out", accept_low_confidence=True).state == "done"
    assert process(segmenter, export.folder, tmp_path / "out").state == "review"


def test_sequences_that_are_not_asked_for_raise_no_question(unnamed, tmp_path):
    for arguments in (["--dry-run"], ["--output", str(tmp_path / "out")]):
        main(["pacs", str(unnamed.folder), "--sequences", "flair", *arguments])
    with pytest.raises(SystemExit) as ended:
        main(["pacs", str(unnamed.folder), "--dry-run", "--sequences", "t1ce"])
    assert ended.value.code == 3
