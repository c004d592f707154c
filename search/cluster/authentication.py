"""Who may use a cluster: token authentication by default, and no cluster on a network without it.

Ray's token authentication is one secret that every process of a cluster and every client of it knows. Whoever reaches a
cluster without it runs code there, so a cluster that is not on loopback is only joined where it asks for the token.
Traffic is not encrypted: across machines, keep it on a private network or in an SSH tunnel.
"""

import http.client
import importlib
import importlib.util
import ipaddress
import logging
import os
import secrets
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from search.errors import SearchError

Door = Literal["open", "closed", "unknown"]
"""What a cluster does with a caller: lets it in, turns it away, or cannot be asked."""

CHECK_ALIVE = ("/ray.rpc.NodeInfoGcsService/CheckAlive", b"")
PING = ("/ray.rpc.RayletDriver/ClusterInfo", b"\x08\x06")
"""Harmless calls of Ray's head and of Ray Client's server: method and serialised request (field 1, `type`: PING)."""

TIMEOUT_SECONDS = 10.0
_logger = logging.getLogger(__name__)


def mode() -> str:
    """The authentication mode that the user has set: `token`, `disabled`, or "" where it is left open."""
    given = os.environ.get("RAY_AUTH_MODE", "").lower()
    if given not in ("", "token", "disabled"):
        raise SearchError(f"RAY_AUTH_MODE must be token or disabled, but is {given!r}")
    return given


def token_file() -> Path:
    """Where the token lies, by Ray's own rule: $RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def read_token() -> str | None:
    """The token from $RAY_AUTH_TOKEN or the token file; None where there is none.

    A file that others can read is given mode 0600, and a warning says so.

    Raises:
        SearchError: the file is empty, cannot be read, or cannot be kept from others.
    """
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given
    path = token_file()
    try:
        _keep_private(path)
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SearchError(f"the token file {path} must be readable text, but {_reason(error)}") from None
    if not token:
        raise SearchError(f"the token file {path} must hold a token, but is empty; remove it to get a new one")
    return token


def _keep_private(path: Path) -> None:
    shared = stat.S_IMODE(path.stat().st_mode)
    if not shared & 0o077:
        return
    try:
        path.chmod(0o600)
    except OSError as error:
        rule = f"the token file {path} must have mode 0600, but has {shared:04o}, so that others can use the cluster"
        raise SearchError(f"{rule}, and it cannot be changed: {_reason(error)}") from None
    remedy = "make a new token if others have accounts on this machine"
    _logger.warning(
        "the token file %s had mode %04o, so others could read it; it has 0600 now; %s", path, shared, remedy
    )


def make_token() -> None:
    """Makes a token file of mode 0600 with a new random token where there is none; no reader ever sees part of it.

    Raises:
        SearchError: the file cannot be written.
    """
    path = token_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp's files have mode 0600 from the start, and the link fails where another process was first.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".auth_token.")
        try:
            with open(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
    except FileExistsError:
        return
    except OSError as error:
        raise SearchError(f"a token file must be made at {path}, but {_reason(error)}") from None


def secure_own() -> None:
    """Prepares this process for starting a cluster: in token mode, unless the user has set RAY_AUTH_MODE=disabled.

    Raises:
        SearchError: there is no token and none can be made, or the token file is not private.
    """
    if mode() == "disabled":
        return
    if read_token() is None:
        make_token()
    use("token")


def secure_join(address: str, *, insecure: bool = False) -> None:
    """Prepares this process for a running cluster, or refuses the cluster.

    Args:
        address: host:port, ray://host:port, or the http(s)://host:port of the Jobs API.
        insecure: joins clusters on a network even where they let anyone in.

    Raises:
        SearchError: the cluster is not on loopback and lets anyone in, or it does not accept this machine's token.
    """
    token = read_token() if mode() != "disabled" else None
    if not (insecure or is_loopback(host_of(address))):
        _require_authentication(address, token)
    door = knock(address, None)
    if door == "closed" and (token is None or knock(address, token) == "closed"):
        rule = f"the cluster {address} must be joined with its own token"
        found = "this machine has another one" if token else f"there is none at {token_file()}"
        found = "RAY_AUTH_MODE is disabled here" if mode() == "disabled" else found
        raise SearchError(f"{rule}, but {found}; copy the cluster's to {token_file()}, with mode 0600")
    # A process in token mode turns away calls without one, and so those of the workers of an open cluster.
    use("disabled" if door == "open" or token is None else "token")


def _require_authentication(address: str, token: str | None) -> None:
    rule = "a cluster that is not on loopback must ask for a token"
    if token is None:
        remedy = f"copy its token to {token_file()}, with mode 0600, and leave RAY_AUTH_MODE unset"
        raise SearchError(f"{rule}, but for {address} there is none here; {remedy}, or pass --insecure-cluster")
    door = knock(address, None)
    if door != "closed":
        found = "lets in anyone" if door == "open" else "does not say whether it does"
        remedy = "start all its nodes with RAY_AUTH_MODE=token"
        if importlib.util.find_spec("grpc") is None:
            remedy = "to ask it, pip install 'recsweep[cluster]'"
        raise SearchError(f"{rule}, but {address} {found}; {remedy}, or pass --insecure-cluster")


def use(mode: str | None) -> None:
    """Sets $RAY_AUTH_MODE for this process and those that it starts, Ray's core in it included; None unsets it."""
    if mode is None:
        os.environ.pop("RAY_AUTH_MODE", None)
    else:
        os.environ["RAY_AUTH_MODE"] = mode
    if "ray" in sys.modules:
        # Ray's core reads its environment once; this is how Ray's own `ray.init` makes it look again.
        core: Any = importlib.import_module("ray._raylet")
        core.Config.initialize("")
        core.AuthenticationTokenLoader.instance().reset_cache()


