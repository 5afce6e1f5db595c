"""The label server: MONAI Label's protocol for stock clients, and nothing that a request should not reach.

MONAI Label's own endpoints write uploads under the names that clients send, open any file of the server, let
``params`` replace everything else in a request and infer inside the event loop, so that none of them is used. Its
app, its background tasks and its client are: what is offered here is what 3D Slicer asks for.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import APIRouter, Body, Depends, FastAPI, Form, HTTPException, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.config import settings
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel_app.guard import Guard, RefusedError, address_of, is_local, viewer_of
from monailabel_app.uploads import Sessions, Upload, remove_abandoned
from pydantic import BaseModel, Json
from requests_toolbelt import MultipartEncoder
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from lckd import __version__
from lckd.devices import choose_device
from lckd.errors import StudyError
from lckd.weights import sha256_of

logger = logging.getLogger(__name__)

UPLOAD_BYTES = 2 * 2**30
CONNECTIONS = 100

CLIENT_PARAMS = {
    "client_id",
    "label_info",
    "result_extension",
    "result_dtype",
    "result_compress",
    "restore_label_idx",
    "label",
}
"""What stock clients send beside options; the answer does not depend on it."""

TASKS = {"/train/": "train", "/scoring/": "scoring", "/batch/infer": "batch_infer"}
"""What MONAI Label runs in processes of their own, and where clients ask for it."""

SETTINGS = {
    "MONAI_LABEL_APP_DIR": str(Path(__file__).parent),
    "MONAI_LABEL_AUTO_UPDATE_SCORING": False,
    "MONAI_LABEL_SESSIONS": False,  # ours are in memory: MONAI Label's opens any folder that a session id leads to
    "MONAI_LABEL_TRACKING_ENABLED": False,
}

Params = dict[str, Any]
routes = APIRouter()


# ---- what the server is


@routes.get("/")
def home() -> PlainTextResponse:
    """For a person with a browser."""
    return PlainTextResponse("This is a label server: paste its address into the MONAI Label module of 3D Slicer.\n")


@routes.get("/healthz")
def healthz() -> dict[str, str]:
    """For a monitor; needs no login."""
    return {"status": "ok", "version": __version__}


@routes.get("/info/")
def info() -> dict[str, Any]:
    """Models, strategies and their options, from which the viewer builds its panel."""
    return app_instance().info()


# ---- login, as 3D Slicer's dialog does it


@routes.get("/auth/")
def login_wanted(request: Request) -> dict[str, bool]:
    """Whether the viewer has to ask for name and password."""
    return {"enabled": request.app.state.guard.required}


@routes.post("/auth/token")
async def login(request: Request, form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
    """A token for name and password."""
    token = await request.app.state.guard.login(address_of(request), form.username, form.password)
    return {"access_token": token, "token_type": "bearer"}


@routes.get("/auth/token/valid")
def login_valid(request: Request) -> dict[str, str]:
    """Answers whoever comes past the guard."""
    return {"username": request.user.display_name}


# ---- studies and labels


@routes.post("/activelearning/{strategy}")
def next_sample(request: Request, strategy: str, params: Annotated[Params | None, Body()] = None) -> dict[str, Any]:
    """The study that a strategy chooses; empty when all are finished."""
    given = {name: value for name, value in (params or {}).items() if name in ("study", "client_id")}
    app = app_instance()
    sample = app.next_sample({**given, **_client(request, given), "strategy": strategy})
    if not sample:
        return {}
    study, file = sample["id"], Path(sample["path"])
    request.app.state.guard.hand_over(viewer_of(request), study)
    # The viewer keeps downloads by name: equal names of two studies would show the wrong patient.
    name = file.name if file.name.startswith(study) else f"{study}_{file.name}"
    facts = app.datastore().get_image_info(study) | {"id": study, "name": name, "checksum": f"SHA256:{sha256_of(file)}"}
    # On another machine a file of the same path would be another image.
    return facts | {"path": str(file)} if is_local(viewer_of(request)) else facts


@routes.get("/datastore/")
def datastore(output: Literal["stats", "all"] = "stats") -> dict[str, Any]:
    """Numbers, or all studies with their labels."""
    store = app_instance().datastore()
    return store.json() if output == "all" else store.status()


@routes.api_route("/datastore/image", methods=["GET", "HEAD"])
def image(image: str) -> FileResponse:
    """File of a study's reference sequence, or of ``study@t2``."""
    file = app_instance().datastore().get_image_uri(image)
    return FileResponse(file, filename=Path(file).name)


