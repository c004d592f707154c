"""Sweeps as jobs of a running cluster: Ray's Jobs API, spoken over HTTP to the cluster's dashboard.

The resolved sweep travels as the standard input of the job's command, so that the cluster needs recsweep but no file,
and its workers no environment of their own.
"""

import asyncio
import importlib.util
import json
import logging
import os
import shlex
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from search.cluster import authentication
from search.errors import SearchError
from search.names import JOB_VARIABLE
from search.schema import nearest
from search.spec import SweepSpec

LARGEST_BYTES = 100_000
"""Of the sweep as JSON: Linux takes up to 131,072 bytes in one argument of a command."""

_SWEEP, _STORE = "recsweep", "recsweep-store"  # under these keys a job's metadata hold its sweep's name and its store
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray's client would prefer these to the address it is given
_RUNNING = ("PENDING", "RUNNING")
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """A sweep that was sent to a cluster.

    Attributes:
        id: Ray's name of the job.
        sweep: the name that the sweep was sent with; in the store it may have got a number behind it.
        store: the result store, as the cluster sees it.
        status: PENDING, RUNNING, SUCCEEDED (exit code 0), FAILED (any other) or STOPPED.
        message: what Ray says about the status; may hold the last lines of the job's output.
        exit_code: the command's exit code; None while it runs, and where it was stopped.
    """

    id: str
    sweep: str
    store: str
    status: str
    message: str
    exit_code: int | None

    def __str__(self) -> str:
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        return f"Job {self.id}: {self.status}{code}"

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.status in _RUNNING


def submit(address: str, spec: SweepSpec, store: str, *, resume: bool = False, insecure: bool = False) -> str:
    """Sends a sweep to a cluster, whose head node drives it, and returns the job's id at once.

    Args:
        address: http(s)://host:port of the cluster's dashboard.
        store: the result store as the head node and the workers see it.
        resume: goes on with the sweep of that name in the store, instead of running `spec` from the start.
        insecure: sends it to a cluster on a network even where that lets anyone in.

    Raises:
        SearchError: no cluster answers at the address or it refuses us, or the store cannot be one of a cluster.
    """
    _check_store(store)
    job = f"recsweep-{spec.name}-{uuid.uuid4().hex[:8]}"
    entrypoint = _entrypoint(spec, store, job, resume=resume, insecure=insecure)
    client = _client(address, insecure=insecure)
    with _reported(address):
        metadata = {_SWEEP: spec.name, _STORE: store}
        client.submit_job(entrypoint=entrypoint, submission_id=job, metadata=metadata)
    return job


def find_job(address: str, sweep: str | None, *, insecure: bool = False) -> Job:
    """Return the last job that was sent with the sweep's name, or the one with that id; for None the last of all.

    Raises:
        SearchError: there is none, or the cluster does not answer or refuses us.
    """
    return _find(_client(address, insecure=insecure), address, sweep)


def job_status(address: str, job: Job, *options: str, insecure: bool = False) -> str:
    """What `recsweep status` says of a job's sweep on the cluster, as the store may be seen from there alone.

    The question is a job, too, of some seconds.

    Args:
        options: of `recsweep status`.

    Raises:
        SearchError: the store has nothing of the sweep yet, or the cluster does not answer or refuses us.
    """
    client = _client(address, insecure=insecure)
    question = ["python", "-m", "search.cli", "status", job.id, "--store", job.store, *options]
    with _reported(address):
        asked = client.submit_job(entrypoint=f"exec {shlex.join(question)}")
        while (status := _text(client.get_job_status(asked))) in _RUNNING:
            time.sleep(_POLL_SECONDS)
        said = str(client.get_job_logs(asked)).strip()
    if status != "SUCCEEDED":
        why = said.splitlines()[-1].removeprefix("recsweep: ") if said else status
        raise SearchError(f"the cluster {address} cannot tell how far {job.id} is: {why}")
    return said


def job_logs(address: str, sweep: str | None, *, follow: bool = False, insecure: bool = False) -> Iterator[str]:
    """Yields what the job's command has printed, in pieces of any length; `follow` goes on until the job ends.

    Raises:
        SearchError: as for `find_job`, or the connection breaks.
    """
    client = _client(address, insecure=insecure)
    job = _find(client, address, sweep)
    with _reported(address):
        if follow:
            yield from _tail(client.tail_job_logs(job.id))
        else:
            yield client.get_job_logs(job.id)


