"""Where a value goes: whether it is only printed, whether its order matters, whether it is a set."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from .syntax import BUILTIN, FUNCTIONS, Source, Variable, as_list, keyword, method_of, methods, words

# Calls that give the same whatever the order of what they are given, and those that pass the order on
ORDERLESS = words("builtins: sorted set frozenset len any all sum min max bool isinstance", "natsort: natsorted")
ORDERLESS |= words("numpy: sort unique")
PASSING = words("builtins: list tuple iter enumerate map filter zip reversed dict dict.fromkeys next")
PASSING |= words("itertools: chain chain.from_iterable islice product combinations", "tqdm: tqdm auto.tqdm trange")
PASSING |= words("rich.progress: track")
VIEWS = {"items", "keys", "values", "copy"}  # methods that pass the order on
# Methods, and calls, whose effect is the same in any order
ANY_ORDER = methods(
    "add append extend discard remove clear update unlink rmdir mkdir touch result sort count close issubset",
    "issuperset isdisjoint union intersection difference symmetric_difference intersection_update difference_update",
    "symmetric_difference_update set_postfix",
)
FILE_CALLS = words("os: remove unlink makedirs mkdir", "shutil: rmtree copy copy2 copyfile move copytree")
# What only tells people something, and calls that prepare a text for it
SAYS = words("builtins: print", "warnings: warn", "sys: stderr.write stdout.write", "tqdm: tqdm.write", "click: echo")
SAYING = methods("debug info warning error exception critical")  # of a logger
TEXTS = words("builtins: str int float round divmod repr format abs max min sum len sorted", "math: floor")
TEXTS |= words("time: strftime localtime gmtime ctime", "datetime: timedelta datetime.fromtimestamp")


class Flow(Source):
    """A parsed file, and where the values in it go.

    Args:
        content: its bytes.
        data: the folders of the project's data, from its root.
        is_training: whether it is the command that trains, whose words are Hydra's.

    Raises:
        SyntaxError, ValueError: it is no Python.
    """

    def __init__(self, content: bytes, data: Iterable[str] = ("data",), is_training: bool = False) -> None:
        super().__init__(content)
        self.data, self.is_training = tuple(data), is_training
        functions = [node for node in self.nodes if isinstance(node, ast.FunctionDef)]
        made_of = [self.called(each) or self.name(each) for function in functions for each in function.decorator_list]
        self.is_stage = "samebits.stage" in made_of  # of the pipeline, as prepare is

    # --- where a value goes

    def only_said(self, node: ast.AST, seen: frozenset[ast.AST] = frozenset()) -> bool:
        """Whether a value is only printed, logged as text, or part of an error's message."""
        parent, seen = self.parent[node], seen | {node}
        if parent in seen or isinstance(parent, ast.Expr | ast.Raise):
            return True
        if isinstance(parent, ast.keyword):
            parent = self.parent[parent]
        if isinstance(parent, ast.Call):
            method = method_of(parent.func)
            if node is not parent.func:
                if self.called(parent) in SAYS or method in SAYING or isinstance(self.parent[parent], ast.Raise):
                    return True
                if method == "append" and (kept := self.variable(parent.func.value)):  # type: ignore[attr-defined]
                    return all(self.only_said(use, seen) for use in self.loaded[kept] if use not in seen)
                if self.called(parent) not in TEXTS and method not in ("format", "join", "total_seconds"):
                    return False
            return self.only_said(parent, seen)
        if isinstance(parent, ast.BinOp | ast.JoinedStr | ast.FormattedValue | ast.Attribute | ast.Tuple | ast.List):
            return self.only_said(parent, seen)
        if isinstance(parent, ast.GeneratorExp | ast.ListComp | ast.UnaryOp | ast.Starred):
            return self.only_said(parent, seen)
        return self._kept(parent, lambda use: use in seen or self.only_said(use, seen))

    def _kept(self, parent: ast.AST, is_free: Callable[[ast.AST], bool]) -> bool:
        """Whether all uses of what an assignment assigns are free."""
        targets = {ast.Assign: "targets", ast.AnnAssign: "target", ast.AugAssign: "target", ast.NamedExpr: "target"}
        if type(parent) not in targets:
            return False
        assigned = as_list(getattr(parent, targets[type(parent)]))
        found = [self.variable(name) for each in assigned for name in getattr(each, "elts", [each])]
        return all(each is not None and self.seen_uses(each) and all(map(is_free, self.loaded[each])) for each in found)

    def order_free(self, node: ast.AST, seen: frozenset[ast.AST] = frozenset()) -> bool:
        """Whether nothing hangs on the order in which an expression gives its items."""
        parent, seen = self.parent[node], seen | {node}

        def free(use: ast.AST) -> bool:
            return use in seen or self.order_free(use, seen)

        if parent in seen or isinstance(parent, ast.Expr | ast.Set | ast.SetComp | ast.Compare | ast.Delete):
            return True
        if isinstance(parent, ast.If | ast.While | ast.Assert) or (
            isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not)
        ):
            return True
        if isinstance(parent, ast.IfExp) and parent.test is node:
            return True
        if isinstance(parent, ast.Call):
            method = method_of(parent.func)
            called = self.called(parent)
            if called in SAYS or method in SAYING:
                return True
            if called in ORDERLESS:  # but for ties, as in max(set(words), key=words.count)
                key = keyword(parent, "key")
                return not (self.name(key) == BUILTIN + "len" or method_of(key) in ("count", "get")) if key else True
            if method in (ANY_ORDER - {"append", "extend"}) | {"startswith", "endswith"} and called not in PASSING:
                return True
            if method == "extend" and (kept := self.variable(parent.func.value)):  # type: ignore[attr-defined]
                return self.all_free(kept, free)
            if called in PASSING or method in ("join", "fromkeys"):
                return free(parent) or self.only_said(parent)
            return False
        if isinstance(parent, ast.Attribute):
            call = self.parent[parent]
            if isinstance(call, ast.Call) and call.func is parent:
                return parent.attr in ANY_ORDER or (parent.attr in VIEWS and free(call))
            return False
        if isinstance(parent, ast.Subscript):
            stored = not isinstance(parent.ctx, ast.Load)
            return parent.value is node and (stored or all(value and _is_dict(value) for value in self.values(node)))
        if isinstance(parent, ast.comprehension):
            return node is not parent.iter or isinstance(self.parent[parent], ast.SetComp) or free(self.parent[parent])
        if isinstance(parent, ast.Starred | ast.List | ast.Tuple | ast.BoolOp | ast.IfExp | ast.FormattedValue):
            return free(parent) or self.only_said(parent)
        if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Add):
            return free(parent)
        if isinstance(parent, ast.NamedExpr):
            return free(parent) and self._kept(parent, free)
        if isinstance(parent, ast.For | ast.AsyncFor) and parent.iter is node:
            return self.loop_free(parent, seen)
        if isinstance(parent, ast.Return | ast.Yield | ast.YieldFrom):
            return self._callers_free(parent, free)
        if isinstance(parent, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
            if is_single(targets[0]):
                return True
            found = [self.variable(each) for each in targets]
            return all(each is not None and self.all_free(each, free, parent) for each in found)
        return False

    def all_free(self, variable: Variable, free: Callable[[ast.AST], bool], statement: ast.stmt | None = None) -> bool:
        """Whether a collection is sorted in place, or each of its uses is free of its order.

        Looked at are the uses after the `statement` that assigns it, up to where the same block assigns it anew.
        """
        uses = self.loaded[variable]
        if statement is not None and not isinstance(statement, ast.AugAssign):
            block = [self.parent[each] for each in self.stored[variable] if isinstance(self.parent[each], ast.Assign)]
            siblings = [each for each in block if self.parent[each] is self.parent[statement]]
            ends = [each.end_lineno for each in siblings if each.lineno > statement.lineno]  # type: ignore[attr-defined]
            if ends:
                uses = [use for use in uses if use.lineno <= min(ends)]  # type: ignore[attr-defined]
        return self.seen_uses(variable) and (
            any(method_of(self.parent[use]) == "sort" for use in uses) or all(map(free, uses))
        )

    def seen_uses(self, variable: Variable) -> bool:
        """Whether the uses of a variable are in the file: those of a module and of objects may be elsewhere, too."""
        return isinstance(variable[0], FUNCTIONS) or bool(self.loaded[variable])

    def _callers_free(self, node: ast.AST, free: Callable[[ast.AST], bool]) -> bool:
        function = self.function(node)
        if function is None or isinstance(function, ast.Lambda):
            return False
        uses = self.loaded[self.scope(function), function.name]
        calls = [self.parent[use] for use in uses]
        return bool(calls) and all(isinstance(call, ast.Call) and free(call) for call in calls)

    def loop_free(self, loop: ast.For | ast.AsyncFor, seen: frozenset[ast.AST] = frozenset()) -> bool:
        """Whether a loop does the same in any order, as far as can be seen."""

        def free(use: ast.AST) -> bool:
            return use in seen or self.order_free(use, seen | {use})

        def within(use: ast.AST) -> bool:
            return loop in self.above(use)

        def local(target: ast.AST) -> bool:
            if isinstance(target, ast.Tuple):
                return all(map(local, target.elts))
            if isinstance(target, ast.Subscript):
                kept = self.variable(target.value)
                known = all(value and not _is_dict(value) for value in self.values(target.value))
                return kept is not None and (known or all(within(use) or free(use) for use in self.loaded[kept]))
            found = self.variable(target)
            if not isinstance(target, ast.Name) or found is None:
                return False
            value = getattr(self.parent[target], "value", None)  # that of the last round is not used
            again = {each.id for each in ast.walk(value) if isinstance(each, ast.Name)} if value else set()
            later = all((use.lineno, use.col_offset) > (target.lineno, 0) for use in self.loaded[found])  # type: ignore[attr-defined]
            return target.id not in again and later and all(map(within, self.loaded[found]))

        def harmless(statement: ast.stmt) -> bool:
            if isinstance(statement, ast.Pass | ast.Continue | ast.Assert | ast.Raise | ast.Import):
                return True
            if isinstance(statement, ast.Return):
                return statement.value is None or isinstance(statement.value, ast.Constant)
            if isinstance(statement, ast.If | ast.For | ast.While | ast.With | ast.Try):
                inner = [*statement.body, *getattr(statement, "orelse", []), *getattr(statement, "finalbody", [])]
                inner += [each for handler in getattr(statement, "handlers", []) for each in handler.body]
                return all(map(harmless, inner))
            if isinstance(statement, ast.Assign):
                return all(map(local, statement.targets))
            if isinstance(statement, ast.AugAssign):
                return self.is_number(statement.value) or isinstance(statement.op, ast.BitOr | ast.BitAnd)
            if isinstance(statement, ast.Delete):
                return True
            call = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(call, ast.YieldFrom | ast.Yield):
                return self._callers_free(call, free)
            if not isinstance(call, ast.Call):
                return isinstance(call, ast.Constant)
            method = method_of(call.func)
            if method in ("append", "extend"):
                kept = self.variable(call.func.value)  # type: ignore[attr-defined]
                return kept is not None and self.all_free(kept, lambda use: use is call.func.value or free(use))  # type: ignore[attr-defined]
            return method in ANY_ORDER | SAYING or self.called(call) in SAYS | FILE_CALLS

        return all(map(harmless, [*loop.body, *loop.orelse]))

    # --- kinds of values

    def is_number(self, node: ast.AST) -> bool:
        """Whether an expression is a whole number, whose hash is the same in every process."""
        if isinstance(node, ast.Constant):
            return isinstance(node.value, int | float)
        if isinstance(node, ast.BinOp):
            return self.is_number(node.left) and self.is_number(node.right)
        if isinstance(node, ast.UnaryOp):
            return self.is_number(node.operand)
        if isinstance(node, ast.Name):  # counts, in a comprehension or a loop
            found = self.variable(node)
            looped = self.items_of[found] if found else []
            return bool(looped) and all(self.called(each) == BUILTIN + "range" for each in looped)
        if isinstance(node, ast.Attribute):
            return node.attr in ("st_size", "ndim")
        return self.called(node) in {f"{BUILTIN}{name}" for name in ("len", "int", "round", "ord")}

    def set_of(self, node: ast.AST, seen: frozenset[ast.AST] = frozenset()) -> str:
        """Return "numbers" or "others" for an expression that is a set, by its items, and "" for anything else."""
        if node in seen:
            return ""
        seen = seen | {node}
        if isinstance(node, ast.Set):
            return "numbers" if all(map(self.is_number, node.elts)) else "others"
        if isinstance(node, ast.SetComp):
            return "numbers" if self.is_number(node.elt) else "others"
        if isinstance(node, ast.IfExp):
            return self.set_of(node.body, seen) and self.set_of(node.orelse, seen)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
            left, right = (self.set_of(each, seen) or _view(each) for each in (node.left, node.right))
            if not (left or right) or (not left and isinstance(node.op, ast.Sub)):
                return ""
            if isinstance(node.op, ast.Sub):
                return left
            either = isinstance(node.op, ast.BitAnd) and "numbers" in (left, right)
            return "numbers" if either or left == right == "numbers" else "others"
        if isinstance(node, ast.Call):
            if self.called(node) in (BUILTIN + "set", BUILTIN + "frozenset"):
                return "numbers" if node.args and self._counts(node.args[0], seen) else "others"
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("difference", "copy", "intersection"):
                return self.set_of(node.func.value, seen)
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("union", "symmetric_difference"):
                return self.set_of(node.func.value, seen) and "others"
            return ""
        found = self.variable(node)
        if found is None or found in self.imported:
            return ""
        annotation = self.annotated.get(found, "").removeprefix("typing.")
        if annotation.lower().removeprefix("abstract").startswith(("set[", "frozenset[")) or annotation == "set":
            return "numbers" if annotation.endswith("[int]") else "others"
        kinds = {self.set_of(value, seen) if value else "" for value in self.assigned[found]}
        if not kinds or "" in kinds:
            return ""
        grown = any(method_of(self.parent[use]) in ("add", "update") for use in self.loaded[found])
        return "others" if grown or "others" in kinds else "numbers"

    def _counts(self, node: ast.AST, seen: frozenset[ast.AST]) -> bool:
        if isinstance(node, ast.GeneratorExp | ast.ListComp):
            return self.is_number(node.elt)
        if isinstance(node, ast.List | ast.Tuple):
            return bool(node.elts) and all(map(self.is_number, node.elts))
        if self.called(node) == BUILTIN + "map" and isinstance(node, ast.Call):
            return self.name(node.args[0]) in (BUILTIN + "int", BUILTIN + "len")
        return self.called(node) == BUILTIN + "range" or self.set_of(node, seen) == "numbers"


def is_single(target: ast.AST) -> bool:
    """Whether an assignment takes the one item that there is, as `(path,) = ...` does."""
    return isinstance(target, ast.Tuple | ast.List) and len(target.elts) == 1 and isinstance(target.elts[0], ast.Name)


def _view(node: ast.AST) -> str:
    return "others" if isinstance(node, ast.Call) and method_of(node.func) == "keys" else ""


def _is_dict(node: ast.AST) -> bool:
    return isinstance(node, ast.Dict | ast.DictComp) or (
        isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2].lower().endswith(("dict", "counter"))
    )
