"""Parameters: ``?`` and ``$1`` are numbered before the parser sees them, and written as ``CAST($1 AS …)``.

The cast makes a statement's schema follow from its text and the types of its values alone, so that it is known before
it runs. Until values are bound a type is guessed from what stands beside the parameter: Java's driver converts to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from flightsql_server.errors import InvalidParameter, SqlSyntaxError, UnsupportedFeature
from flightsql_server.planner.dialect import MARK
from flightsql_server.planner.information import SIMPLE_TYPES
from flightsql_server.planner.names import fold, identifier
from flightsql_server.planner.request import Draft

_STEM = MARK + "p"
_MOST = 1_000
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.IntDiv)
_CONDITIONS = (exp.And, exp.Or, exp.Not, exp.Where, exp.Having, exp.Join)

_SQL_TYPES: dict[pa.DataType, str] = {
    **{type_: name for type_, name in SIMPLE_TYPES.items() if not pa.types.is_null(type_)},
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.string_view(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
    pa.binary_view(): "BLOB",
    pa.time32("s"): "TIME",
    pa.time32("ms"): "TIME",
    pa.time64("us"): "TIME",
    pa.time64("ns"): "TIME_NS",
}
# The engine's own types, by the words that CAST(? AS …) may use.
_ARROW_TYPES = {
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "DOUBLE": pa.float64(),
    "FLOAT": pa.float32(),
    "INT": pa.int32(),
    "SMALLINT": pa.int16(),
    "TEXT": pa.string(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "TINYINT": pa.int8(),
    "UUID": pa.string(),
    "VARCHAR": pa.string(),
}


def sql_type(type_: pa.DataType) -> str | None:
    """The engine's type that holds every value of the Arrow type, or None where there is no such type."""
    known = _SQL_TYPES.get(type_)
    if known is not None:
        return known
    types = pa.types
    if types.is_dictionary(type_):
        return sql_type(type_.value_type)
    if types.is_duration(type_):
        return "INTERVAL"
    if types.is_timestamp(type_):
        return "TIMESTAMPTZ"
    if types.is_decimal(type_):
        return f"DECIMAL({type_.precision},{type_.scale})" if type_.precision <= 38 and type_.scale >= 0 else None
    if types.is_fixed_size_binary(type_):
        return "BLOB"
    if isinstance(type_, pa.BaseExtensionType):
        return "UUID" if type_.extension_name == "arrow.uuid" else None
    if types.is_map(type_):
        key, item = sql_type(type_.key_type), sql_type(type_.item_type)
        return f"MAP({key}, {item})" if key and item else None
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        item = sql_type(type_.value_type)
        size = type_.list_size if types.is_fixed_size_list(type_) else ""
        return f"{item}[{size}]" if item else None
    if types.is_null(type_):
        return "INTEGER"  # inside of something: nothing but NULLs
    if types.is_struct(type_):
        fields = [(type_.field(i).name, sql_type(type_.field(i).type)) for i in range(type_.num_fields)]
        if not fields or any(not name or inner is None for name, inner in fields):
            return None
        return "STRUCT(" + ", ".join(f"{identifier(name)} {inner}" for name, inner in fields) + ")"
    return None


def mark(draft: Draft) -> None:
    """Rule: each parameter becomes a name that no text can hold, which says its number; ``?`` and ``$1`` don't mix."""
    tokens, out, at, count, numbered = draft.tokens, [], 0, 0, False
    while at < len(tokens):
        token = tokens[at]
        follower = tokens[at + 1] if at + 1 < len(tokens) else None
        if token.token_type == TokenType.PLACEHOLDER and token.text == "?":
            count += 1
            token = _name(token, count)
        elif (
            token.token_type == TokenType.PARAMETER
            and token.text == "$"
            and follower is not None
            and follower.token_type == TokenType.NUMBER
            and follower.text.isdecimal()
        ):
            if not 1 <= int(follower.text) <= _MOST:
                raise InvalidParameter("Parameters are numbered from $1 on.", hint=f"There may be {_MOST}.")
            numbered = True
            token = _name(token, int(follower.text))
            at += 1
        out.append(token)
        at += 1
    if numbered and count:
        raise SqlSyntaxError("The statement has parameters of both kinds.", hint="Write all as ? or all as $1.")
    if count > _MOST:
        raise InvalidParameter(f"The statement has more than {_MOST} parameters.", hint="Send a table by DoPut.")
    draft.tokens = out
    draft.parametrised = numbered or count > 0


