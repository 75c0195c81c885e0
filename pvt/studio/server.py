"""HTTP service of the studio: the page, generation jobs, takes and imports.

Requests are refused unless the Host header is an accepted name, Origin, if sent, is the same host, and the token, where
one is required, is given (`Guard`). Bodies are bounded; no path from a client reaches the disk.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from data_specs.cli import integer, number
from data_specs.controls.curve_files import curves_value, parse_csv, parse_json
from data_specs.errors import UserError
from pvt.studio.guard import Guard, problem
from pvt.studio.jobs import JobQueue, QueueFull, StudioJob
from pvt.studio.requests import (
    MAX_BODY,
    MAX_UPLOAD,
    parse_format,
    parse_generation,
    parse_query,
    parse_recipe,
    utf8_text,
)
from pvt.studio.takes import Take, wav_bytes

if TYPE_CHECKING:
    from pvt.studio.engine import Engine

ASSETS = {one.name: one.read_bytes() for one in (resources.files("pvt.studio") / "assets").iterdir() if one.is_file()}
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
LOOPBACK_NAMES = {"127.0.0.1", "localhost", "[::1]"}
PORTS_TRIED = 50


class Studio:
    """Handlers of the routes. The engine loads in the background while the page is served.

    Args:
        load: returns the engine; called once in a thread.
    """

    def __init__(self, load: "Callable[[], Engine]") -> None:
        self._load = load
        self._engine: asyncio.Task[Engine] | None = None
        self._example: StudioJob | None = None
        self.jobs: JobQueue
        self._begun: asyncio.Task[None]

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Start the queue of jobs and the loading of the models, then the example.

        When the block ends, the jobs are cancelled; the loading is not stopped.
        """
        self.jobs = JobQueue()
        self._engine = asyncio.create_task(asyncio.to_thread(self._load))
        self._begun = asyncio.create_task(self._begin())
        tasks = [asyncio.create_task(self.jobs.serve()), self._begun]
        yield
        for task in tasks:
            task.cancel()
        if self.jobs.running:
            self.jobs.running.cancel()

    async def _begin(self) -> None:
        with contextlib.suppress(Exception):  # reported by the requests that need the engine
            engine = await self.engine()
            request = engine.example()
            self._example = self.jobs.add(lambda job: engine.generate(request, job), attended=False)

    async def engine(self) -> "Engine":
        """Wait until the engine is loaded and return it. An exception of its loading is raised to every caller."""
        assert self._engine is not None
        return await asyncio.shield(self._engine)

    async def page(self, request: Request) -> Response:
        """`GET /`: the page as HTML."""
        return HTMLResponse(ASSETS["index.html"])

    async def asset(self, request: Request) -> Response:
        """`GET /assets/NAME`: a file of the page; 404 if there is none of this name."""
        name = request.path_params["name"]
        if name not in ASSETS:
            return problem(404, f"there is no asset {name!r:.80}")
        return Response(ASSETS[name], media_type=TYPES[PurePosixPath(name).suffix])

    async def models(self, request: Request) -> Response:
        """`GET /api/models`: the menu of models, shipped curves, and job and curves of the example.

        The answer comes when the models are loaded.
        """
        engine = await self.engine()
        await asyncio.shield(self._begun)
        return JSONResponse(
            {
                "models": [entry.describe() for entry in engine.entries.values()],
                "presets": engine.presets(),
                "example": {"job": self._example_job(engine), "curves": engine.example().curves},
            }
        )

    def _example_job(self, engine: "Engine") -> str | None:
        """Return the id of the job of the example; None if there is none, or if it or a take of it was dropped."""
        job = self._example and self.jobs.get(self._example.id)
        takes = [take["id"] for event in job.events for take in event.get("takes", [])] if job else []
        return job.id if job and all(engine.takes.get(take) for take in takes) else None

    async def start(self, request: Request) -> Response:
        """`POST /api/jobs`: check a request in JSON and queue it; answers 202 with the id of the job."""
        generation = parse_generation(await read_body(request, MAX_BODY))
        engine = await self.engine()
        engine.check(generation)
        return JSONResponse({"id": self.jobs.add(lambda job: engine.generate(generation, job)).id}, 202)

    async def repeat(self, request: Request) -> Response:
        """`POST /api/recipes`: check a recipe in JSON and queue its generation; answers 202 with the id of the job."""
        recipe = parse_recipe(await read_body(request, MAX_BODY))
        engine = await self.engine()
        engine.check_recipe(recipe)
        return JSONResponse({"id": self.jobs.add(lambda job: engine.repeat(recipe, job)).id}, 202)

    async def events(self, request: Request) -> Response:
        """`GET /api/jobs/ID/events`: events of a job as server-sent events, past ones first, until it has finished."""
        job = self._job(request)

        async def lines() -> AsyncIterator[str]:
            async with contextlib.aclosing(job.stream()) as events:
                async for event in events:
                    yield f"data: {json.dumps(event)}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def cancel(self, request: Request) -> Response:
        """`DELETE /api/jobs/ID`: cancel a job; answers 202 at once, while the work may run until its next step."""
        self.jobs.cancel(self._job(request))
        return JSONResponse({}, 202)

    async def wav(self, request: Request) -> Response:
        """`GET /api/takes/ID/wav?rate=48000&bits=24`: a take as a WAV file; by default of 24000 Hz and 16 bits."""
        return await _wav(await self._take(request), *parse_format(dict(request.query_params)))

    async def spectrogram(self, request: Request) -> Response:
        """`GET /api/takes/ID/spectrogram`: levels [F, T], a byte each, row by row; the header X-Bands gives F."""
        levels = (await self._take(request)).spectrogram
        return Response(levels.tobytes(), media_type="application/octet-stream", headers={"X-Bands": str(len(levels))})

    async def recipe(self, request: Request) -> Response:
        """`GET /api/takes/ID/recipe`: the recipe of a take in JSON, which `POST /api/recipes` accepts."""
        return JSONResponse((await self._take(request)).recipe)

    async def generate(self, request: Request) -> Response:
        """`POST /generate`: a curve file as the body, options in the query; answers with the first take as a WAV file.

        The job is cancelled if the client disconnects.
        """
        query = dict(request.query_params)
        rate, bits = parse_format(query)
        generation = parse_query(query, await read_body(request, MAX_BODY))
        engine = await self.engine()
        engine.check(generation)
        job = self.jobs.add(lambda job: engine.generate(generation, job), attended=False)
        finished = asyncio.create_task(last_event(job))
        gone = asyncio.create_task(disconnected(request))
        await asyncio.wait({finished, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not finished.done():
            self.jobs.cancel(job)
            return problem(499, "the client disconnected")
        event = finished.result()
        if event["kind"] != "done":
            return problem(409 if event["kind"] == "cancelled" else 422, event.get("message", "the job was cancelled"))
        takes = next(event["takes"] for event in reversed(job.events) if event["kind"] == "takes")
        take = engine.takes.get(takes[0]["id"])
        if take is None:
            return problem(503, "the take was dropped from memory; send the request again")
        return await _wav(take, rate, bits)

    async def import_curves(self, request: Request) -> Response:
        """`POST /api/import/curves`: a curve file, JSON or CSV; answers with its curves in JSON and notices."""
        text = utf8_text(await read_body(request, MAX_BODY))
        curves = await asyncio.to_thread(parse_json if text.lstrip()[:1] == "{" else parse_csv, text, "the file")
        return JSONResponse({"curves": curves_value(curves), "notices": list(curves.notices)})

    async def import_midi(self, request: Request) -> Response:
        """`POST /api/import/midi?seconds=8&track=N`: a MIDI file; answers with notes of a track and the list of tracks.

        By default the first 8 s of the track with most notes are read.
        """
        from pvt.studio.imports import midi_notes

        query = request.query_params
        seconds = integer("seconds", query.get("seconds", "8"))
        track = integer("track", query["track"], least=0) if "track" in query else None
        body = await read_body(request, MAX_BODY)
        return JSONResponse(await asyncio.to_thread(midi_notes, body, seconds, track))

    async def import_recording(self, request: Request) -> Response:
        """`POST /api/import/recording?seconds=8&sharpness=0.8&model=NAME`: an audio file; answers with its curves.

        The curves are those of the controls of the model, by default the first.
        """
        from data_specs.analysis import SHARPNESS
        from pvt.studio.imports import recording_curves

        seconds = integer("seconds", request.query_params.get("seconds", "8"))
        sharpness = number("sharpness", request.query_params.get("sharpness", str(SHARPNESS)))
        body = await read_body(request, MAX_UPLOAD)
        engine = await self.engine()
        names = engine.entry(request.query_params.get("model", "")).model.data.layout.names
        return JSONResponse(await asyncio.to_thread(recording_curves, body, seconds, names, sharpness))

    def _job(self, request: Request) -> StudioJob:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            raise Missing("there is no such job")
        return job

    async def _take(self, request: Request) -> Take:
        take = (await self.engine()).takes.get(request.path_params["id"])
        if take is None:
            raise Missing("the take is not in memory any more; generate it again")
        return take

    def app(self, names: set[str], token: str) -> Guard:
        """Return the ASGI application with all routes; see `Guard` for the arguments."""
        routes = [
            Route("/", self.page),
            Route("/assets/{name}", self.asset),
            Route("/api/models", self.models),
            Route("/api/jobs", self.start, methods=["POST"]),
            Route("/api/recipes", self.repeat, methods=["POST"]),
            Route("/api/jobs/{id}/events", self.events),
            Route("/api/jobs/{id}", self.cancel, methods=["DELETE"]),
            Route("/api/takes/{id}/wav", self.wav),
            Route("/api/takes/{id}/spectrogram", self.spectrogram),
            Route("/api/takes/{id}/recipe", self.recipe),
            Route("/api/import/curves", self.import_curves, methods=["POST"]),
            Route("/api/import/midi", self.import_midi, methods=["POST"]),
            Route("/api/import/recording", self.import_recording, methods=["POST"]),
            Route("/generate", self.generate, methods=["POST"]),
        ]
        handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
            UserError: _answer_with(422),
            QueueFull: _answer_with(429),
            Missing: _answer_with(404),
            TooLarge: _answer_with(413),
            ClientDisconnect: _answer_with(400),
        }
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self.lifespan)
        app.router.redirect_slashes = False
        return Guard(app, names, token)


