"""Who may talk to the server."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable
from pathlib import Path

import anyio
from cachetools import TTLCache
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from lckd.errors import StudyError

OPEN = ("/healthz", "/auth/", "/auth/token")
"""All that is answered before a login."""

LOGIN_S = 12 * 3600
ATTEMPTS = 5
LOCKOUT_S = 60
HANDOVER_S = 60


class RefusedError(AuthenticationError):
    """A request is not answered; the message is one sentence for the user.

    Args:
        sentence: why.
        status: of the answer.
    """

    def __init__(self, sentence: str, status: int = 401) -> None:
        super().__init__(sentence)
        self.status = status


class Guard(AuthenticationBackend):
    """Login with a token or with name and password, and a lock-out after wrong ones.

    Where neither is set, only clients on this machine are served, whatever address the server listens on.

    Args:
        token: accepted as Bearer, or as the password of any name.
        users: file with a line of ``user_line`` per user.

    Raises:
        StudyError: the file of users cannot be used.
    """

    def __init__(self, token: str | None = None, users: str | None = None) -> None:
        self._token = token
        self._users = read_users(users) if users else {}
        self._logins: TTLCache[bytes, str] = TTLCache(10_000, LOGIN_S)
        self._failures: TTLCache[str, int] = TTLCache(10_000, LOCKOUT_S)
        self._handovers: TTLCache[tuple[str, str], bool] = TTLCache(10_000, HANDOVER_S)
        self._one_at_a_time = anyio.Lock()

    @property
    def required(self) -> bool:
        """Whether clients have to log in."""
        return bool(self._token or self._users)

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        """The user of a request; None where nobody has to log in.

        Raises:
            RefusedError: the request is not answered.
        """
        address = address_of(conn)
        if not self.required:
            if not is_local(viewer_of(conn)):
                raise RefusedError(
                    "this server has no login and answers its own machine only; start it with --token", 403
                )
            return None
        if conn.scope["path"] in OPEN:
            return None
        header = conn.headers.get("authorization")
        name = await self._user(address, header) if header else self._handed_over(conn)
        return AuthCredentials(["authenticated"]), SimpleUser(name)

    async def login(self, address: str, name: str, password: str) -> str:
        """A new token for a user.

        Raises:
            RefusedError: name and password do not fit, or did not too often.
        """
        await self._check(address, lambda: self._fits(name, password))
        token = secrets.token_urlsafe(32)
        self._logins[_digest(token)] = name
        return token

    def hand_over(self, viewer: str, study: str) -> None:
        """Let ``viewer``, of ``viewer_of``, download one study's image once, soon, without credentials.

        3D Slicer asks for the next sample with its login, then downloads the image without.
        """
        self._handovers[viewer, study] = True

    def _handed_over(self, conn: HTTPConnection) -> str:
        download = conn.scope["method"] == "GET" and conn.scope["path"] == "/datastore/image"
        if not (download and self._handovers.pop((viewer_of(conn), conn.query_params.get("image", "")), None)):
            raise RefusedError("this server wants a login; give name and password, or a token")
        return ""

    async def _user(self, address: str, header: str) -> str:
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "bearer":
            # Not to be guessed, so no failure to count; a right password must not show through during a lock-out.
            if name := self._logins.get(_digest(value)):
                return name
            await self._check(address, lambda: self._is_token(value))
            return "token"
        try:
            name, _, password = base64.b64decode(value).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name = password = ""
        await self._check(address, lambda: scheme.lower() == "basic" and self._fits(name, password))
        return name

    async def _check(self, address: str, right: Callable[[], bool]) -> None:
        async with self._one_at_a_time:  # or many guesses sent at once would all pass before the first has failed
            failures = self._failures.get(address, 0)
            if failures >= ATTEMPTS:
                raise RefusedError(f"too many wrong logins; wait {LOCKOUT_S} seconds", 429)
            if not await run_in_threadpool(right):
                self._failures[address] = failures + 1
                raise RefusedError("the login is wrong or has expired; log in again")

    def _is_token(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), self._token.encode()) if self._token else False

    def _fits(self, name: str, password: str) -> bool:
        salt, expected = self._users.get(name, (b"nobody", b""))  # hashed all the same: time tells no names
        return hmac.compare_digest(_scrypt(password, salt), expected) or self._is_token(password)


def user_line(name: str, password: str) -> str:
    """The line of a file of users: name, salt and scrypt hash.

    Raises:
        StudyError: the name cannot stand in it.
    """
    if not name or ":" in name or name.startswith("#") or not name.isprintable():
        raise StudyError(f"the user name {name!r} is not accepted; use letters, digits and dots")
    salt = secrets.token_bytes(16)
    return f"{name}:{salt.hex()}:{_scrypt(password, salt).hex()}"


def read_users(path: str) -> dict[str, tuple[bytes, bytes]]:
    """Salt and hash of each user of a file; empty lines and lines that begin with ``#`` are passed over.

    Raises:
        StudyError: the file cannot be read, has a line of another kind, or no user.
    """
    users = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"the file of users {path} cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            try:
                name, salt, digest = line.strip().split(":")
                users[name] = (bytes.fromhex(salt), bytes.fromhex(digest))
            except ValueError as error:
                raise StudyError(f"line {number} of {path} is none of a user; lckd password NAME makes one") from error
    if not users:
        raise StudyError(f"{path} holds no user; lckd password NAME makes a line")
    return users


def address_of(conn: HTTPConnection) -> str:
    """The client's address; that of this machine on a Unix socket."""
    return conn.client.host if conn.client else "127.0.0.1"


def viewer_of(conn: HTTPConnection) -> str:
    """The address that a request comes from: behind a proxy on this machine what the proxy says, else the client's.

    A proxy adds the address that it sees at the end; what stands before it, anybody may have written. A lock-out does
    not go by it, for on this machine anybody is free to say anything.
    """
    address = address_of(conn)
    forwarded = ",".join(conn.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
    return forwarded if forwarded and is_local(address) else address


def is_local(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def _digest(token: str) -> bytes:
    """Under which a token is kept, so that looking it up takes the same time for any guess."""
    return hashlib.sha256(token.encode()).digest()
