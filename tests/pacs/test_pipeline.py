import json

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from study_fixtures import edit_series, identified, process, series_files, small_export

from lckd.images import write_image
from lckd.pacs import pipeline
from lckd.pacs.dicom_rtstruct import read_rtstruct
from lckd.pacs.dicom_seg import read_dicom_seg
from lckd.pacs.study_folder import safe_name
from lckd.segmentation import Segmenter
from lckd.sequences import REGION_LABELS, REGION_NAMES, SEQUENCES

FILES = {"manifest.json", "preview.png", "report.html", "report.json", "seg.dcm", "segmentation.nii.gz"}


@pytest.fixture(scope="module")
def segmenter(likeliest):
    return Segmenter(device="cpu", postprocessing=likeliest)


@pytest.fixture(scope="module")
def export(small_study, tmp_path_factory):
    return small_export(small_study, tmp_path_factory.mktemp("export"), extras=("localizer", "dwi", "adc"))


@pytest.fixture(scope="module")
def outcome(segmenter, export, tmp_path_factory):
    return process(segmenter, export.folder, tmp_path_factory.mktemp("out"))


def copied(small_study, tmp_path, **options):
    return small_export(small_study, tmp_path / "export", **options)


def test_all_results_lie_in_a_folder_named_by_the_study(export, outcome):
    assert (outcome.state, outcome.reasons) == ("done", ())
    assert outcome.folder.name == export.study_uid
    images = {f"{export.study_uid}_{name}.nii.gz" for name in SEQUENCES}
    assert {file.name for file in outcome.folder.iterdir()} == FILES | images
    assert [folder.name for folder in outcome.folder.parent.iterdir()] == [export.study_uid]


def test_every_image_has_the_grid_of_the_reference_series(export, outcome):
    headers = [dcmread(path) for path in series_files(export, "t1ce")]
    shape = (headers[0].Columns, headers[0].Rows, len(headers))
    images = [nib.load(file) for file in outcome.folder.glob("*.nii.gz")]
    assert len(images) == 5
    for image in images:
        assert image.shape == shape
        np.testing.assert_allclose(image.affine, images[0].affine, atol=1e-4)


def test_the_seg_refers_to_the_reference_series_and_holds_the_label_map(export, outcome):
    seg = dcmread(outcome.folder / "seg.dcm")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == export.series_uids["t1ce"]
    label_map = np.asarray(nib.load(outcome.folder / "segmentation.nii.gz").dataobj)
    values, _ = read_dicom_seg(outcome.folder / "seg.dcm")
    assert (values > 0).any()
    for value in (1, 2, 3):
        assert (values == value).sum() == (label_map == value).sum()


def test_the_report_says_which_series_was_used_and_why(export, outcome):
    report = json.loads((outcome.folder / "report.json").read_text())
    assert report["sequences"] == {"used": list(SEQUENCES), "missing": [], "reference": "t1ce"}
    assert {name: facts["series_uid"] for name, facts in report["series"].items()} == {
        name: export.series_uids[name] for name in SEQUENCES
    }
    assert all(facts["used"] and facts["reasons"] for facts in report["series"].values())
    assert {row["series"] for row in report["identification"]} == set(export.series_uids.values())
    assert set(report["co_registration"]) == {"flair", "t1", "t2"}
    assert all(facts["accepted"] for facts in report["co_registration"].values())
    assert report["brain_extraction"]["method"] == "stripped"


def test_the_manifest_says_what_it_was_made_of(segmenter, outcome):
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    assert manifest["finished"] is True
    assert manifest["weights"] == segmenter.weights
    assert {"lckd", "torch", "pydicom", "highdicom", "SimpleITK"} <= manifest["software"].keys()
    assert np.array(manifest["transforms"]["flair"]).shape == (4, 4)
    assert {"convert", "co-register", "extract the brain", "segment"} <= manifest["timings_s"].keys()
    assert set(manifest["files"]) == {file.name for file in outcome.folder.iterdir()} - {"manifest.json"}