@routes.get("/datastore/image/info")
def image_info(image: str) -> dict[str, Any]:
    """What is known of a study."""
    return app_instance().datastore().get_image_info(image)


@routes.api_route("/datastore/label", methods=["GET", "HEAD"])
def label(label: str, tag: str) -> FileResponse:
    """File of a study's newest label of a tag."""
    file = app_instance().datastore().get_label_uri(label, tag)
    return FileResponse(file, filename=Path(file).name)


@routes.get("/datastore/label/info")
def label_info(label: str, tag: str) -> dict[str, Any]:
    """What was saved with it."""
    return app_instance().datastore().get_label_info(label, tag)


class Segment(BaseModel):
    """A value of a label map and the name it has in the viewer."""

    name: str
    idx: int


class Submission(BaseModel):
    """What a client says of a label."""

    client_id: str | None = None
    label_info: list[Segment] = []


@routes.put("/datastore/label")
def save_label(
    request: Request,
    image: str,
    label: UploadFile,
    params: Annotated[Json[Submission] | None, Form()] = None,
    tag: str = "final",
) -> dict[str, str]:
    """Save a label map as the newest version of a tag."""
    said = (params or Submission()).model_dump()
    app = app_instance()
    with Upload(label) as upload:
        saved = app.datastore().save_label(image, upload.image, tag or "final", said | _client(request, said))
    app.on_save_label(image, saved)
    return {"image": image, "label": saved}


# ---- inference


@routes.put("/session/")
def open_session(request: Request, files: list[UploadFile]) -> dict[str, Any]:
    """Take a volume that was loaded into the viewer by hand."""
    if len(files) != 1:
        raise StudyError(f"{len(files)} files were sent; accepted is one volume in one file")
    sessions = request.app.state.sessions
    session = sessions.add(Upload(files[0]))
    return {"session_id": session, "session_info": {"name": session, "expiry": sessions.expiry_s}}


@routes.get("/session/{session}")
def session_info(request: Request, session: str) -> dict[str, Any]:
    """Whether a session is there; an empty answer, not an error, makes 3D Slicer send the volume again."""
    sessions = request.app.state.sessions
    return {"name": session, "expiry": sessions.expiry_s} if sessions.get(session) else {}


@routes.delete("/session/{session}")
def close_session(request: Request, session: str) -> dict[str, Any]:
    """Forget a volume."""
    request.app.state.sessions.remove(session)
    return {}


@routes.post("/infer/{model}")
async def infer(
    request: Request,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[Json[Params] | None, Form()] = None,
    file: UploadFile | None = None,
    label: UploadFile | None = None,
    output: Literal["all", "image", "json"] = "all",
) -> Response:
    """Segment a study, the volume of a session or a file; one after the other, in the order of arrival."""
    sent, scribbles = [await run_in_threadpool(Upload, each) if each else None for each in (file, label)]
    with (
        scribbles or contextlib.nullcontext(),
        sent or contextlib.nullcontext(request.app.state.sessions.get(session_id)) as volume,
    ):
        if session_id and not volume:
            raise HTTPException(404, "the server has forgotten this volume; load it into the viewer again")
        if not (volume or image):
            raise StudyError("no image was given; name a study, or send a volume")
        # Waiting here takes no thread of those that answer everything else.
        work = partial(_segment, model, image, volume, scribbles, params or {}, output)
        return await asyncio.get_running_loop().run_in_executor(request.app.state.queue, work)


