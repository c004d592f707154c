"""YAML in, plain Python values out: safe, small, and with the scalars of YAML 1.2's core schema.

PyYAML reads YAML 1.1, in which `1e-4` is text, `no` is false and `017` is 15. A sweep file that silently trained with
such a value would be wrong without anyone seeing it, so the scalars are resolved here, by yaml.org/spec/1.2.2 §10.3.
Keys that stand twice, aliases (a few bytes of them unfold to gigabytes) and tags of other types are refused.
"""

import re
from collections.abc import Callable
from typing import TypeAlias

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from search.errors import SpecError

MAX_BYTES = 1_000_000

Scalar: TypeAlias = str | int | float | bool | None

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_TAG = "tag:yaml.org,2002:"


def read(text: str, source: str) -> object:
    """Return the value of a YAML document; None for an empty one.

    Args:
        text: the document, at most 1 MB.
        source: the file's name, for error sentences.

    Raises:
        SpecError: it is not YAML, too long, nested too deeply, or uses what this module refuses.
    """
    if (size := len(text.encode(errors="surrogatepass"))) > MAX_BYTES:
        raise SpecError(f"{source}: must be at most {MAX_BYTES} bytes long, but has {size}")
    try:
        return _load(text)
    except _Refused as error:
        raise SpecError(f"{source}{_place(error)}: {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        problem = (error.problem or "it is not").removeprefix("but ")
        raise SpecError(f"{source}{_place(error)}: must be valid YAML, but {problem}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{source}: must be valid YAML, but {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise SpecError(f"{source}: must not be nested this deeply") from None


def parse_value(text: str, source: str) -> object:
    """Return the value of the right-hand side of `key=value`: a scalar, or a list or mapping in braces.

    Raises:
        SpecError: as for `read`.
    """
    return read(text, source)


def parse_scalar(text: str) -> Scalar:
    """Return the number, truth value or null that `text` spells in YAML 1.2, else the text itself; never fails."""
    for pattern, construct in _CONSTRUCTORS.values():
        if pattern.match(text):
            try:
                return construct(text)
            except ValueError:
                return text
    return text


def _int(text: str) -> int:
    bases = {"0o": 8, "0x": 16}
    return int(text[2:], bases[text[:2]]) if text[:2] in bases else int(text)


def _float(text: str) -> float:
    # Python spells .inf and .nan without the dot.
    return float(re.sub(r"\.(?=[inIN])", "", text))


# In the order in which they are tried: every int also has the form of a float.
_CONSTRUCTORS: dict[str, tuple[re.Pattern[str], Callable[[str], Scalar]]] = {
    "null": (_NULL, lambda text: None),
    "bool": (_BOOL, lambda text: text.lower() == "true"),
    "int": (_INT, _int),
    "float": (_FLOAT, _float),
}


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's reader, resolving plain scalars to the tags of the core schema."""

    # PyYAML declares it without ClassVar. The key None stands for every first character.
    yaml_implicit_resolvers = {None: [(_TAG + name, pattern) for name, (pattern, _) in _CONSTRUCTORS.items()]}  # noqa: RUF012


class _Refused(yaml.MarkedYAMLError):
    """What this module does not accept, with its place in the text."""

    def __init__(self, node: Node, problem: str) -> None:
        super().__init__(problem=problem, problem_mark=node.start_mark)


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _load(text: str) -> object:
    loader = _CoreLoader(text)
    try:
        root = loader.get_single_node()
    finally:
        loader.dispose()
    return None if root is None else _construct(root, set())


def _construct(node: Node, seen: set[int]) -> object:
    # Aliases show as one node in two places.
    if id(node) in seen:
        raise _Refused(node, "must not be repeated by an alias")
    seen.add(id(node))
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, MappingNode) and kind == "map":
        return _construct_mapping(node, seen)
    if isinstance(node, SequenceNode) and kind == "seq":
        return [_construct(entry, seen) for entry in node.value]
    if isinstance(node, ScalarNode) and kind == "str":
        return node.value
    if isinstance(node, ScalarNode) and kind in _CONSTRUCTORS:
        return _construct_scalar(node, kind)
    raise _Refused(node, f"must be text, a number, true, false, null, a list or a mapping, but has the tag {node.tag}")


def _construct_mapping(node: MappingNode, seen: set[int]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key_node, value_node in node.value:
        key = _construct(key_node, seen)
        if not isinstance(key, str):
            raise _Refused(key_node, f"a key must be text, but got {key!r}")
        if key in result:
            raise _Refused(key_node, f"a key must stand only once in a mapping, but {key!r} is repeated")
        result[key] = _construct(value_node, seen)
    return result


def _construct_scalar(node: ScalarNode, kind: str) -> Scalar:
    pattern, construct = _CONSTRUCTORS[kind]
    if not pattern.match(node.value):
        raise _Refused(node, f"must be of the type {kind}, but got {node.value[:40]!r}")
    try:
        return construct(node.value)
    except ValueError:
        raise _Refused(node, f"a whole number must be of reasonable length, but has {len(node.value)} digits") from None
