"""A page as one file: templates, styles and scripts put together so that it needs nothing from elsewhere."""

import base64
import functools
import hashlib
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata, resources
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from search.errors import StoreError
from search.report.chart import Chart
from search.report.tables import Table

MAX_BYTES = 12_000_000

_TEMPLATES = resources.files("search.report").joinpath("templates")


def render_page(template: str, charts: Sequence[Chart], **context: object) -> str:
    """Return a template's page; it runs only the scripts whose digests its content-security policy names.

    Args:
        charts: every figure in the page; without one, no script at all goes in.
        context: what the template shows. All of it is escaped.
    """
    scripts = [get_plotlyjs(), _read("figures.js")] if charts else []
    return (
        _environment()
        .get_template(template)
        .render(style=_read("style.css"), scripts=scripts, policy=content_policy(scripts), **context)
    )


def render_markdown(template: str, **context: object) -> str:
    """Return a Markdown template's text; the filters `inline` and `table` keep names from being read as markup."""
    return _environment().get_template(template).render(**context)


def content_policy(scripts: Sequence[str]) -> str:
    """Return a policy that allows exactly these inline scripts, inline styles, and no request of any kind."""
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
    # plotly.js writes its own style element; its figures' gradients and exports are data: images.
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def write_atomically(path: Path, text: str) -> None:
    """Leaves either the whole text under `path` or what was there before.

    Raises:
        StoreError: the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Line ends must stay as they are: the policy's digests are of these very bytes.
        with temporary.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(f"the report {path} cannot be written: {error.strerror or error}") from error


def version() -> str:
    """Return the version of recsweep, for footers."""
    try:
        return metadata.version("recsweep")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@functools.cache
def _read(name: str) -> str:
    return _TEMPLATES.joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.report"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["inline"] = _inline
    environment.filters["table"] = _markdown_table
    return environment


def _inline(text: str) -> str:
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;")
    for mark in "\\`|[]":
        escaped = escaped.replace(mark, f"\\{mark}")
    return " ".join(escaped.split())


def _markdown_table(table: Table) -> str:
    heads = " | ".join(_inline(column.title) for column in table.columns)
    rules = " | ".join("---:" if column.kind == "number" else "---" for column in table.columns)
    rows = [" | ".join(_inline(cell) for cell in row) for row in table.rows]
    lines = [f"{_inline(table.caption)}:", "", *(f"| {line} |" for line in (heads, rules, *rows))]
    return "\n".join(lines)