def _segment(
    model: str, image: str, volume: Upload | None, scribbles: Upload | None, params: Params, output: str
) -> Response:
    app = app_instance()
    options = _options(app.info()["models"], model, params)
    # What was marked is read with care by the task that asks for it, and is no option.
    interaction: tuple[str, ...] = getattr(app._infers[model], "interaction", tuple)()
    options |= {"marks": {name: params[name] for name in interaction if name in params}} if interaction else {}
    options |= {"scribbles": scribbles.image} if scribbles else {}
    # What the viewer calls a volume may say which sequence it is.
    source = {"session_image": volume.image, "name": image} if volume else {"image": image}
    started = time.perf_counter()
    result = app.infer({**options, **source, "model": model})
    logger.info("segmented %s in %.1f s", "a volume" if volume else image, time.perf_counter() - started)
    unknown = sorted(params.keys() - options.keys() - {*CLIENT_PARAMS, *interaction})
    facts = result["params"]
    facts["warnings"] = [*facts["warnings"], *(f"the option {name[:40]!r} was ignored" for name in unknown)]
    return _answer(Path(result["file"]), facts, output)


def _answer(file: Path, facts: Mapping[str, Any], output: str) -> Response:
    label_map = file.read_bytes()
    file.unlink()
    if output == "json":
        return JSONResponse(facts)
    if output == "image":
        return Response(label_map, media_type="application/octet-stream")
    fields = {
        "params": (None, json.dumps(facts), "application/json"),
        "image": (file.name, label_map, "application/octet-stream"),
    }
    parts = MultipartEncoder(fields)
    return Response(parts.to_string(), media_type=parts.content_type)


# ---- tasks of their own processes


@routes.post("/train/")
@routes.post("/train/{model}")
def train(model: str = "", params: Annotated[Params | None, Body()] = None) -> dict[str, Any]:
    """Train one model, or all."""
    app = app_instance()
    trainers = app.info()["trainers"]
    started = {}
    for name in [model] if model else trainers:
        options = _options(trainers, name, params or {})
        # Before the task starts: of a task that fails, the viewer shows no more than that it has.
        app._trainers[name].check(options, app.datastore())
        started[name] = _start("train", {"model": name, **options})
    return started[model] if model else started


@routes.post("/scoring/")
@routes.post("/scoring/{method}")
def score(method: str = "dice") -> dict[str, Any]:
    """Compare final with original labels."""
    return _start("scoring", {"method": method})


@routes.post("/batch/infer/{model}")
def batch(
    model: str,
    images: Literal["unlabeled", "all"] = "unlabeled",
    params: Annotated[Params | None, Body()] = None,
) -> dict[str, Any]:
    """Segment all studies that lack a label."""
    return _start(
        "batch_infer",
        {"model": model, "images": images, **_options(app_instance().info()["models"], model, params or {})},
    )


def _start(method: str, asked: Params) -> dict[str, Any]:
    task, _ = AsyncTask.run(method, request=asked)
    if task is None:
        raise HTTPException(409, f"{method.replace('_', ' ')} is already running; wait for its end, or stop it")
    return task


def _status(method: str, all: bool = False, check_if_running: bool = False) -> Any:
    """The last task, or all; an error, as clients expect, if there is none."""
    task, detail = AsyncTask.status(method, all, check_if_running)
    if task is None:
        raise HTTPException(404, detail)
    return task


def _stop(method: str) -> dict[str, Any]:
    """Stop the running task, if there is one."""
    return AsyncTask.stop(method) or {}


for path, method in TASKS.items():
    routes.add_api_route(path, partial(_status, method), methods=["GET"])
    routes.add_api_route(path, partial(_stop, method), methods=["DELETE"])


# ---- parts of the endpoints