def stop_job(address: str, sweep: str, *, insecure: bool = False) -> Job:
    """Ends a sweep's job and returns it as it was found: its command gets SIGTERM, and after 3 s SIGKILL.

    What trials did since their last checkpoints is lost; `resume` goes on from there.

    Raises:
        SearchError: as for `find_job`, or the job has ended.
    """
    client = _client(address, insecure=insecure)
    job = _find(client, address, sweep)
    if not job.runs:
        raise SearchError(f"a job must be running to be stopped, but {job.id} has ended: {job.status}")
    with _reported(address):
        client.stop_job(job.id)
    return job


def _check_store(store: str) -> None:
    """Refuses what cannot be right on any machine; whether the path exists there, only the cluster knows."""
    if "://" not in store:
        if not PurePosixPath(store).is_absolute():
            rule = "with --submit the store must be an absolute path on the cluster or an address such as s3://bucket"
            raise SearchError(f"{rule}, but got {store!r}; give it with --store")
    elif "@" in urlsplit(store).netloc:
        rule = "with --submit the store's address must be without credentials, which the cluster would show"
        raise SearchError(f"{rule}; let the cluster's nodes have them in their environment")


def _entrypoint(spec: SweepSpec, store: str, job: str, *, resume: bool, insecure: bool) -> str:
    """The shell command that drives the sweep on the head node."""
    what = ["resume", spec.name] if resume else ["launch", "/dev/stdin"]
    options = ["--address", "auto", "--store", store, *(["--insecure-cluster"] if insecure else [])]
    command = shlex.join(["env", f"{JOB_VARIABLE}={job}", "python", "-m", "search.cli", *what, *options])
    if resume:
        return f"exec {command}"
    # JSON is YAML on one line, so no line of it can end the text early.
    text = json.dumps(spec.model_dump(mode="json"), ensure_ascii=False)
    if (size := len(text.encode())) > LARGEST_BYTES:
        raise SearchError(f"a sweep to --submit must be at most {LARGEST_BYTES} bytes of JSON, but has {size}")
    return f"exec {command} <<'END'\n{text}\nEND\n"


def _client(address: str, *, insecure: bool) -> Any:
    """A client that has reached the cluster."""
    if not _is_http(address):
        rule = "--submit must be the http://host:port of the cluster's dashboard, such as http://127.0.0.1:8265"
        raise SearchError(f"{rule}, but got {address!r}")
    if importlib.util.find_spec("aiohttp") is None:
        raise SearchError("--submit needs Ray's client for jobs: pip install 'recsweep[cluster]'")
    if authentication.knock(address, None) == "unknown":
        raise SearchError(f"--submit must be the address of a Ray cluster's dashboard, but none answers at {address}")
    authentication.secure_join(address, insecure=insecure)
    with _reported(address), _without(_ADDRESSES):
        from ray.job_submission import JobSubmissionClient

        logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)  # it tells of its WebSockets
        return JobSubmissionClient(address)


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _find(client: Any, address: str, sweep: str | None) -> Job:
    with _reported(address):
        found = [each for each in client.list_jobs() if each.submission_id and _SWEEP in (each.metadata or {})]
    found.sort(key=lambda each: each.start_time or 0)
    chosen = [each for each in found if sweep in (None, each.metadata[_SWEEP], each.submission_id)]
    if not chosen:
        wanted = "job of a sweep" if sweep is None else f"job of the sweep `{sweep}`"
        known = "" if sweep is None else nearest(sweep, {each.metadata[_SWEEP] for each in found})
        raise SearchError(f"the cluster {address} has no {wanted}{known}")
    last = chosen[-1]
    metadata, status = last.metadata, _text(last.status)
    return Job(
        last.submission_id, metadata[_SWEEP], metadata[_STORE], status, last.message or "", last.driver_exit_code
    )


def _text(status: Any) -> str:
    return str(getattr(status, "value", status))


def _tail(pieces: Any) -> Iterator[str]:
    """What an asynchronous iterator gives, one by one as it comes."""
    with asyncio.Runner() as runner:
        while True:
            try:
                yield runner.run(anext(pieces))
            except StopAsyncIteration:
                return


@contextmanager
def _reported(address: str) -> Iterator[None]:
    """Turns what Ray's client and its libraries raise into one sentence."""
    from aiohttp import ClientError
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise SearchError(f"the cluster {address} refuses this machine's token: it has another one") from None
    except (RuntimeError, OSError, ClientError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SearchError(f"the cluster {address} did not do what was asked: {lines[-1]}") from error


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """Takes variables out of the environment for a while."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
