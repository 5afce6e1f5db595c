"""Results back to the PACS: C-STORE to an application entity, or STOW-RS to a DICOMweb server. Only when asked."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from pydicom import dcmread
from pydicom.uid import UID

from lckd import __version__
from lckd.errors import StudyError, reason

OUR_TITLE: Final = "LCKD"
TIMEOUT_S: Final = 30
_PEER: Final = re.compile(r"(?P<host>[^\s/:]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})/(?P<title>[!-\[\]-~ ]{1,16})")

Send = Callable[[Path], None]
"""Sends one file, or raises a ``StudyError``."""


@dataclass(frozen=True)
class Peer:
    """An application entity.

    Attributes:
        host: name or address.
        port: of its C-STORE service.
        title: its AE title.
    """

    host: str
    port: int
    title: str


def parse_peer(written: str) -> Peer:
    """``HOST:PORT/AET`` as a peer.

    Raises:
        StudyError: it is something else.
    """
    found = _PEER.fullmatch(written)
    if not found or not 0 < int(found["port"]) < 65536 or not found["title"].strip():
        raise StudyError(f"--send is {written!r}; accepted is HOST:PORT/AET, as in pacs.hospital:104/ARCHIVE")
    return Peer(found["host"].strip("[]"), int(found["port"]), found["title"].strip())


def store_to(peer: Peer) -> Send:
    """Sends by C-STORE.

    Raises:
        StudyError: pynetdicom is not installed.
    """
    try:
        from pynetdicom import AE
    except ImportError as error:
        raise StudyError("--send needs pynetdicom; install it with pip install 'lckd[send]'") from error
    where = f"{peer.title} at {peer.host}:{peer.port}"

    def send(file: Path) -> None:
        dataset = dcmread(file)
        entity = AE(OUR_TITLE)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = TIMEOUT_S
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = entity.associate(peer.host, peer.port, ae_title=peer.title)
        if not association.is_established:
            why = _refusal(association, dataset.SOPClassUID)
            raise StudyError(f"{where} {why}; check address, AE titles ({OUR_TITLE} is ours) and rights")
        try:
            status = association.send_c_store(dataset)
        finally:
            association.release()
        code = status.get("Status") if status else None
        if code is None or (code != 0 and code & 0xF000 != 0xB000):
            raise StudyError(f"{where} refused the file (status {'none' if code is None else f'{code:#06x}'})")

    return send


def stow_to(url: str) -> Send:
    """Sends by STOW-RS.

    Args:
        url: of the DICOMweb service, e.g. ``http://localhost:8042/dicom-web``; may hold ``user:password@``.

    Raises:
        StudyError: the URL cannot be one, or dicomweb-client is not installed.
    """
    parts = _parse_url(url)
    try:
        import requests
        from dicomweb_client import DICOMwebClient
    except ImportError as error:
        raise StudyError(f"--stow needs {error.name}; install it with pip install 'lckd[send]'") from error
    where = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
    session = requests.Session()
    session.headers["User-Agent"] = f"lckd/{__version__}"
    if parts.username:
        session.auth = (parts.username, parts.password or "")
    client = DICOMwebClient(where, session)
    client.set_http_retry_params(retry=False)

    def send(file: Path) -> None:
        dataset = dcmread(file)
        try:
            answer = client.store_instances([dataset])
        except requests.RequestException as error:
            code = getattr(error.response, "status_code", None)
            why = f"answers {code}" if code else "does not answer"
            raise StudyError(f"{where} {why}; check address, user and that it accepts STOW-RS") from error
        failed = answer.get("FailedSOPSequence")
        if failed:
            raise StudyError(f"{where} refused the file (reason {failed[0].get('FailureReason', 'not given')})")

    return send


def _refusal(association: Any, sop_class: UID) -> str:
    """Why no association came about."""
    if association.is_rejected:
        return "rejects us"
    return f"does not take {sop_class.name}" if association.acceptor.primitive else "does not answer"


def _parse_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # a port or an address that cannot be one
        pass
    # not quoted, since it may hold a password
    raise StudyError("--stow is no address of a DICOMweb service; accepted is http(s)://HOST[:PORT]/PATH")


def send_all(files: Mapping[str, Sequence[Path]], senders: Sequence[Send]) -> dict[str, str]:
    """Send each study's files to everyone.

    Args:
        files: per study.
        senders: of ``store_to`` and ``stow_to``.

    Returns:
        Per study ``sent``, or why not; one failure stops nothing.
    """
    results = {}
    for study, own in files.items():
        try:
            for send, file in product(senders, own):
                send(file)
            results[study] = "sent"
        except StudyError as error:
            results[study] = str(error)
        except Exception as error:  # a library's own, of a peer that breaks the protocol
            results[study] = f"cannot be sent ({type(error).__name__}: {reason(error)})"
    return results
