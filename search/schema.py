"""The seven tables of the result store and the views on them: columns, types, units, and what makes a row itself.

A part carries its table's Arrow schema, with units and descriptions in the field metadata and the schema's version in
the schema metadata. Raise `SCHEMA_VERSION` whenever a column is added: older parts then read as null in it, and older
installations refuse the newer parts instead of losing a column. A new table leaves the version: older installations
never read it.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from numbers import Integral, Real

import numpy as np
import pyarrow as pa

from search.errors import StoreError

SCHEMA_VERSION = 2

_VERSION_KEY = b"recsweep.schema_version"
_TABLE_KEY = b"recsweep.table"
_LISTED = 12  # names that an error message lists at most
_PIECE = 2000  # rows, some 3 ms

TEXT = pa.string()
INTEGER = pa.int64()
NUMBER = pa.float64()
FLAG = pa.bool_()
TIME = pa.timestamp("us", tz="UTC")

PROTOCOLS = ("robustness", "generalisation", "landscape")
EVENTS = ("start", "resume", "end", "stop", "budget", "interrupt", "broken", "warning", "accepted")
"""Ends of a driver: end, stop (asked for), budget, interrupt (Ctrl-C), broken (its surroundings failed)."""

STATUSES = ("running", "finished", "pruned", "diverged", "failed", "lost", "stopped")


class NewerSchemaError(StoreError):
    """A part was written by a newer recsweep."""


@dataclass(frozen=True)
class Column:
    """One column of a table; `allowed` lists the only texts that may stand in it, empty for any."""

    name: str
    type: pa.DataType
    description: str
    unit: str = ""
    nullable: bool = False
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """What a reader sees of a table: of the rows that agree in `identity`, the last attempt's last written one.

    Attributes:
        renewed: where it names columns: of the rows that agree in these, only those with the `settings` last written.
    """

    table: str
    identity: tuple[str, ...]
    summary: str
    renewed: tuple[str, ...] = ()


_SWEEP = Column("sweep", TEXT, "name of the sweep")
_TRIAL = Column("trial", TEXT, "name of the trial: model, update and a digest of its configuration")
_ATTEMPT = Column("attempt", INTEGER, "which start of the trial; a trial restarted from a checkpoint counts on")
_WRITTEN = Column("written", TIME, "when this row was appended, set by the store", unit="UTC")

TABLES: Mapping[str, tuple[Column, ...]] = {
    "sweeps": (
        _SWEEP,
        Column("digest", TEXT, "digest of the resolved specification"),
        Column("spec_json", TEXT, "the resolved specification"),
        Column("started", TIME, "start or resume of the sweep", unit="UTC"),
        Column("git_commit", TEXT, "commit of the code; null outside a checkout", nullable=True),
        Column("git_dirty", FLAG, "whether the checkout had uncommitted changes", nullable=True),
        Column("code_digest", TEXT, "digest of the code of spaces and trainables", nullable=True),
        Column("versions_json", TEXT, "versions of Python and of the libraries", nullable=True),
        Column("sampler_json", TEXT, "settings of the sampler", nullable=True),
        Column("scheduler_json", TEXT, "settings of the scheduler", nullable=True),
        Column("data_json", TEXT, "digests of every data file, by data set", nullable=True),
        Column("host", TEXT, "machine that the driver ran on", nullable=True),
        Column("job", TEXT, "Ray's id of the job that the driver ran as; null where it was none", nullable=True),
        _WRITTEN,
    ),
    "trials": (
        _SWEEP,
        _TRIAL,
        _ATTEMPT,
        Column(
            "candidate", INTEGER, "place of the point in its cell, from 0; null in parts of version 1", nullable=True
        ),
        Column("cell", TEXT, "dataset/model/objective/update/optimizer, one study"),
        Column("dataset", TEXT, "data set"),
        Column("data_digest", TEXT, "digest of the data as the trial saw it; null before it was loaded", nullable=True),
        Column("model", TEXT, "recommender model"),
        Column("objective", TEXT, "what is minimised"),
        Column("update", TEXT, "how a batch moves the weights"),
        Column("optimizer", TEXT, "optimiser under the update"),
        Column("seed", INTEGER, "seed of all random streams of the trial"),
        Column("status", TEXT, "how the attempt stands or ended", allowed=STATUSES),
        Column("config_json", TEXT, "the complete flat configuration"),
        Column("metric", TEXT, "goal metric, on the validation split"),
        Column("mode", TEXT, "whether a higher or a lower score is better", allowed=("max", "min")),
        Column("best_score", NUMBER, "best goal metric of full validations so far; null without one", nullable=True),
        Column("best_epoch", INTEGER, "epoch of the best score; null without a full validation", nullable=True),
        Column("epochs", INTEGER, "epochs trained", unit="epochs", nullable=True),
        Column("gradient_evaluations", INTEGER, "forward-backward passes", unit="passes", nullable=True),
        Column("optimizer_steps", INTEGER, "steps of the optimiser", unit="steps", nullable=True),
        Column("samples", INTEGER, "training pairs seen", unit="pairs", nullable=True),
        Column("train_seconds", NUMBER, "time in training", unit="s", nullable=True),
        Column("evaluation_seconds", NUMBER, "time in validation", unit="s", nullable=True),
        Column("queue_seconds", NUMBER, "time between being suggested and being started", unit="s", nullable=True),
        Column("device_seconds", NUMBER, "share of a device x time held", unit="s", nullable=True),
        Column("energy_joules", NUMBER, "energy where it was measured, else null", unit="J", nullable=True),
        Column(
            "peak_memory_bytes",
            INTEGER,
            "peak memory on the device; on a CPU the process's",
            unit="B",
            nullable=True,
        ),
        Column("device", TEXT, "kind of device", nullable=True),
        Column("worker", TEXT, "machine and process that ran the attempt", nullable=True),
        Column("started", TIME, "start of the attempt", unit="UTC"),
        Column("ended", TIME, "end of the attempt; null while it runs", unit="UTC", nullable=True),
        Column("error", TEXT, "class and last lines of what ended the attempt", nullable=True),
        _WRITTEN,
    ),
    "params": (
        _SWEEP,
        _TRIAL,
        Column("name", TEXT, "full dotted name of the parameter, such as update.rho"),
        Column("number", NUMBER, "the value where it is a number", nullable=True),
        Column("text", TEXT, "the value where it is not a number", nullable=True),
        Column("tuned", FLAG, "whether the sweep searched it; false where it was fixed"),
        _WRITTEN,
    ),
    "metrics": (
        _SWEEP,
        _TRIAL,
        _ATTEMPT,
        Column("epoch", INTEGER, "epoch at whose end the value was taken", unit="epochs"),
        # Test values exist in `confirmations` only: no row here can name that split.
        Column("split", TEXT, "train (losses) or valid (ranking metrics)", allowed=("train", "valid")),
        Column(
            "metric",
            TEXT,
            "loss, loss/<part>, or a ranking metric such as recall@20; estimate/<metric> where it is one",
        ),
        Column("value", NUMBER, "the value; NaN or infinite where the training diverged"),
        Column("gradient_evaluations", INTEGER, "cumulative at the end of the epoch", unit="passes"),
        Column("train_seconds", NUMBER, "cumulative at the end of the epoch", unit="s"),
        Column("device_seconds", NUMBER, "cumulative at the end of the epoch", unit="s"),
        _WRITTEN,
    ),
    "events": (
        _SWEEP,
        Column("at", TIME, "when it happened, by the driver's clock", unit="UTC"),
        Column("kind", TEXT, "what happened", allowed=EVENTS),
        Column("text", TEXT, "the same in one sentence"),
        Column("host", TEXT, "machine that the driver ran on", nullable=True),
        _WRITTEN,
    ),
    "confirmations": (
        _SWEEP,
        Column("trial", TEXT, "trial whose configuration was retrained"),
        Column("seed", INTEGER, "fresh seed of the retraining"),
        Column("split", TEXT, "valid or test", allowed=("valid", "test")),
        Column("metric", TEXT, "ranking metric such as recall@20"),
        Column("value", NUMBER, "the value; null when the retraining diverged or failed", nullable=True),
        Column("candidates", INTEGER, "how many configurations it was chosen from", unit="trials"),
        Column("unsealed", TIME, "when the test split was opened; null for valid", unit="UTC", nullable=True),
        Column("host", TEXT, "machine that retrained it", nullable=True),
        _WRITTEN,
    ),
    "protocols": (
        _SWEEP,
        Column("trial", TEXT, "trial whose configuration is measured"),
        Column("cell", TEXT, "dataset/model/objective/update/optimizer of that trial"),
        Column("protocol", TEXT, "what is measured", allowed=PROTOCOLS),
        Column("settings", TEXT, "digest of the protocol's settings, seeds apart"),
        Column("seed", INTEGER, "seed of the training"),
        Column("split_seed", INTEGER, "seed of the random split; null for the sweep's own split", nullable=True),
        Column("subject", TEXT, "clean or a corruption; both, split or init; a landscape's mode or a sharpness"),
        Column("phase", TEXT, "test (corrupted when judged), train_test (trained on it too), or empty"),
        Column("level", TEXT, "label of the severity, such as L1 or 3%, or empty"),
        Column("severity", NUMBER, "the number behind the level: standard deviation, share, radius", nullable=True),
        Column("draw", INTEGER, "number of the noise draw, from 0"),
        Column("point", INTEGER, "number of the grid point, from 0"),
        Column("x", NUMBER, "first coordinate of a landscape's point", nullable=True),
        Column("y", NUMBER, "second coordinate of a landscape's point", nullable=True),
        # The test split stays sealed here as in `metrics`.
        Column("split", TEXT, "train or valid", allowed=("train", "valid")),
        Column("metric", TEXT, "ranking metric such as recall@20, loss, value, or snr/<modality>"),
        Column("value", NUMBER, "the value; NaN or infinite where the training diverged"),
        Column("gradient_evaluations", INTEGER, "cost of the training behind the row", unit="passes"),
        Column("train_seconds", NUMBER, "time of the training behind the row", unit="s"),
        _WRITTEN,
    ),
}

_MEASURED = ("sweep", "trial", "protocol", "seed", "split_seed", "subject", "phase")
_MEASUREMENT = (*_MEASURED, "settings", "level", "draw", "point", "split", "metric")

VIEWS: Mapping[str, View] = {
    "sweeps": View("sweeps", ("sweep", "started", "host"), "every start and resume of every sweep"),
    "trials": View("trials", ("sweep", "trial"), "each trial's last attempt"),
    "params": View("params", ("sweep", "trial", "name"), "each trial's parameters, tuned and fixed"),
    "metrics": View(
        "metrics", ("sweep", "trial", "epoch", "split", "metric"), "each epoch's values, from its last attempt"
    ),
    "confirmations": View(
        "confirmations", ("sweep", "trial", "seed", "split", "metric"), "chosen configurations on fresh seeds"
    ),
    "events": View("events", ("sweep", "at", "kind", "text", "host"), "starts, resumes, warnings and ends of sweeps"),
    "protocols": View(
        "protocols", _MEASUREMENT, "robustness, seeds and landscapes of the best configurations", _MEASURED
    ),
    "trials_all": View("trials", ("sweep", "trial", "attempt"), "every attempt of every trial"),
    "metrics_all": View(
        "metrics", ("sweep", "trial", "attempt", "epoch", "split", "metric"), "each epoch's values of every attempt"
    ),
    "protocols_all": View("protocols", _MEASUREMENT, "the same, with measurements under earlier settings"),
    "trials_wide": View("trials", ("sweep", "trial"), 'trials with one column per parameter, such as "update.rho"'),
}


def columns(table: str) -> tuple[Column, ...]:
    """The columns of a table; StoreError with the nearest name when there is no such table."""
    if table not in TABLES:
        raise StoreError(f"the result store has no table `{table}`{nearest(table, TABLES)}")
    return TABLES[table]


def nearest(name: str, known: Collection[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, else the first dozen."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; the nearest is `{close[0]}`"
    if not known:
        return "; there is none"
    shown = ", ".join(f"`{each}`" for each in sorted(known)[:_LISTED])
    return f"; there is {shown}" + (f" and {len(known) - _LISTED} more" if len(known) > _LISTED else "")


def arrow_schema(table: str) -> pa.Schema:
    """The schema that parts are written with: nullability, units and descriptions per field, the version on top."""
    fields = [
        pa.field(each.name, each.type, each.nullable, {"description": each.description, "unit": each.unit})
        for each in columns(table)
    ]
    return pa.schema(fields, {_VERSION_KEY: str(SCHEMA_VERSION), _TABLE_KEY: table})


def reading_schema(table: str) -> pa.Schema:
    """The schema that tables are read with: as written, but every column may be null, as in parts of older versions."""
    written = arrow_schema(table)
    return pa.schema([each.with_nullable(True) for each in written], written.metadata)


def check_version(table: str, metadata: Mapping[bytes, bytes] | None) -> None:
    """Raises StoreError unless a part with this schema metadata belongs to `table` and is not newer than this code."""
    found = metadata or {}
    if found.get(_TABLE_KEY, b"").decode() != table or not found.get(_VERSION_KEY, b"").isdigit():
        raise StoreError(f"it was not written by recsweep as a part of the table `{table}`")
    version = int(found[_VERSION_KEY])
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"its schema version is {version}, but this recsweep reads up to {SCHEMA_VERSION}: install a newer one"
        )


def to_arrow(table: str, rows: Sequence[Mapping[str, object]], written: datetime) -> pa.Table:
    """The rows as one table of `arrow_schema(table)`, `written` filled in.

    Raises StoreError for a column that the table does not have, a value of another type, and a missing value in a
    column that cannot be null. Nothing is converted silently: no text to number, no fraction cut off, no local time.
    """
    # Piece by piece, as Arrow lets other threads go on in between.
    pieces = [_to_arrow(table, rows[start : start + _PIECE], written) for start in range(0, max(1, len(rows)), _PIECE)]
    return pa.concat_tables(pieces)


def _to_arrow(table: str, rows: Sequence[Mapping[str, object]], written: datetime) -> pa.Table:
    given = {each.name for each in columns(table)} - {_WRITTEN.name}
    for row in rows:
        if unknown := sorted(row.keys() - given):
            raise StoreError(f"`{table}` takes no column `{unknown[0]}`{nearest(unknown[0], sorted(given))}")
    arrays = [_array(table, each, [row.get(each.name) for row in rows]) for each in TABLES[table][:-1]]
    arrays.append(pa.repeat(pa.scalar(written, TIME), len(rows)))
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table))


def _array(table: str, column: Column, values: list[object]) -> pa.Array:
    kinds = {type(value) for value in values}
    if type(None) in kinds and not column.nullable:
        raise StoreError(f"`{table}.{column.name}` must be given in every row: {column.description}")
    fitting = {kind for kind in kinds if kind is type(None) or _fits(column.type, kind)}
    for value in values if kinds != fitting or column.type == TIME else ():
        if type(value) not in fitting or (isinstance(value, datetime) and value.tzinfo is None):
            raise StoreError(f"`{table}.{column.name}` must be {_EXPECTED[column.type]}, but got {value!r}")
    if column.allowed and (others := set(values).difference(column.allowed)):
        raise StoreError(
            f"`{table}.{column.name}` must be one of {', '.join(column.allowed)}, but got {others.pop()!r}"
        )
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise StoreError(f"`{table}.{column.name}` cannot hold one of its values: {error}") from error


_EXPECTED = {TEXT: "text", INTEGER: "an integer", NUMBER: "a number", FLAG: "a bool", TIME: "a time with a time zone"}
_FITTING: Mapping[pa.DataType, tuple[type, ...]] = {
    TEXT: (str,),
    INTEGER: (Integral,),
    NUMBER: (Real,),
    FLAG: (bool, np.bool_),
    TIME: (datetime,),
}


def _fits(column: pa.DataType, kind: type) -> bool:
    """Whether Arrow would take values of this Python type without changing them: it cuts fractions, for one, off."""
    return issubclass(kind, _FITTING[column]) and (column == FLAG or kind is not bool)


def describe() -> pa.Table:
    """What `recsweep query --schema` prints: each view with its summary and, under a table's own view, the columns."""
    rows: list[tuple[object, ...]] = []
    for name, view in VIEWS.items():
        rows.append((name, None, None, None, None, view.summary))
        if name == view.table:
            rows += [
                (name, each.name, str(each.type), each.nullable, each.unit or None, each.description)
                for each in TABLES[name]
            ]
    kinds = {"view": TEXT, "column": TEXT, "type": TEXT, "nullable": FLAG, "unit": TEXT, "description": TEXT}
    return pa.table({name: pa.array([row[at] for row in rows], kind) for at, (name, kind) in enumerate(kinds.items())})
