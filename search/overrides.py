"""`key=value` from the command line, put into a sweep file's mapping before that is validated."""

import copy
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from search.errors import SpecError
from search.spec_errors import known_keys
from search.yaml_loader import parse_value
from spaces.nearest import did_you_mean

# Below these, a key is a name with a dot of its own: space.fix.update.rho=0.1, resources.overrides.model.freedom.gpu=1.
_DOTTED_MAPS = (("space", "narrow"), ("space", "fix"), ("resources", "overrides"))


def apply(
    raw: Mapping[str, object], overrides: Sequence[str], model: type[BaseModel]
) -> tuple[dict[str, object], dict[str, str]]:
    """Return the mapping with the overrides in it, and for each overridden dotted key the override's own text.

    Values are YAML, so lists and mappings can be given in brackets and braces. Of two overrides of one key the later
    holds.

    Raises:
        SpecError: an override is not of the form key=value, or its key is not one of a sweep file's.
    """
    changed: dict[str, object] = copy.deepcopy(dict(raw))
    origins: dict[str, str] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        source = f"override {override}"
        if not key.strip() or not equals:
            raise SpecError(f"{source}: must have the form key=value")
        path = _path(key.strip())
        _check_path(path, model, source)
        _put(changed, path, parse_value(text, source), source)
        origins[".".join(path)] = source
    return changed, origins


def _path(key: str) -> tuple[str, ...]:
    parts = tuple(key.split("."))
    if parts[:2] in _DOTTED_MAPS and len(parts) >= 4:
        return (*parts[:2], f"{parts[2]}.{parts[3]}", *parts[4:])
    return parts


def _check_path(path: tuple[str, ...], model: type[BaseModel], source: str) -> None:
    for depth, part in enumerate(path):
        if path[:depth] in _DOTTED_MAPS:
            return
        siblings = known_keys(model, path[:depth])
        if part in siblings:
            continue
        hint = did_you_mean(part, siblings) if depth else did_you_mean(".".join(path), _all_keys(model))
        known = f"; known are {', '.join(siblings)}" if siblings else ""
        raise SpecError(f"{source}: {'.'.join(path)}: is not a known key{hint or known}")


def _all_keys(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    if prefix in _DOTTED_MAPS:
        return []
    below = [(*prefix, name) for name in known_keys(model, prefix)]
    return [".".join(path) for path in below] + [key for path in below for key in _all_keys(model, path)]


def _put(target: dict[str, object], path: tuple[str, ...], value: object, source: str) -> None:
    for part in path[:-1]:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            raise SpecError(f"{source}: {part} must be a mapping, but is {inner!r}")
        target = inner
    target[path[-1]] = value