def _name(token: Token, number: int) -> Token:
    return Token(TokenType.VAR, f"{_STEM}{number}", token.line, token.col, token.start, token.end, [])


def check(draft: Draft) -> None:
    """Rule: a parameter stands for a value: not for a name, a type, a function or a table."""
    if not draft.parametrised:
        return
    placed = {id(node.this) for node, _ in _columns(draft.root)}
    for node in draft.root.walk():
        if id(node) in placed:
            continue
        for value in node.args.values():
            if isinstance(value, str) and _STEM in value:
                raise SqlSyntaxError("A parameter can't stand there.", hint="It stands for a value only.")


def place(draft: Draft) -> None:
    """Rule: where the parameters stand in the tree, a cast of the value that will be bound; its type is noted."""
    if not draft.parametrised:
        _check_count(draft, 0)
        return
    _name_results(draft.root)
    found = list(_columns(draft.root))
    count = max((number for _, number in found), default=0)
    _check_count(draft, count)
    given = draft.request.parameters
    types: list[pa.DataType | None] = list(given) if given is not None else _guessed(draft, found, count)
    for node, number in found:
        type_ = types[number - 1]
        # The engine makes of an untyped NULL what its place asks for.
        node.replace(exp.Null() if type_ is None else _value(type_, number))
    draft.parameters = tuple(type_ or pa.string() for type_ in types)


def _check_count(draft: Draft, count: int) -> None:
    given = draft.request.parameters
    if given is not None and len(given) != count:
        raise InvalidParameter(
            f"The statement has {count} parameter{'' if count == 1 else 's'}, but {len(given)} came.",
            hint="Bind one value to each.",
        )


def _columns(tree: exp.Expr) -> Iterator[tuple[exp.Expr, int]]:
    for node in list(tree.find_all(exp.Column)):
        if node.name.startswith(_STEM) and not node.args.get("table"):
            yield node, int(node.name.removeprefix(_STEM))


def _value(type_: pa.DataType, number: int) -> exp.Expr:
    if pa.types.is_null(type_):
        return exp.Null()
    text = sql_type(type_)
    if text is None:
        raise UnsupportedFeature(f"A parameter can't be of type {type_}.", hint="Cast it before sending.")
    return exp.Cast(this=exp.Placeholder(this=str(number)), to=exp.DataType.build(text, dialect="duckdb"))


def _name_results(tree: exp.Expr) -> None:
    """Output columns without a name are called as they were written, not after the cast."""
    select = tree.find(exp.Select)
    for node in select.expressions if select is not None else ():
        if isinstance(node, (exp.Alias, exp.Star)) or not any(True for _ in _columns(node)):
            continue
        named = node.copy()
        for column, number in _columns(named):
            replacement = exp.Placeholder(this=str(number))
            if column is named:
                named = replacement
            else:
                column.replace(replacement)
        text = named.sql(dialect="duckdb", normalize_functions=False)
        node.replace(exp.alias_(node.copy(), text, quoted=True))


# ---- guesses ---------------------------------------------------------------------------------------------------------


def _guessed(draft: Draft, found: list[tuple[exp.Expr, int]], count: int) -> list[pa.DataType | None]:
    types: list[pa.DataType | None] = [None] * count
    for node, number in found:
        types[number - 1] = types[number - 1] or _guess(draft, node)
    return types