def _options(tasks: Mapping[str, Any], name: str, params: Mapping[str, Any]) -> Params:
    """Of what a client sent, the options that a task has: nothing else may reach it.

    A list stands for a combo box that nobody touched, and is left out as well.
    """
    if name not in tasks:
        raise StudyError(f"there is no {name[:40]!r}; accepted are {', '.join(tasks)}")
    known = tasks[name].get("config", {})
    return {name: value for name, value in params.items() if name in known and isinstance(value, str | int | float)}


def _client(request: Request, said: Mapping[str, Any]) -> dict[str, str]:
    """Who asks: the name of the login, else what the client calls itself."""
    return {"client_id": (request.scope["user"].display_name or str(said.get("client_id") or ""))[:100]}


# ---- the app


def create_app(guard: Guard | None = None, upload_bytes: int = UPLOAD_BYTES, host: str = "127.0.0.1") -> FastAPI:
    """The ASGI app around MONAI Label's, which the settings name.

    Args:
        guard: who may talk to it; None takes the token or the users that the environment names.
        upload_bytes: most that a request may send.
        host: under which the server is asked, where there is no login.
    """
    guard = guard or Guard(os.environ.get("LCKD_TOKEN"), os.environ.get("LCKD_USERS"))
    # Without a login, a web page whose name is made to point to this machine could use the server.
    hosts = ["*"] if guard.required else ["127.0.0.1", "localhost", "::1", "[::1]", host]
    handlers: dict[Any, Any] = dict.fromkeys(EXPLAINED, _explain) | {413: lambda *_: _too_large(upload_bytes)}
    app = FastAPI(
        title="LCKD label server",
        openapi_url=None,  # its pages would be loaded from the internet
        lifespan=_lifespan,
        middleware=[
            Middleware(DeclaredLengthLimit, upload_bytes=upload_bytes),
            Middleware(RequestBodyLimitMiddleware, max_body_size=upload_bytes),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
            Middleware(AuthenticationMiddleware, backend=guard, on_error=_explain),
        ],
        exception_handlers=handlers,
    )
    app.state.guard = guard
    app.state.sessions = Sessions()
    app.include_router(routes)
    return app


class DeclaredLengthLimit:
    """Refuses a request that says itself that it is too large, before any of it is read.

    ``RequestBodyLimitMiddleware`` does so, too, and counts what comes without a length; but it has words of its own.
    """

    def __init__(self, app: ASGIApp, upload_bytes: int) -> None:
        self.app, self.upload_bytes = app, upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        length = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        too_large = length.isdecimal() and int(length) > self.upload_bytes
        await (_too_large(self.upload_bytes) if too_large else self.app)(scope, receive, send)


def _too_large(upload_bytes: int) -> JSONResponse:
    return _told(
        413, f"the file sent is too large; accepted are {upload_bytes / 2**20:g} MB, which lckd serve --upload_mb sets"
    )


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    label_app = app_instance()
    label_app._sessions = app.state.sessions  # it removes those that have expired
    label_app.server_mode(True)
    label_app.on_init_complete()
    remove_abandoned()
    app.state.queue = ThreadPoolExecutor(1, "request")
    yield
    app.state.queue.shutdown(wait=False, cancel_futures=True)
    for task in TASKS.values():
        AsyncTask.stop(task)


EXPLAINED = (StudyError, MONAILabelException, RequestValidationError, RefusedError, Exception)


def _explain(request: Any, error: Exception) -> JSONResponse:
    match error:
        case ImageNotFoundException() | LabelNotFoundException():
            return _told(404, error.msg)
        case MONAILabelException():
            return _told(400, error.msg)
        case StudyError():
            return _told(400, str(error))
        case RefusedError():
            return _told(error.status, str(error))
        case RequestValidationError():
            first = error.errors()[0]
            return _told(400, f"{'.'.join(map(str, first['loc'][1:])) or 'the request'}: {first['msg']}")
        case _:  # the server logs it with its traceback
            return _told(500, "the server failed at this; its log says why")