def host_of(address: str) -> str:
    """The host of host:port or scheme://host:port.

    Raises:
        SearchError: the address has no host or no valid port.
    """
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        if parts.hostname and (parts.port or parts.scheme in ("http", "https")):
            return parts.hostname
    except ValueError:
        pass
    raise SearchError(f"--address must be host:port, ray://host:port or auto, but got {address!r}")


def is_loopback(host: str) -> bool:
    """Whether every address that the host's name stands for is on loopback; a name that is unknown is not."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(_is_loopback_address(text) for text in found)


def _is_loopback_address(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def knock(address: str, token: str | None) -> Door:
    """Asks a cluster whether it lets in a caller with this token, or with none; sees nothing but the answer's code."""
    header = {} if token is None else {"authorization": f"Bearer {token}"}
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.scheme in ("http", "https"):
        return _knock_http(parts, header)
    call = PING if parts.scheme == "ray" else CHECK_ALIVE
    return _knock_grpc(parts.netloc, call, header)


def _knock_http(parts: SplitResult, header: dict[str, str]) -> Door:
    # Not urllib's opener: it would carry the token to wherever a redirection leads.
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/api/version", headers=header)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return "unknown"
    finally:
        connection.close()
    return "open" if status == 200 else "closed" if status in (401, 403) else "unknown"


def _knock_grpc(target: str, call: tuple[str, bytes], header: dict[str, str]) -> Door:
    try:
        grpc: Any = importlib.import_module("grpc")
    except ImportError:
        return "unknown"
    with grpc.insecure_channel(target) as channel:
        try:
            # Ray Client's server wants to know who asks.
            metadata = (("client_id", "recsweep"), *header.items())
            channel.unary_unary(call[0])(call[1], timeout=TIMEOUT_SECONDS, metadata=metadata, wait_for_ready=True)
        except grpc.RpcError as error:
            return "closed" if error.code() == grpc.StatusCode.UNAUTHENTICATED else "unknown"
    return "open"


def _reason(error: Exception) -> str:
    return f"the system says {error.strerror!r}" if isinstance(error, OSError) else "it is not"