@pytest.mark.parametrize("sequences", [("flair",), ("t1",), ("t1ce", "t2")], ids="+".join)
def test_a_subset_is_enough(segmenter, export, tmp_path, sequences):
    outcome = process(segmenter, export.folder, tmp_path / "out", sequences=sequences)
    assert outcome.state == "done"
    assert outcome.report["sequences"]["used"] == list(sequences)
    left = set(SEQUENCES) - set(sequences)
    assert {name for name, facts in outcome.report["series"].items() if facts["why_not"] == "not asked for"} == left


def test_a_label_map_seg(segmenter, export, tmp_path):
    outcome = process(segmenter, export.folder, tmp_path / "out", seg_type="labelmap", sequences=("flair",))
    assert dcmread(outcome.folder / "seg.dcm").SegmentationType == "LABELMAP"


def test_a_users_brain_mask(segmenter, export, outcome, tmp_path):
    image = nib.load(next(outcome.folder.glob("*_t1ce.nii.gz")))
    mask = np.zeros(image.shape, np.uint8)
    mask[4:-4, 4:-4, 2:-2] = 1
    write_image(tmp_path / "mask.nii.gz", mask, image.affine)
    masked = process(segmenter, export.folder, tmp_path / "out", mask=tmp_path / "mask.nii.gz", sequences=("t1ce",))
    assert masked.report["brain_extraction"]["method"] == "given"
    shown = np.asarray(nib.load(next(masked.folder.glob("*_t1ce.nii.gz"))).dataobj)
    assert not shown[mask == 0].any()


def test_a_finished_study_is_not_done_again(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("flair",))
    first = process(segmenter, export.folder, tmp_path / "out")
    before = (first.folder / "seg.dcm").stat().st_mtime_ns
    again = process(segmenter, export.folder, tmp_path / "out")
    assert again.state == "skipped"
    assert again.report == first.report
    assert (first.folder / "seg.dcm").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["pixels", "options", "lost file", "unfinished"])
def test_what_changed_is_done_again(segmenter, small_study, tmp_path, change):
    export = copied(small_study, tmp_path, sequences=("flair",))
    first = process(segmenter, export.folder, tmp_path / "out")
    (first.folder / "notes.txt").write_text("a reader's own")
    options = {}
    if change == "pixels":
        edit_series(export, "flair", lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[::-1]))
    elif change == "options":
        options = {"seg_type": "labelmap"}
    elif change == "lost file":
        (first.folder / "seg.dcm").unlink()
    else:
        manifest = json.loads((first.folder / "manifest.json").read_text())
        (first.folder / "manifest.json").write_text(json.dumps(manifest | {"finished": False}))
    again = process(segmenter, export.folder, tmp_path / "out", **options)
    assert again.state == "done"
    assert (first.folder / "seg.dcm").is_file()
    assert (first.folder / "notes.txt").read_text() == "a reader's own"


def test_a_folder_of_someone_else_is_left_alone(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("flair",))
    (tmp_path / "out" / export.study_uid).mkdir(parents=True)
    (tmp_path / "out" / export.study_uid / "thesis.docx").write_text("mine")
    outcome = process(segmenter, export.folder, tmp_path / "out")
    assert outcome.state == "failed"
    assert "no result of this command" in outcome.reasons[0]
    assert [file.name for file in (tmp_path / "out" / export.study_uid).iterdir()] == ["thesis.docx"]


def test_a_series_that_cannot_be_converted_is_left_out(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("flair", "t2"))
    edit_series(export, "flair", lambda dataset: setattr(dataset, "PixelData", bytes(len(dataset.PixelData))))
    outcome = process(segmenter, export.folder, tmp_path / "out")
    assert outcome.state == "done"
    assert outcome.report["sequences"]["used"] == ["t2"]
    assert "constant" in outcome.report["series"]["flair"]["why_not"]
    assert any(warning.startswith("FLAIR was left out") for warning in outcome.report["warnings"])