class Missing(Exception):
    """A path names a job or take that does not exist; answered with 404."""


class TooLarge(Exception):
    """A body is larger than its bound; answered with 413."""


def _answer_with(status: int) -> Callable[[Request, Any], Awaitable[Response]]:
    async def answer(request: Request, error: Any) -> Response:
        return problem(status, str(error))

    return answer


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        TooLarge: it exceeds `limit` bytes.
        ClientDisconnect: the client closed the connection.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise TooLarge(f"the body must be at most {limit // 1_000_000} MB")
    return bytes(body)


async def _wav(take: Take, rate: int, bits: int) -> Response:
    content = await asyncio.to_thread(wav_bytes, take.audio, take.sample_rate, bits, rate)
    return Response(content, media_type="audio/wav")


async def last_event(job: StudioJob) -> dict[str, Any]:
    """Wait until a job has finished and return its final event."""
    event: dict[str, Any] = {}
    async with contextlib.aclosing(job.stream()) as events:
        async for latest in events:
            event = latest
    return event


async def disconnected(request: Request) -> None:
    """Wait until the client has closed the connection, then return."""
    while not await request.is_disconnected():
        await asyncio.sleep(0.2)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the first free port of `port` and those after it.

    At most `PORTS_TRIED` ports are tried. If `port` is 0, the system chooses a free one.

    Raises:
        UserError: the address is not one of this machine, or none of the ports can be used.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"HOST={host} must be an address of this machine ({error.strerror})") from None
    for tried in range(port, min(port + PORTS_TRIED, 65536)) if port else [0]:
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((address[0], tried))
            found.listen(128)
            return found
        except OSError as error:
            found.close()
            reason = error.strerror
    raise UserError(f"PORT={port} and the {PORTS_TRIED - 1} ports after it cannot be used ({reason}); choose another")


