"""How a tree is rewritten: which node becomes which, from the leaves to the root, and what the results are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from sqlglot import exp
from sqlglot.tokenizer_core import Token

from flightsql_server.errors import StatementTooComplex, UnsupportedFeature
from flightsql_server.planner.dialect import MARK
from flightsql_server.planner.meaning.types import Types
from flightsql_server.planner.names import fold

# A rewrite may copy what it puts into another form, so a chain of them takes time by the square of its length.
_MOST_NESTED = 100

Rewrite = Callable[[exp.Expr], exp.Expr | None]
"""Gives the node that takes the place of its argument; None where that stays as it is. It may raise UnsupportedFeature.

One that writes a part of its argument twice, in its place, returns the argument itself: then the size is looked at.
"""
TypedRewrite = Callable[[exp.Expr, Types], exp.Expr | None]
Preparation = Callable[[exp.Expr, str], exp.Expr]
"""Gives the whole tree made ready for the rewrites; its second argument is the text that the tree was parsed from."""
TokenRewrite = Callable[[list[Token]], list[Token]]


@dataclass(frozen=True)
class Meaning:
    """The rewrites of one dialect, or a part that several dialects share.

    ``syntax``: by kind of node, before the gate. ``functions``: the same for functions that the parser doesn't know, by
    their name in small letters. ``typed``: by kind of node, where types are known. ``tokens``: what is done to the
    words before they are parsed, and ``plain``: functions that the parser knows but must leave as they are written, so
    that ``functions`` finds them. ``prepare``: what is done to the whole tree before the rewrites of syntax.
    """

    tokens: tuple[TokenRewrite, ...] = ()
    plain: frozenset[str] = frozenset()
    prepare: tuple[Preparation, ...] = ()
    syntax: Mapping[type, tuple[Rewrite, ...]] = field(default_factory=dict)
    functions: Mapping[str, Rewrite] = field(default_factory=dict)
    typed: Mapping[type, tuple[TypedRewrite, ...]] = field(default_factory=dict)


def merged(*parts: Meaning) -> Meaning:
    """One meaning of several parts; for one kind of node, the rewrites of earlier parts are tried first."""
    syntax: dict[type, tuple[Rewrite, ...]] = {}
    functions: dict[str, Rewrite] = {}
    typed: dict[type, tuple[TypedRewrite, ...]] = {}
    for part in parts:
        for kind, rewrites in part.syntax.items():
            syntax[kind] = syntax.get(kind, ()) + rewrites
        for kind, typed_rewrites in part.typed.items():
            typed[kind] = typed.get(kind, ()) + typed_rewrites
        functions = {**part.functions, **functions}
    if functions:
        syntax[exp.Anonymous] = (*syntax.get(exp.Anonymous, ()), lambda node: _by_name(functions, node))
    return Meaning(
        tokens=tuple(one for part in parts for one in part.tokens),
        plain=frozenset().union(*(part.plain for part in parts)),
        prepare=tuple(one for part in parts for one in part.prepare),
        syntax=syntax,
        functions={},
        typed=typed,
    )


def _by_name(functions: Mapping[str, Rewrite], node: exp.Expr) -> exp.Expr | None:
    found = functions.get(fold(node.name).replace(MARK, ""))
    return found(node) if found is not None else None


_SETTLED = "settled"


def settle(node: exp.Expr) -> exp.Expr:
    """Marks a node that a rewrite of syntax has made: it means what it means to the engine.

    The rewrites that know types then pass over it, as they must not take it for one of the user's.
    """
    node.meta[_SETTLED] = True
    return node


def is_settled(node: exp.Expr) -> bool:
    """Whether ``settle`` has marked the node, or one that it was copied from."""
    return bool(node.meta.get(_SETTLED))


def refused(what: str, hint: str = "Write it another way.") -> Rewrite:
    """A rewrite that refuses its node by this name."""

    def refuse(node: exp.Expr) -> exp.Expr | None:
        raise UnsupportedFeature(f"{what} is not accepted.", hint=hint)

    return refuse


# A rewrite may write an argument twice; one inside of another would double the statement with each level.
_MOST_GROWTH = 8
_SMALLEST_LIMIT = 5_000
_ASSIGNING = (exp.Update, exp.OnConflict)


def rewritten(
    tree: exp.Expr, by_kind: Mapping[type, Iterable[Rewrite]], dialect: str, apart: Iterable[exp.Expr] = ()
) -> exp.Expr:
    """The tree with every node replaced for which a rewrite has another, but for those below the nodes ``apart``.

    A column of the outermost result that is changed without having a name is called by its writer's text.
    """
    outputs = _Outputs(tree, dialect)
    levels: dict[int, int] = {}
    skipped = {id(node) for node in apart}
    nodes = list(tree.walk(bfs=True, prune=lambda node: id(node) in skipped))
    most = max(_SMALLEST_LIMIT, _MOST_GROWTH * len(nodes))
    for node in reversed(nodes):
        if isinstance(node.parent, _ASSIGNING) and node.arg_key == "expressions":
            # Written like a comparison, ``SET a = 1`` is none.
            continue
        if id(node) in skipped:
            continue
        level = max((levels.get(id(child), 0) for child in node.iter_expressions()), default=0)
        if level:
            levels[id(node)] = level
        for rewrite in by_kind.get(node.__class__, ()):
            outputs.note(node)
            new = rewrite(node)
            if new is None:
                continue
            if sum(1 for _ in islice(new.walk(), most + 1)) > most:
                raise StatementTooComplex("The statement grows too large where it is translated.", hint="Nest it less.")
            if new is node:
                continue
            outputs.changed(node, new)
            levels[id(new)] = level + 1
            if level >= _MOST_NESTED:
                raise StatementTooComplex(
                    "The statement has too many operators in one chain.", hint="Split it into smaller ones."
                )
            if node is tree:
                tree = new
            else:
                node.replace(new)
            break
    outputs.name()
    return tree


def naming(column_name: Callable[[exp.Expr, int], str]) -> Preparation:
    """Gives the columns of the outermost result that have no name the one that they have in their dialect.

    ``column_name`` tells it from the column and its place, from 0.
    """

    def name(tree: exp.Expr, text: str) -> exp.Expr:
        select = tree
        while isinstance(select, (exp.SetOperation, exp.Subquery, exp.Paren)):
            select = select.this
        for place, column in enumerate(select.expressions if isinstance(select, exp.Select) else []):
            if column.is_star:
                # What follows a star is at a place that only the engine knows.
                break
            if not isinstance(column, (exp.Alias, exp.Column, exp.Aliases, exp.Dot)):
                column.replace(exp.alias_(column.copy(), column_name(column, place)[:200], quoted=True))
        return tree

    return name


class _Outputs:
    """The unnamed columns of the outermost result, and what they were before they were changed."""

    def __init__(self, tree: exp.Expr, dialect: str) -> None:
        self._dialect = dialect
        self._places: dict[int, int] = {}
        self._before: dict[int, str] = {}
        self._texts: dict[int, str] = {}
        select: exp.Expr | None = tree
        while isinstance(select, (exp.SetOperation, exp.Subquery, exp.Paren)):
            select = select.this
        self._select = select if isinstance(select, exp.Select) else None
        if self._select is not None:
            for place, column in enumerate(self._select.expressions):
                if not isinstance(column, (exp.Alias, exp.Star, exp.Column, exp.Aliases)):
                    self._places[id(column)] = place

    def _place_of(self, node: exp.Expr) -> int | None:
        above: exp.Expr | None = node
        while above is not None and id(above) not in self._places:
            above = above.parent
        return None if above is None else self._places[id(above)]

    def note(self, node: exp.Expr) -> None:
        """Notes the text of the column that the node belongs to, once, before anything of it is changed."""
        place = self._place_of(node)
        if place is not None and place not in self._before and self._select is not None:
            self._before[place] = self._select.expressions[place].sql(dialect=self._dialect, comments=False)

    def changed(self, node: exp.Expr, new: exp.Expr) -> None:
        """Notes that ``new`` takes the place of ``node``, in a column whose text was noted."""
        place = self._place_of(node)
        if place is None:
            return
        self._texts[place] = self._before[place]
        if id(node) in self._places:
            self._places[id(new)] = place

    def name(self) -> None:
        """Gives the changed columns their names."""
        if self._select is None:
            return
        for place, text in self._texts.items():
            column = self._select.expressions[place]
            if not isinstance(column, (exp.Alias, exp.Star, exp.Column)):
                column.replace(exp.alias_(column.copy(), text[:200], quoted=True))