def test_a_sequence_that_cannot_be_co_registered_is_left_out(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("flair", "t2"))
    rng = np.random.default_rng(0)

    def noise(dataset):
        values = rng.integers(0, 500, (dataset.Rows, dataset.Columns)).astype(np.uint16)
        dataset.PixelData = values.tobytes()

    edit_series(export, "t2", noise)
    outcome = process(segmenter, export.folder, tmp_path / "out")
    assert outcome.report["sequences"]["used"] == ["flair"]
    assert "could not be co-registered with FLAIR" in outcome.report["series"]["t2"]["why_not"]
    assert outcome.report["co_registration"]["t2"]["accepted"] is False


def test_nothing_usable_fails_with_a_sentence(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("flair",))
    outcome = process(segmenter, export.folder, tmp_path / "out", sequences=("t1",))
    assert outcome.state == "failed"
    assert outcome.reasons == ("the study has FLAIR, of which --sequences allows none; name one of them",)
    assert not list((tmp_path / "out").iterdir())


def test_low_confidence_asks_a_person(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("t1",), descriptions={"t1": "head"})
    edit_series(export, "t1", lambda dataset: setattr(dataset, "ProtocolName", "head"))
    outcome = process(segmenter, export.folder, tmp_path / "out")
    assert (outcome.state, outcome.step) == ("review", "identify")
    assert outcome.reasons
    assert not list((tmp_path / "out").iterdir())
    accepted = process(segmenter, export.folder, tmp_path / "out", accept_low_confidence=True)
    assert accepted.state == "done"
    assert any("used without review" in warning for warning in accepted.report["warnings"])


def test_a_failing_seg_loses_nothing_else(segmenter, small_study, tmp_path, monkeypatch):
    export = copied(small_study, tmp_path, sequences=("flair",))

    def broken(*args, **kwargs):
        raise KeyError("Doe^Jane")

    monkeypatch.setattr(pipeline, "write_dicom_seg", broken)
    outcome = process(segmenter, export.folder, tmp_path / "out")
    assert (outcome.state, outcome.step) == ("incomplete", "DICOM SEG")
    names = {file.name for file in outcome.folder.iterdir()}
    assert names == FILES - {"seg.dcm"} | {f"{export.study_uid}_flair.nii.gz"}
    assert "unexpected KeyError" in outcome.reasons[0]
    assert "Doe" not in "".join(file.read_text() for file in outcome.folder.glob("*.json"))
    monkeypatch.undo()
    assert process(segmenter, export.folder, tmp_path / "out").state == "done"


def test_contours_for_radiotherapy_on_request(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("t1ce",))
    outcome = process(segmenter, export.folder, tmp_path / "out", rtstruct=True)
    assert outcome.state == "done"
    assert outcome.report["rtstruct"]["file"] == "rtstruct.dcm"
    label_map = np.asarray(nib.load(outcome.folder / "segmentation.nii.gz").dataobj)
    stack = identified(export.folder).chosen["t1ce"]
    masks = read_rtstruct(outcome.folder / "rtstruct.dcm", stack)
    for region, labels in REGION_LABELS.items():
        assert masks[REGION_NAMES[region]].sum() == np.isin(label_map, labels).sum()
    assert "rtstruct.dcm" in (outcome.folder / "report.html").read_text()
    assert json.loads((outcome.folder / "manifest.json").read_text())["options"]["rtstruct"] is True
    without = process(segmenter, export.folder, tmp_path / "out")
    assert without.state == "done"
    assert not (without.folder / "rtstruct.dcm").exists()


def test_a_failing_rtstruct_loses_nothing_else(segmenter, small_study, tmp_path, monkeypatch):
    export = copied(small_study, tmp_path, sequences=("flair",))

    def broken(*args, **kwargs):
        raise KeyError("Doe^Jane")

    monkeypatch.setattr(pipeline, "write_rtstruct", broken)
    outcome = process(segmenter, export.folder, tmp_path / "out", rtstruct=True)
    assert (outcome.state, outcome.step) == ("incomplete", "RTSTRUCT")
    assert {file.name for file in outcome.folder.iterdir()} == FILES | {f"{export.study_uid}_flair.nii.gz"}
    assert outcome.report["warnings"][0].startswith("no RTSTRUCT was written: unexpected KeyError")
    assert "Doe" not in "".join(file.read_text() for file in outcome.folder.glob("*.json"))
    monkeypatch.undo()
    assert process(segmenter, export.folder, tmp_path / "out", rtstruct=True).state == "done"