def _guess(draft: Draft, node: exp.Expr) -> pa.DataType | None:
    """What a parameter is likely to be, from the node it stands in."""
    parent = node.parent
    while isinstance(parent, (exp.Paren, exp.Neg)):
        node, parent = parent, parent.parent
    if isinstance(parent, (exp.Limit, exp.Offset, exp.Fetch)):
        return pa.int64()
    if isinstance(parent, (exp.Cast, exp.TryCast)):
        return _named_type(parent.args["to"])
    if isinstance(parent, (exp.Like, exp.ILike, exp.SimilarTo)):
        return pa.string()
    if isinstance(parent, (*_COMPARISONS, *_ARITHMETIC)):
        other = parent.expression if node.arg_key == "this" else parent.this
        return _type_of(draft, other)
    if isinstance(parent, exp.Tuple) and isinstance(parent.parent, exp.Values):
        return _guess_inserted(draft, parent, parent.expressions.index(node))
    if isinstance(parent, (exp.In, exp.Between)) and node.arg_key != "this":
        return _type_of(draft, parent.this)
    if isinstance(parent, _CONDITIONS):
        return pa.bool_()
    if isinstance(parent, exp.Func):
        return _guess_argument(draft, parent)
    return None


def _guess_argument(draft: Draft, function: exp.Func) -> pa.DataType | None:
    name = fold(function.name if isinstance(function, exp.Anonymous) else function.key)
    if name in ("range", "generate_series", "generateseries", "explodinggenerateseries"):
        return pa.int64()
    if name in ("coalesce", "ifnull", "nullif", "greatest", "least"):
        for sibling in function.iter_expressions():
            type_ = _type_of(draft, sibling)
            if type_ is not None:
                return type_
    return None


def _guess_inserted(draft: Draft, row: exp.Tuple, place: int) -> pa.DataType | None:
    """The type of the column that takes the value at this place of an INSERT's row."""
    insert = row.parent.parent if row.parent is not None else None
    table = draft.request.catalog.tables.get(draft.target) if draft.target is not None else None
    if not isinstance(insert, exp.Insert) or table is None:
        return None
    named = [fold(part.name) for part in insert.this.expressions] if isinstance(insert.this, exp.Schema) else []
    names = named or [fold(column.name) for column in table.columns]
    types = {fold(column.name): column.type for column in table.columns}
    return types.get(names[place]) if place < len(names) else None


def _type_of(draft: Draft, node: object) -> pa.DataType | None:
    while isinstance(node, (exp.Paren, exp.Neg)):
        node = node.this
    if isinstance(node, exp.Column):
        name = fold(node.name)
        tables = [bound.table for bound in draft.tables]
        target = draft.request.catalog.tables.get(draft.target) if draft.target is not None else None
        tables += [target] if target is not None else []
        types = {column.type for table in tables for column in table.columns if fold(column.name) == name}
        return types.pop() if len(types) == 1 else None
    if isinstance(node, exp.Literal):
        if node.is_string:
            return pa.string()
        return pa.int64() if str(node.this).isdecimal() else pa.float64()
    if isinstance(node, (exp.Cast, exp.TryCast)):
        return _named_type(node.args["to"])
    if isinstance(node, _ARITHMETIC):
        return _type_of(draft, node.this) or _type_of(draft, node.expression)
    return None


def _named_type(type_: exp.DataType) -> pa.DataType | None:
    if type_.this == exp.DType.DECIMAL and len(type_.expressions) == 2:
        precision, scale = (int(part.name) for part in type_.expressions)
        return pa.decimal128(precision, scale) if 1 <= precision <= 38 and scale <= precision else None
    if type_.this == exp.DType.USERDEFINED and isinstance(type_.args.get("kind"), str):
        # A word that is kept as it was written.
        type_ = exp.DataType.build(type_.args["kind"], dialect="duckdb", udt=True)
    word = type_.this.value if isinstance(type_.this, exp.DType) else ""
    return _ARROW_TYPES.get(word)
