from pathlib import Path

import pytest
from dicom_fixtures import SHAPE, affine_of, volume, write_stack
from orthanc_process import Orthanc, free_port
from pydicom import dcmread

from lckd.errors import StudyError
from lckd.pacs.dicom_rtstruct import write_rtstruct
from lckd.pacs.dicom_seg import write_dicom_seg
from lckd.pacs.sending import Peer, parse_peer, send_all, store_to, stow_to


@pytest.fixture(scope="module")
def seg(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    image = volume(affine_of((1, 0, 0), (0, 1, 0)))
    stack = write_stack(folder / "source", image)
    label_map = (volume(image.affine, SHAPE).array % 4).astype("uint8")
    return write_dicom_seg(label_map, image.affine, stack, folder / "seg.dcm").path


@pytest.fixture(scope="module")
def rtstruct(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("contours")
    image = volume(affine_of((1, 0, 0), (0, 1, 0)))
    label_map = (image.array % 4).astype("uint8")
    stack = write_stack(folder / "source", image)
    return write_rtstruct(label_map, image.affine, stack, folder / "rtstruct.dcm").path


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.stop()


def test_c_store_to_a_real_pacs(orthanc, seg):
    pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (pip install 'lckd[send]')")
    store_to(parse_peer(f"127.0.0.1:{orthanc.empty().dicom}/ARCHIVE"))(seg)
    assert [series["MainDicomTags"]["Modality"] for series in orthanc.series()] == ["SEG"]


def test_stow_to_a_real_pacs_and_back_bit_by_bit(orthanc, seg, tmp_path):
    stow_to(f"http://reader:word@127.0.0.1:{orthanc.empty().http}/dicom-web")(seg)
    (series,) = orthanc.series()
    (tmp_path / "back.dcm").write_bytes(orthanc.get(f"/instances/{series['Instances'][0]}/file").content)
    sent, back = dcmread(seg), dcmread(tmp_path / "back.dcm")
    assert back.PixelData == sent.PixelData
    assert back.SegmentSequence == sent.SegmentSequence


def test_contours_are_stored_beside(orthanc, rtstruct):
    pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (pip install 'lckd[send]')")
    store_to(parse_peer(f"127.0.0.1:{orthanc.empty().dicom}/ARCHIVE"))(rtstruct)
    stow_to(f"http://reader:word@127.0.0.1:{orthanc.http}/dicom-web")(rtstruct)
    assert [series["MainDicomTags"]["Modality"] for series in orthanc.series()] == ["RTSTRUCT"]


def test_a_wrong_password_is_a_sentence_without_it(orthanc, seg):
    with pytest.raises(StudyError, match="answers 401") as caught:
        stow_to(f"http://reader:geheim@127.0.0.1:{orthanc.http}/dicom-web")(seg)
    assert "geheim" not in str(caught.value)


def test_a_peer_that_does_not_answer(seg):
    pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (pip install 'lckd[send]')")
    port = free_port()
    with pytest.raises(StudyError, match=f"ARCHIVE at 127.0.0.1:{port} does not answer"):
        store_to(Peer("127.0.0.1", port, "ARCHIVE"))(seg)
    with pytest.raises(StudyError, match="does not answer"):
        stow_to(f"http://127.0.0.1:{port}/dicom-web")(seg)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("takes no segmentations", "does not take Segmentation Storage"),
        ("knows another title", "rejects us"),
        ("is full", "refused the file .status 0xa700"),
    ],
)
def test_a_peer_that_refuses(seg, fault, sentence):
    pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (pip install 'lckd[send]')")
    entity = pynetdicom.AE("ARCHIVE")
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.4")
    if fault != "takes no segmentations":
        entity.add_supported_context(dcmread(seg).SOPClassUID)
    entity.require_called_aet = True
    port = free_port()
    handlers = [(pynetdicom.evt.EVT_C_STORE, lambda event: 0xA700)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        with pytest.raises(StudyError, match=sentence):
            store_to(Peer("127.0.0.1", port, "OTHER" if fault == "knows another title" else "ARCHIVE"))(seg)
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("written", "peer"),
    [
        ("pacs.hospital:104/ARCHIVE", Peer("pacs.hospital", 104, "ARCHIVE")),
        ("[::1]:11112/STORE SCP", Peer("::1", 11112, "STORE SCP")),
    ],
)
def test_peers(written, peer):
    assert parse_peer(written) == peer


@pytest.mark.parametrize(
    "written",
    ["", "pacs", "pacs:104", "pacs:0/A", "pacs:99999/A", "pacs:104/", "pacs:104/ ", "a:1/SEVENTEEN-LETTERS", "a:x/A"],
)
def test_what_is_no_peer(written):
    with pytest.raises(StudyError, match="accepted is HOST:PORT/AET"):
        parse_peer(written)


@pytest.mark.parametrize("url", ["", "pacs", "ftp://pacs/dicom-web", "http://", "http://pacs:port/"])
def test_what_is_no_service(url):
    with pytest.raises(StudyError, match="accepted is http"):
        stow_to(url)


def test_one_failure_stops_nothing(tmp_path):
    sent = []

    def send(file):
        if file.name == "a":
            raise StudyError("refused")
        sent.append(file.name)

    files = {"1": [tmp_path / "a"], "2": [tmp_path / "b", tmp_path / "c"]}
    assert send_all(files, [send]) == {"1": "refused", "2": "sent"}
    assert sent == ["b", "c"]