def test_an_empty_result_has_no_seg_but_is_done(segmenter, small_study, tmp_path, monkeypatch):
    export = copied(small_study, tmp_path, sequences=("flair",))
    original = Segmenter.on_original_grid
    monkeypatch.setattr(Segmenter, "on_original_grid", lambda *args: original(*args) * 0)
    outcome = process(segmenter, export.folder, tmp_path / "out", rtstruct=True)
    assert outcome.state == "done"
    assert not list(outcome.folder.glob("*.dcm"))
    assert outcome.report["dicom_seg"]["not_detected"] == ["necrotic core", "oedema", "enhancing tumour"]


def test_no_result_but_those_for_a_pacs_names_the_patient(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("flair", "t1ce"))
    secrets = {"PatientName": "Zzyzx^Quentin", "PatientID": "ID987654", "PatientBirthDate": "19610213"}
    secrets |= {"AccessionNumber": "ACC4711", "ReferringPhysicianName": "Xylander^R"}
    for name in ("flair", "t1ce"):
        edit_series(export, name, lambda dataset: [setattr(dataset, *pair) for pair in secrets.items()])
    outcome = process(segmenter, export.folder, tmp_path / "out", rtstruct=True)
    for name in ("seg.dcm", "rtstruct.dcm"):
        assert str(dcmread(outcome.folder / name).PatientName) == "Zzyzx^Quentin"
    for file in outcome.folder.iterdir():
        content = nib.load(file).header.binaryblock if file.name.endswith(".gz") else file.read_bytes()
        found = [secret for secret in secrets.values() if secret.encode() in content]
        assert file.suffix == ".dcm" or not found


@pytest.mark.parametrize("uid", ["../../etc", "1.2.3/4", "", ".", "1" * 80, "1.2\n3", "DOE^JOHN"])
def test_a_folder_is_never_named_by_what_a_header_dictates(uid):
    assert safe_name(uid).startswith("study-")
    assert safe_name("1.2.840.1") == "1.2.840.1"


def test_exchanged_t1_and_t1ce_are_noticed(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("t1", "t1ce"))
    plain, enhanced = (series_files(export, name) for name in ("t1", "t1ce"))
    for one, other in zip(plain, enhanced, strict=True):
        first, second = dcmread(one), dcmread(other)
        first.PixelData, second.PixelData = second.PixelData, first.PixelData
        first.save_as(one), second.save_as(other)
    outcome = process(segmenter, export.folder, tmp_path / "out")
    assert outcome.report["contrast_by_pixels"]["verdict"] == "contradicted"
    assert any("the two may be exchanged" in warning for warning in outcome.report["warnings"])
    right = process(segmenter, small_export(small_study, tmp_path / "right", seed=1).folder, tmp_path / "out")
    assert right.report["contrast_by_pixels"]["verdict"] == "confirmed"


def test_a_contradiction_of_a_doubtful_header_asks_a_person(segmenter, small_study, tmp_path):
    export = copied(small_study, tmp_path, sequences=("t1", "t1ce"))
    plain, enhanced = (series_files(export, name) for name in ("t1", "t1ce"))
    for one, other in zip(plain, enhanced, strict=True):
        first, second = dcmread(one), dcmread(other)
        second.PixelData = first.PixelData
        second.save_as(other)
    said = identified(export.folder)
    assert not said.review
    doubtful = type(said)(said.study, said.decisions, (), low_confidence=0.99)
    outcome = pipeline.StudyPipeline(segmenter, tmp_path)(doubtful)
    assert (outcome.state, outcome.step) == ("review", "extract the brain")
    assert "name them in an override file" in outcome.reasons[0]