def serve(paths: list[Path], host: str, port: int, token: str, device: str | None, browser: bool) -> None:
    """Serve the studio until Ctrl-C or SIGTERM. The address is printed.

    Args:
        paths: run folders or snapshots; empty for all shipped models.
        host: address to listen on.
        port: first port to try; 0 for any free one.
        token: required of clients; empty for none, where only loopback names are accepted as Host.
        device: torch device; None for cuda where there is one.
        browser: open the page in a browser.

    Raises:
        UserError: the address or the ports cannot be used.
    """

    def load() -> "Engine":
        from pvt.studio.engine import Engine

        return Engine(paths, device)

    bound = listen(host, port)
    real_port = bound.getsockname()[1]
    names = LOOPBACK_NAMES if not token else {host.lower(), socket.gethostname().lower()}
    shown = host if ":" not in host else f"[{host}]"
    address = f"http://{shown}:{real_port}/" + (f"?token={token}" if token else "")
    print(f"Studio: {address} (Ctrl-C ends it)", flush=True)
    if browser:
        open_browser(address)
    config = uvicorn.Config(
        Studio(load).app(names, token), log_level="warning", timeout_graceful_shutdown=2, server_header=False
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after Ctrl-C
        uvicorn.Server(config).run(sockets=[bound])


def open_browser(address: str) -> None:
    """Open the page at `address` in the default browser; do nothing if there is no graphical display or no browser."""
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(address)
