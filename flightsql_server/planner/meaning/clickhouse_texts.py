"""ClickHouse's text, patterns, tuples and JSON: lengths in bytes, patterns with escapes, and defaults for NULL."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import (
    bracketed,
    call,
    case,
    cast,
    literal_text,
    number,
    text,
    typed,
    whole,
)
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite

_JSON_KEY = re.compile(r"[^\"\\]*")
_GROUP = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\((\?)?", re.DOTALL)


def _length(node: exp.Expr) -> exp.Expr | None:
    """Of text its bytes, of arrays their elements."""
    value = node.this
    if isinstance(value, exp.Array):
        return call("len", value)
    kind = call("typeof", value.copy())
    octets = call("strlen", typed(value.copy(), "VARCHAR"))
    return case((exp.EQ(this=kind, expression=text("VARCHAR")), octets), default=call("len", value))


def _like(node: exp.Expr) -> exp.Expr | None:
    """A backslash in a pattern takes the next sign as it is, which the engine only does when told."""
    pattern = node.expression
    if isinstance(node.parent, exp.Escape) or (isinstance(pattern, exp.Literal) and "\\" not in pattern.name):
        return None
    return exp.Escape(this=node.copy(), expression=text("\\"))


def _pattern(node: exp.Expr) -> tuple[str, int]:
    """A regular expression in which a dot matches a new line too, and how many groups it has."""
    pattern = literal_text(node, "A regular expression")
    groups = sum(1 for found in _GROUP.finditer(pattern) if found.group(0) == "(")
    return ("(?s)" + pattern if "." in pattern else pattern), groups


def _matches(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node.expression, exp.Literal):
        node.set("expression", text(_pattern(node.expression)[0]))
    return None


def _extracted(name: str) -> Rewrite:
    """The first group, or all that matches where there is none."""

    def extract(node: exp.Expr) -> exp.Expr | None:
        pattern, groups = _pattern(node.expressions[1])
        return call(name, node.expressions[0], pattern, min(groups, 1))

    return extract


def _replaced_pattern(every: bool) -> Rewrite:
    def replace(node: exp.Expr) -> exp.Expr | None:
        value, pattern, by = node.expressions
        changed = _pattern(pattern)[0]
        return call("regexp_replace", value, changed, by, *(["g"] if every else []))

    return replace


def _replaced_once(node: exp.Expr) -> exp.Expr | None:
    value, what, by = node.expressions
    at = call("strpos", value, what)
    before = call("left", value.copy(), exp.Sub(this=at.copy(), expression=number(1)))
    after = call("substring", value.copy(), exp.Add(this=at.copy(), expression=call("length", what.copy())))
    joined = exp.DPipe(this=exp.DPipe(this=before, expression=bracketed(by)), expression=after)
    missing = exp.EQ(this=at, expression=number(0))
    return case((missing, value.copy()), default=joined)


def _renamed(name: str) -> Rewrite:
    return lambda node: call(name, *node.expressions)


def _position(node: exp.Expr) -> exp.Expr | None:
    if len(node.expressions) != 2:
        raise UnsupportedFeature(f"{node.name} takes two arguments here.", hint="Cut the text with substring first.")
    value, what = node.expressions
    return call("strpos", exp.Lower(this=value), exp.Lower(this=what))


def _joined(node: exp.Expr) -> exp.Expr | None:
    """NULL where any of the pieces is, unlike the engine's concat_ws."""
    between, *pieces = node.expressions
    if not pieces:
        return text("")
    joined = typed(pieces[0], "VARCHAR")
    for piece in pieces[1:]:
        joined = exp.DPipe(this=exp.DPipe(this=joined, expression=between.copy()), expression=bracketed(piece))
    return exp.Paren(this=joined)


def _emptiness(full: bool) -> Rewrite:
    kind = exp.NEQ if full else exp.EQ

    def check(node: exp.Expr) -> exp.Expr | None:
        return exp.Paren(this=kind(this=call("len", node.expressions[0]), expression=number(0)))

    return check


def _multi_if(node: exp.Expr) -> exp.Expr | None:
    *pairs, default = node.expressions
    if len(pairs) < 2 or len(pairs) % 2:
        raise UnsupportedFeature("multiIf takes pairs and a default.", hint="Write multiIf(c1, v1, c2, v2, other).")
    return case(*zip(pairs[::2], pairs[1::2], strict=True), default=default)


def _transformed(node: exp.Expr) -> exp.Expr | None:
    """``transform(x, [from, …], [to, …], default)``."""
    value, *rest = node.expressions
    if len(rest) < 2 or not all(isinstance(one, exp.Array) for one in rest[:2]):
        raise UnsupportedFeature("transform takes two arrays written out here.", hint="Write them as [1, 2].")
    pairs = zip(rest[0].expressions, rest[1].expressions, strict=False)
    ifs = [exp.If(this=of, true=to) for of, to in pairs]
    return exp.Case(this=value, ifs=ifs, default=rest[2] if len(rest) > 2 else value.copy())


def _tuple(node: exp.Expr) -> exp.Expr | None:
    if any(isinstance(one, exp.PropertyEQ) for one in node.expressions):
        return None
    return call("row", *node.expressions)


