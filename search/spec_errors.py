"""One sentence for a person out of a pydantic `ValidationError`."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError

from spaces.nearest import did_you_mean

Location: TypeAlias = tuple[int | str, ...]

_RULES = {
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be finite",
    "too_short": "must not be empty",
}


def sentence(error: ValidationError, raw: object, model: type[BaseModel], source_of: Callable[[str], str]) -> str:
    """Return the first mistake as one sentence with source, key, rule, value and the nearest valid name.

    Args:
        raw: what was validated, to tell the user's keys from pydantic's own parts of a location.
        model: the class that it was validated against, to know which keys are valid where.
        source_of: gives the file or override that a dotted key came from.
    """
    mistakes: dict[str, list[Mapping[str, Any]]] = {}
    for entry in error.errors(include_url=False):
        # Pydantic also calls a list too short whose entries are wrong.
        if entry["type"] != "too_short" or not entry["input"]:
            mistakes.setdefault(dotted(_users_location(entry, raw)), []).append(entry)
    key, entries = next(iter(mistakes.items()))
    clause = _clause(entries, model)
    if not key and ": " in clause:
        # A rule that joins several sections names its key itself.
        key, _, clause = clause.partition(": ")
    text = ": ".join(part for part in (source_of(key), key, clause) if part)
    return text + (f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else "")


def dotted(location: Location) -> str:
    """Return a location as a user writes it: "axes.model[0]"."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def known_keys(model: type[BaseModel], location: Sequence[int | str] = ()) -> tuple[str, ...]:
    """Return the keys that may stand in the mapping at `location`; () where any key may, or none."""
    models = [model]
    for part in location:
        models = [found for candidate in models for found in _models_below(candidate, part)]
    return tuple(sorted({name for found in models for name in found.model_fields}))


def _models_below(model: type[BaseModel], part: int | str) -> list[type[BaseModel]]:
    if part in model.model_fields:
        return _models_in(model.model_fields[str(part)].annotation)
    # Not a field: an index, a free key, or the tag by which pydantic names the member of a union.
    kind = model.model_fields.get("kind")
    is_other_member = kind is not None and isinstance(part, str) and kind.default != part and "." not in part
    return [] if is_other_member else [model]


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _users_location(entry: Mapping[str, Any], raw: object) -> Location:
    """Return an error's location without the tags that pydantic puts in for the members of unions."""
    kept: list[int | str] = []
    location = entry["loc"]
    for position, part in enumerate(location):
        is_missing_key = entry["type"] == "missing" and position == len(location) - 1
        if isinstance(raw, Mapping) and (part in raw or is_missing_key):
            kept.append(part)
            raw = raw.get(part)
        elif isinstance(part, int) and isinstance(raw, Sequence):
            kept.append(part)
            raw = raw[part] if part < len(raw) else None
    return tuple(kept)


def _clause(entries: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> str:
    first = entries[0]
    match first["type"]:
        case "extra_forbidden":
            known = known_keys(model, first["loc"][:-1])
            listed = f"; known are {', '.join(known)}" if known else ""
            return f"is not a known key{did_you_mean(first['loc'][-1], known) or listed}"
        case "missing":
            return "must be given"
        case "union_tag_not_found":
            return f"must have the key {first['ctx']['discriminator']}"
        case "union_tag_invalid":
            rule = f"must be of the kind {first['ctx']['expected_tags'].replace(', ', ' or ')}"
            return f"{rule}, but got {first['ctx']['tag']!r}{_hint(first['ctx']['tag'], rule)}"
        case "value_error":
            return str(first["ctx"]["error"])
    rule = _union_rule(entries)
    return f"{rule}, but got {_shown(first['input'])}{_hint(first['input'], rule)}"


def _union_rule(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the rules of a union's members as one; several entries for one key mean that no member fits."""
    right_type = [entry for entry in entries if not entry["type"].endswith(("_type", "literal_error"))]
    rules = list(dict.fromkeys(map(_rule, right_type or entries)))
    if _RULES["float_type"] in rules and _RULES["int_type"] in rules:
        rules.remove(_RULES["int_type"])
    return " or ".join([rules[0], *(rule.removeprefix("must be ") for rule in rules[1:])])


def _rule(entry: Mapping[str, Any]) -> str:
    if entry["type"] in _RULES:
        return _RULES[entry["type"]]
    text = str(entry["msg"]).replace("Input should be", "must be").replace("String should", "must")
    return text.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")


def _hint(value: object, rule: str) -> str:
    return did_you_mean(value, re.findall(r"'([^']+)'", rule))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
