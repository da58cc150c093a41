"""LIKE, SIMILAR TO and regular expressions as PostgreSQL has them, for an engine whose expressions are RE2's."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning, refused
from flightsql_server.planner.names import fold as fold_letters

_HINT = "Write the expression another way."
# Escapes that both know with the same meaning; PostgreSQL's \m, \M, \y, \Z and back references are none.
_SHARED_ESCAPES = frozenset("dDsSwW.()[]{}*+?|^$\\/-tnr\"'#:,;=!&%@~<> _")
# In RE2 these know ASCII alone, in PostgreSQL every letter.
_CLASSES = {"\\w": r"\p{L}\p{N}_"}
_NAMED_CLASSES = {
    "[:alnum:]": r"\p{L}\p{N}",
    "[:alpha:]": r"\p{L}",
    "[:lower:]": r"\p{Ll}",
    "[:upper:]": r"\p{Lu}",
}
_QUANTIFIED_LAZILY = re.compile(r"[*+?}]\?")
_LOOK_AROUND = re.compile(r"\(\?(?!:)")
_SIMILAR_SPECIAL = frozenset("|*+?{}()[]0123456789,")


def _refuse(what: str, hint: str = _HINT) -> UnsupportedFeature:
    return UnsupportedFeature(f"{what} can't be translated.", hint=hint)


def _text(node: exp.Expr | None) -> str | None:
    return node.name if isinstance(node, exp.Literal) and node.is_string else None


def _like(node: exp.Expr) -> exp.Expr | None:
    r"""A backslash escapes in LIKE unless ESCAPE says otherwise; the engine has no such default."""
    if isinstance(node.parent, exp.Escape):
        return None
    pattern = node.expression
    if isinstance(pattern, (exp.Any, exp.All, exp.Array, exp.Tuple)):
        return _like_many(node)
    text = _text(pattern)
    if text is not None and "\\" not in text:
        return None
    return exp.Escape(this=node.copy(), expression=exp.Literal.string("\\"))


_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"


def lower_ascii(node: exp.Expr) -> exp.Expr:
    """The text with the letters A to Z made small, and those alone."""
    if isinstance(node, exp.Literal):
        return exp.Literal.string(fold_letters(node.name))
    letters = [exp.Literal.string(_UPPER), exp.Literal.string(_LOWER)]
    return exp.Anonymous(this="translate", expressions=[node.copy(), *letters])


def upper_ascii(node: exp.Expr) -> exp.Expr:
    """The text with the letters a to z made capital, and those alone."""
    letters = [exp.Literal.string(_LOWER), exp.Literal.string(_UPPER)]
    return exp.Anonymous(this="translate", expressions=[node.copy(), *letters])


def escaped(node: exp.Expr) -> exp.Expr:
    """``like_ascii`` with the escapes of a LIKE that names none."""
    test = like_ascii(node)
    return _like(test) or test


def like_ascii(node: exp.Expr) -> exp.Expr:
    """A LIKE for which A and a are the same, but no letters outside of ASCII are."""
    escape = node.parent.expression if isinstance(node.parent, exp.Escape) else None
    if escape is not None and escape.name.isalpha():
        raise _refuse("A letter as the escape character of a pattern")
    return exp.Like(
        this=lower_ascii(node.this), expression=lower_ascii(node.expression), negate=node.args.get("negate")
    )


def _like_many(node: exp.Expr) -> exp.Expr:
    """LIKE ANY (ARRAY[…]), which the parser flattens to LIKE an array, as several LIKEs."""
    pattern = node.expression
    every = isinstance(pattern, exp.All)
    inner = pattern.this if isinstance(pattern, (exp.Any, exp.All)) else pattern
    while isinstance(inner, exp.Paren):
        inner = inner.this
    if not isinstance(inner, (exp.Array, exp.Tuple)) or not inner.expressions:
        raise _refuse("LIKE ANY of anything but a list of patterns")
    tests: list[exp.Expr] = []
    for one in inner.expressions:
        test = node.__class__(this=node.this.copy(), expression=one.copy(), negate=node.args.get("negate"))
        tests.append(_like(test) or test)
    joined = exp.and_(*tests, copy=False) if every else exp.or_(*tests, copy=False)
    return exp.paren(joined, copy=False)


def similar(node: exp.Expr) -> exp.Expr | None:
    """SIMILAR TO has patterns of its own, with % and _; the engine takes them for regular expressions."""
    if isinstance(node.parent, exp.Escape):
        raise _refuse("SIMILAR TO with ESCAPE")
    text = _text(node.expression)
    if text is None:
        raise _refuse("A pattern of SIMILAR TO that is not a literal")
    return exp.Anonymous(
        this="regexp_full_match",
        expressions=[node.this.copy(), exp.Literal.string(_similar_pattern(text)), exp.Literal.string("s")],
    )


def _similar_pattern(text: str) -> str:
    out, at, inside = "", 0, False
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
            if at == len(text):
                raise _refuse("A pattern that ends in its escape character")
            out += re.escape(text[at])
        elif inside:
            inside = char != "]"
            out += char if char in "^]-" or char.isalnum() else "\\" + char
        elif char == "[":
            inside = True
            out += char
        elif char == "%":
            out += ".*"
        elif char == "_":
            out += "."
        elif char in _SIMILAR_SPECIAL or char.isalnum():
            out += char
        else:
            out += "\\" + char
        at += 1
    if inside:
        raise _refuse("An open bracket in a pattern")
    return f"(?:{out})"


def checked(node: exp.Expr | None, extracts: bool = False, ascii_letters: bool = False) -> str:
    """The text of a regular expression that means the same to both; others are refused.

    PostgreSQL takes the longest of several matches and RE2 the first that it finds: where it counts what has matched
    (``extracts``) and not only whether anything has, alternatives must begin with different letters.
    With ``ascii_letters`` classes of letters hold those of ASCII alone, as in RE2.
    """
    text = _text(node)
    if text is None:
        raise _refuse("A regular expression that is not a literal")
    if _LOOK_AROUND.search(text) or text.startswith("***"):
        raise _refuse("A look-around or an option inside of a regular expression")
    at = 0
    while (at := text.find("\\", at)) >= 0:
        if text[at + 1 : at + 2] not in _SHARED_ESCAPES or at + 1 == len(text):
            raise _refuse(f'The escape "{text[at : at + 2]}" in a regular expression')
        at += 2
    if extracts:
        if _QUANTIFIED_LAZILY.search(text):
            raise _refuse("A lazy quantifier in a regular expression")
        _check_alternatives(text)
    return text if ascii_letters else _with_classes(text)


def _with_classes(text: str) -> str:
    out, at, inside = "", 0, False
    while at < len(text):
        piece = text[at : at + 2] if text[at] == "\\" else text[at]
        if inside and text.startswith("[:", at) and ":]" in text[at:]:
            piece = text[at : text.index(":]", at) + 2]
            out += _NAMED_CLASSES.get(piece, piece)
        elif piece in _CLASSES:
            out += _CLASSES[piece] if inside else f"[{_CLASSES[piece]}]"
        elif piece.lower() in _CLASSES:
            if inside:
                raise _refuse(f'The escape "{piece}" inside of brackets')
            out += f"[^{_CLASSES[piece.lower()]}]"
        else:
            if not inside and piece == "[":
                inside = True
                if text[at + 1 : at + 2] == "^":
                    piece += "^"
                if text[at + len(piece) : at + len(piece) + 1] == "]":
                    piece += "\\]"
                    at -= 1
            elif inside and piece == "]":
                inside = False
            out += piece
        at += len(piece)
    return out


def _check_alternatives(text: str) -> None:
    plain = re.sub(r"\\.|\[\^?\]?[^]]*\]", "~", text, flags=re.DOTALL)
    for group in re.split(r"[()]", plain):
        if "|" not in group:
            continue
        bare = {part.removeprefix("^").removesuffix("$") for part in group.split("|")}
        if len(bare) == 1 and "(" not in text:
            continue
        starts = [part[:1] for part in group.removeprefix("?:").split("|")]
        if len(set(starts)) < len(starts) or any(not start.isalnum() for start in starts):
            raise _refuse("A choice of alternatives in a regular expression", "Let each begin with another letter.")
        if any(part[1:2] in "*?{" and part[1:2] for part in group.split("|")):
            raise _refuse("A choice of alternatives in a regular expression", "Let each begin with another letter.")


def _options(flags: str) -> str:
    """The engine's options for PostgreSQL's flags; without any, a dot also matches the end of a line in PostgreSQL."""
    out = "s"
    for flag in flags:
        if flag not in "gic":
            raise _refuse(f'The flag "{flag}" of a regular expression')
        out += flag
    return out


def _matches(node: exp.Expr) -> exp.Expr | None:
    """``x ~ 'pattern'`` and ``x ~* 'pattern'``."""
    flags = "si" if isinstance(node, exp.RegexpILike) else "s"
    return exp.Anonymous(
        this="regexp_matches",
        expressions=[
            node.this.copy(),
            exp.Literal.string(checked(node.expression)),
            exp.Literal.string(flags),
        ],
    )


def replacing(node: exp.Expr, always: str = "") -> exp.Expr:
    """``regexp_replace(text, pattern, replacement [, flags])``; ``always`` are flags that are on in any case."""
    arguments = node.expressions
    flags = _text(arguments[3]) if len(arguments) == 4 else ""
    if len(arguments) not in (3, 4) or flags is None:
        raise _refuse("regexp_replace with a start or an occurrence")
    replacement = _text(arguments[2])
    if replacement is None:
        raise _refuse("A replacement that is not a literal")
    return exp.Anonymous(
        this="regexp_replace",
        expressions=[
            arguments[0].copy(),
            exp.Literal.string(checked(arguments[1], extracts=True)),
            exp.Literal.string(replacement.replace("\\&", "\\0")),
            exp.Literal.string(_options(flags + always)),
        ],
    )


def first_match(subject: exp.Expr, pattern: str, whole: bool = False) -> exp.Expr:
    """What the pattern matches first, or its first group if it has one; NULL where it matches nothing."""
    grouped = not whole and re.search(r"(?<!\\)\((?!\?:)", re.sub(r"\[\^?\]?[^]]*\]", "~", pattern))
    group = 1 if grouped else 0
    options = exp.Literal.string("s")
    arguments = [subject.copy(), exp.Literal.string(pattern)]
    found = exp.Anonymous(this="regexp_matches", expressions=[*arguments, options])
    taken = exp.Anonymous(
        this="regexp_extract",
        expressions=[*(one.copy() for one in arguments), exp.Literal.number(group), options.copy()],
    )
    return exp.Case().when(found, taken)


def _substr(node: exp.Expr) -> exp.Expr | None:
    """``regexp_substr(text, pattern)`` gives the whole match, or NULL."""
    if len(node.expressions) != 2:
        raise _refuse("regexp_substr with more than two arguments")
    return first_match(node.expressions[0], checked(node.expressions[1], extracts=True), whole=True)


def _count(node: exp.Expr) -> exp.Expr | None:
    if len(node.expressions) != 2:
        raise _refuse("regexp_count with more than two arguments")
    pattern = exp.Literal.string(checked(node.expressions[1], extracts=True))
    options = [exp.Literal.number(0), exp.Literal.string("s")]
    found = exp.Anonymous(this="regexp_extract_all", expressions=[node.expressions[0].copy(), pattern, *options])
    return exp.Anonymous(this="len", expressions=[found])


def _split(node: exp.Expr) -> exp.Expr | None:
    if len(node.expressions) != 2:
        raise _refuse("regexp_split_to_array with flags")
    pattern = checked(node.expressions[1], extracts=True)
    if re.fullmatch(pattern, "") is not None:
        raise _refuse("Splitting by an expression that matches the empty text")
    return exp.Anonymous(
        this="string_split_regex",
        expressions=[node.expressions[0].copy(), exp.Literal.string(pattern), exp.Literal.string("s")],
    )


def _like_function(node: exp.Expr) -> exp.Expr | None:
    """``regexp_like(text, pattern [, flags])``."""
    arguments = node.expressions
    flags = _text(arguments[2]) if len(arguments) == 3 else ""
    if len(arguments) not in (2, 3) or flags is None:
        raise _refuse("regexp_like of other than two or three arguments")
    options = exp.Literal.string(_options(flags).replace("g", ""))
    pattern = exp.Literal.string(checked(arguments[1]))
    return exp.Anonymous(this="regexp_matches", expressions=[arguments[0].copy(), pattern, options])


_NO_SETS = refused(
    "A function that gives the groups of a match", "Use ~, substring(text FROM pattern), regexp_replace."
)

LIKE_ESCAPES = Meaning(syntax={exp.Like: (_like,), exp.ILike: (_like,)})
"""A backslash escapes in the patterns of LIKE."""
PATTERNS = Meaning(
    plain=frozenset(
        {
            "regexp_replace",
            "regexp_substr",
            "regexp_count",
            "regexp_split_to_array",
            "regexp_matches",
            "regexp_match",
            "regexp_instr",
            "regexp_like",
        }
    ),
    functions={
        "regexp_count": _count,
        "regexp_instr": refused("regexp_instr"),
        "regexp_like": _like_function,
        "regexp_match": _NO_SETS,
        "regexp_matches": _NO_SETS,
        "regexp_replace": replacing,
        "regexp_split_to_array": _split,
        "regexp_substr": _substr,
    },
    syntax={exp.SimilarTo: (similar,), exp.RegexpLike: (_matches,), exp.RegexpILike: (_matches,)},
)
"""Regular expressions and SIMILAR TO."""