def _told(status: int, sentence: str) -> JSONResponse:
    """An answer with a sentence, without the folders of the files it names."""
    headers = {401: {"WWW-Authenticate": "Basic"}, 429: {"Retry-After": "60"}}.get(status)
    return JSONResponse({"detail": re.sub(r"(?<![\w.])/(?:[^\s/]+/)+", "", sentence)}, status, headers)


# ---- the process


def serve(
    studies: str,
    conf: Mapping[str, str | None],
    host: str,
    port: int,
    token: str | None = None,
    users: str | None = None,
    upload_bytes: int = UPLOAD_BYTES,
) -> None:
    """Serve until the process is stopped.

    Args:
        studies: as ``StudyDatastore`` takes them.
        conf: of ``LabelApp``; what is None is left out.
        host: to listen on.
        port: likewise; 0 takes a free one.
        token: of ``Guard``; None takes the environment's ``LCKD_TOKEN``.
        users: of ``Guard``.
        upload_bytes: most that a request may send.

    Raises:
        StudyError: there are no studies or no weights, the port is taken, or other machines could do as they like.
    """
    guard = Guard(token or os.environ.get("LCKD_TOKEN"), users)
    if not (guard.required or is_local(host)):
        raise StudyError(f"--host {host} opens the server to other machines; give --token or --users as well")
    listener = _listen(host, port)
    chosen = {name: value for name, value in conf.items() if value is not None}
    configure({"MONAI_LABEL_STUDIES": str(Path(studies).expanduser().absolute()), "MONAI_LABEL_APP_CONF": chosen})
    app = app_instance()
    usable, unusable = len(app.datastore().list_images()), len(app.datastore().errors())
    if not usable:
        raise StudyError(f"{studies} holds no study that can be used ({unusable} cannot); give a folder of studies")
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    model = app.model_facts()
    print(f"studies:   {usable} found, {unusable} cannot be used; labels are kept in {app.work_folder()}")
    print(f"model:     lckd {__version__}, weights {model['version']} {model['sha256'][:12]}, on {choose_device()}")
    print(f"3D Slicer: {address}  (MONAI Label module, server{'; it asks for the login' * guard.required})", flush=True)
    config = uvicorn.Config(
        create_app(guard, upload_bytes, host),
        log_config=None,
        access_log=False,  # requests hold what users call their volumes
        proxy_headers=False,  # a lock-out is by address, which a client must not choose
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run(sockets=[listener])


def configure(chosen: Mapping[str, Any] | None = None) -> None:
    """Set MONAI Label's settings, for this process and those that it starts, and what is logged."""
    for name, value in {**SETTINGS, **(chosen or {})}.items():
        setattr(settings, name, value)
        os.environ[name] = value if isinstance(value, str) else json.dumps(value)
    os.environ.setdefault("PYTHONPATH", "")  # MONAI Label expects it
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("monailabel", "uvicorn"):  # MONAI Label logs whole requests
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("timeloop").disabled = True  # sets its own level, and says everything twice
    for task in TASKS.values():
        logging.getLogger(f"task_{task}").addFilter(lambda record: not OTHERS.search(record.getMessage()))


OTHERS = re.compile(r"\[INFO\] \((?!lib|lckd|main)")
"""Lines of a task's process that are not ours: MONAI Label's hold requests and paths."""


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise StudyError(
            f"cannot listen on port {port} of {host} ({error.strerror}); stop what does, or give another --port"
        ) from error


def __getattr__(name: str) -> Any:
    """``app``, made when it is asked for, as by

    ``monailabel start_server --app monailabel_app --studies STUDIES --uvicorn_app monailabel_app.server:app``

    with the login in ``LCKD_TOKEN`` or ``LCKD_USERS``. Without ``--uvicorn_app`` it would be MONAI Label's own server,
    which anybody can use and any client can break into.
    """
    if name != "app":
        raise AttributeError(name)
    configure()
    return create_app()