def _element(node: exp.Expr) -> exp.Expr | None:
    """``t.1``, which the parser takes for a column of that name."""
    place = node.expression if isinstance(node, exp.Dot) else node.this
    if not isinstance(place, exp.Literal) or place.is_string:
        return None
    value = node.this if isinstance(node, exp.Dot) else exp.Column(this=node.args.get("table"))
    return call("struct_extract_at", value, place)


def _tuple_element(node: exp.Expr) -> exp.Expr | None:
    place = node.expressions[1]
    named = isinstance(place, exp.Literal) and place.is_string
    return call("struct_extract" if named else "struct_extract_at", *node.expressions[:2])


def _map(node: exp.Expr) -> exp.Expr | None:
    return exp.Map(keys=node.args["keys"], values=node.args["values"])


def _json_path(parts: list[exp.Expr]) -> str:
    path = "$"
    for part in parts:
        place = whole(part)
        if place is not None:
            if place < 1:
                raise UnsupportedFeature("A place in JSON is counted from 1 here.", hint="Count from the front.")
            path += f"[{place - 1}]"
            continue
        key = literal_text(part, "A key of JSON")
        if not _JSON_KEY.fullmatch(key):
            raise UnsupportedFeature("A key of JSON with such signs is not accepted.", hint="Choose a plain key.")
        path += f'."{key}"'
    return path


def _json(name: str, to: str = "", default: exp.Expr | None = None) -> Rewrite:
    """A value of JSON; what is missing or of another kind gives the type's default."""

    def extract(node: exp.Expr) -> exp.Expr | None:
        if isinstance(node, exp.JSONExtractScalar):
            found = call("json_extract_string", node.this, node.expression)
        else:
            found = call(name, node.expressions[0], _json_path(node.expressions[1:]))
        if to:
            found = cast(found, to, safe=True)
        return found if default is None else exp.Coalesce(this=found, expressions=[default.copy()])

    return extract


def _json_text(node: exp.Expr) -> exp.Expr | None:
    """``JSONExtractString``, whose path the parser has read already."""
    if not node.args.get("only_json_types"):
        return None
    return exp.Coalesce(this=node.copy(), expressions=[text("")])


def _piece(node: exp.Expr) -> exp.Expr | None:
    """A piece of a split text that isn't there is empty."""
    if isinstance(node.this, exp.Split):
        return exp.Coalesce(this=node.copy(), expressions=[text("")])
    return None


_FUNCTIONS: dict[str, Rewrite] = {
    "multiif": _multi_if,
    "transform": _transformed,
    "tupleelement": _tuple_element,
    "lengthutf8": _renamed("length"),
    "charlength": _renamed("length"),
    "lowerutf8": _renamed("lower"),
    "upperutf8": _renamed("upper"),
    "reverseutf8": _renamed("reverse"),
    "substringutf8": _renamed("substring"),
    "positionutf8": _renamed("strpos"),
    "leftpadutf8": _renamed("lpad"),
    "rightpadutf8": _renamed("rpad"),
    "positioncaseinsensitive": _position,
    "positioncaseinsensitiveutf8": _position,
    "replaceall": _renamed("replace"),
    "replaceone": _replaced_once,
    "replaceregexpall": _replaced_pattern(every=True),
    "replaceregexpone": _replaced_pattern(every=False),
    "extract": _extracted("regexp_extract"),
    "extractall": _extracted("regexp_extract_all"),
    "splitbyregexp": lambda node: call("regexp_split_to_array", node.expressions[1], _pattern(node.expressions[0])[0]),
    "concatwithseparator": _joined,
    "empty": _emptiness(full=False),
    "notempty": _emptiness(full=True),
    "mapkeys": _renamed("map_keys"),
    "mapvalues": _renamed("map_values"),
    "mapcontains": _renamed("map_contains"),
    "base64decode": lambda node: call("decode", call("from_base64", *node.expressions)),
    "base64encode": lambda node: call("base64", call("encode", *node.expressions)),
    "jsonextractint": _json("json_extract_string", "BIGINT", number(0)),
    "jsonextractuint": _json("json_extract_string", "UBIGINT", number(0)),
    "jsonextractfloat": _json("json_extract_string", "DOUBLE", number(0)),
    "jsonextractbool": _json("json_extract_string", "BOOLEAN", exp.false()),
    "jsonextractraw": _json("json_extract", "VARCHAR", text("")),
    "jsonlength": _json("json_array_length", "", number(0)),
    "jsonhas": _json("json_exists"),
    "simplejsonextractstring": _json("json_extract_string", "", text("")),
    "simplejsonextractint": _json("json_extract_string", "BIGINT", number(0)),
    "simplejsonextractfloat": _json("json_extract_string", "DOUBLE", number(0)),
    "visitparamextractstring": _json("json_extract_string", "", text("")),
    "visitparamextractint": _json("json_extract_string", "BIGINT", number(0)),
    "visitparamextractfloat": _json("json_extract_string", "DOUBLE", number(0)),
}

TEXTS = Meaning(
    syntax={
        exp.Bracket: (_piece,),
        exp.Length: (_length,),
        exp.Like: (_like,),
        exp.ILike: (_like,),
        exp.RegexpLike: (_matches,),
        exp.Struct: (_tuple,),
        exp.Dot: (_element,),
        exp.Column: (_element,),
        exp.VarMap: (_map,),
        exp.JSONExtractScalar: (_json_text,),
    },
    functions=_FUNCTIONS,
)
"""Text, conditions, tuples, maps and JSON."""
