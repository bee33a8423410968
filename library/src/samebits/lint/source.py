"""A Python file, parsed: what its names stand for, and what directly surrounds an expression.

Nothing is run, and no value is followed from statement to statement: a name stands for what imports and assignments
bind to it, and it is sorted where the same function holds `sorted(name)` or `name.sort()`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator


def kinds(listed: str) -> tuple[type[ast.AST], ...]:
    """Return kinds of nodes."""
    return tuple(getattr(ast, name) for name in listed.split())


SETS = ("builtins.set", "builtins.frozenset")
FUNCTIONS = kinds("FunctionDef AsyncFunctionDef Lambda")
# Calls that give the same whatever the order of what they are given; that pass it on; that do the same in any order
ORDERLESS = r"builtins\.(sorted|set|frozenset|len|any|all|sum|min|max|bool|isinstance)|numpy\.(sort|unique)"
SURE = r"builtins\.(sorted|set|frozenset|len|any|all|bool|isinstance)"  # sums of rounded numbers are not
LISTING = r"builtins\.(list|tuple|iter|enumerate|map|filter|zip|reversed|next)|(itertools|numpy|random|torch)\.[\w.]+"
ANY_ORDER = r"add|discard|remove|update|is(subset|superset|disjoint)|union|intersection|difference"
# Calls, and a logger's methods, that only tell people something, and calls that prepare a text for it
SAYS = r"builtins\.print|warnings\.warn|sys\.std(err|out)\.write|tqdm\.tqdm\.write|click\.echo"
SAYING = r"debug|info|warning|error|exception|critical"
TEXTS = r"builtins\.(str|int|float|round|divmod|repr|format|abs|max|min|sum|len)|time\.strftime"
PARTS = kinds("BinOp UnaryOp JoinedStr FormattedValue Attribute Call Subscript Tuple")
# Where nobody asks for the order of the items, and where it is passed on
FREE = kinds("Compare If While Assert UnaryOp Expr Delete Set SetComp Attribute")
PASSING = kinds("Starred List Tuple IfExp BoolOp BinOp comprehension ListComp GeneratorExp")
HOW = {ast.For: "iterates", ast.comprehension: "iterates", ast.Starred: "unpacks", ast.YieldFrom: "unpacks"}


class Source:
    """A parsed file.

    Args:
        content: of the file.
        data: the folders of the project's data.
        is_training: whether it is that of the command that trains.
        strict: whether an order counts as used wherever it is not certain that it is not.
    """

    def __init__(
        self, content: bytes, data: Iterable[str] = ("data",), is_training: bool = False, strict: bool = False
    ) -> None:
        self.tree, self.strict = ast.parse(content), strict
        self.data, self.is_training = tuple(data), is_training
        self.nodes = list(ast.walk(self.tree))
        self.calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        self.parent = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self.stores = {node for node in self.nodes if isinstance(getattr(node, "ctx", None), ast.Store)}
        self._names: dict[ast.AST, str] = {}
        self._bound: dict[tuple[ast.AST, str], list[ast.AST | str]] = defaultdict(list)  # dotted names, for imports
        for node in self.nodes:
            self._bind(node)
        self.is_program = b"__main__" in content
        self.is_stage = any(self.name(node) == "samebits.stage" for node in self.nodes)  # of the pipeline
        sortings = [node for node in self.calls if self.called(node) in (*SETS, "builtins.sorted") and node.args]
        self._sorted = {(self.function(node), ast.unparse(node.args[0])) for node in sortings}
        sortings = [node for node in self.calls if method_of(node) == "sort"]
        self._sorted |= {(self.function(node), owner_of(node)) for node in sortings}

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """List what a node lies in, the innermost first."""
        while found := self.parent.get(node):
            yield found
            node = found

    def function(self, node: ast.AST) -> ast.AST | None:
        """Return the function that a node lies in, or None for what runs when the file is imported."""
        return next((each for each in self.above(node) if isinstance(each, FUNCTIONS)), None)

    def _bind(self, node: ast.AST) -> None:
        """Note what a node binds a name to: a dotted name, or a value, or the node itself where that is not known."""
        bound: dict[str, ast.AST | str] = {}
        parent = self.parent.get(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = f"{'.' * node.level}{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                name = alias.name if base or alias.asname else alias.name.partition(".")[0]
                bound[alias.asname or name] = base + name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.arg):
            bound[node.arg if isinstance(node, ast.arg) else node.name] = node
        elif isinstance(node, ast.Name) and node in self.stores and not isinstance(parent, ast.AugAssign):
            bound[node.id] = getattr(parent, "value", None) or node
        scope = next((each for each in self.above(node) if isinstance(each, (*FUNCTIONS, ast.ClassDef))), self.tree)
        for name, value in bound.items():
            self._bound[scope, name].append(value)

    def values(self, node: ast.AST) -> list[ast.AST | str]:
        """List what a name is bound to; a builtin where nothing in the file binds it."""
        if not isinstance(node, ast.Name):
            return []
        scopes = (each for each in self.above(node) if isinstance(each, (*FUNCTIONS, ast.Module)))
        builtin: list[ast.AST | str] = [f"builtins.{node.id}"]
        return next((self._bound[each, node.id] for each in scopes if (each, node.id) in self._bound), builtin)

    def name(self, node: ast.AST) -> str:
        """Return the dotted name that an expression stands for, as `numpy.random.default_rng`; "" for any other."""
        if node not in self._names:
            self._names[node] = ""  # should it be assigned to itself
            if isinstance(node, ast.Attribute) and (base := self.name(node.value)):
                self._names[node] = f"{base}.{node.attr}"
            elif len(values := set(self.values(node))) == 1:
                value = values.pop()
                self._names[node] = value if isinstance(value, str) else self.name(value)
        return self._names[node]

    def called(self, node: ast.AST) -> str:
        """Return the dotted name of what a call calls, or ""."""
        return self.name(node.func) if isinstance(node, ast.Call) else ""

    def mentions(self, names: str) -> Iterator[tuple[ast.AST, ast.Call | None, str]]:
        """List where the code uses one of the dotted names: the expression, its call where it is called, and a text."""
        for node in self.nodes:
            if node not in self.stores and re.fullmatch(names, self.name(node) or f".{getattr(node, 'attr', '')}"):
                parent = self.parent[node]
                if isinstance(parent, ast.Call) and parent.func is node:
                    yield parent, parent, calls(parent)
                elif not isinstance(parent, ast.Attribute | ast.Assign | ast.AnnAssign | ast.arg | ast.FunctionDef):
                    yield node, None, f"uses {ast.unparse(node)}"

    def said(self, node: ast.AST) -> bool:
        """Whether a value is directly printed, logged as text, or part of an error's message."""
        parent = self.parent[node]
        if isinstance(parent, ast.Call) and parent.func is not node:
            name, method = self.called(parent), method_of(parent)
            if re.fullmatch(SAYS, name) or re.fullmatch(SAYING, method) or isinstance(self.parent[parent], ast.Raise):
                return True
            return bool(re.fullmatch(TEXTS, name) or method in ("format", "join")) and self.said(parent)
        return isinstance(parent, ast.Expr | ast.Raise) or (isinstance(parent, PARTS) and self.said(parent))

    def is_sorted(self, node: ast.AST, name: str = "") -> bool:
        """Whether a name (that of the node, or another) is sorted, or made a set, anywhere in the node's function."""
        return (self.function(node), name or ast.unparse(node)) in self._sorted

    def ordered(self, node: ast.AST, how: str = "") -> str:
        """Say how the order of an expression's items is used (`how` is what is known of it), or "" where it is not."""
        parent = self.parent[node]
        how = how or HOW.get(type(parent), "")
        if isinstance(parent, ast.Attribute) and parent.attr == "pop" and not getattr(self.parent[parent], "args", [1]):
            return how or "pops from"
        if isinstance(parent, ast.Attribute) and how:  # of a list that was made of it: [*names].index(name)
            return how
        if isinstance(parent, FREE) or node in (getattr(parent, "test", None), *getattr(parent, "ifs", ())):
            return ""
        if isinstance(parent, PASSING):
            passes = isinstance(getattr(parent, "op", ast.Add()), ast.Add | ast.And | ast.Or)
            return self.ordered(parent, how) if passes else ""
        if isinstance(parent, ast.Call):
            name, method = self.called(parent), method_of(parent)
            if re.fullmatch(r"builtins\.(enumerate|zip)", name):
                return how or "lists"  # whoever takes these takes the order, too
            if (
                re.fullmatch(SURE if self.strict else ORDERLESS, name)
                or re.fullmatch(ANY_ORDER, method)
                or (method == "extend" and self.is_sorted(parent, owner_of(parent)))
            ):
                return ""
            if re.fullmatch(LISTING, name) or method in ("join", "fromkeys", "extend"):
                return self.ordered(parent, how or "lists")
        if isinstance(parent, ast.For):
            others = getattr(parent.target, "elts", [])[1:]  # but the first, as in `for root, folders, files in walk`
            is_free = bool(others) and all(map(self.is_sorted, others))
            is_free |= not self.strict and self.loop_free(parent)
            return "" if is_free and self.called(node) != "builtins.enumerate" else how
        if isinstance(parent, ast.Assign | ast.AnnAssign | ast.AugAssign):
            target = parent.targets[0] if isinstance(parent, ast.Assign) else parent.target
            if isinstance(target, ast.Tuple) and not isinstance(node, ast.Tuple):
                return "" if len(target.elts) == 1 else how or "unpacks"  # (path,) = takes the only one
            if self.strict and isinstance(target, ast.Attribute):  # what is not used here may be used elsewhere
                used = [self.parent[each] for each in self.nodes if getattr(each, "attr", "") == target.attr]
                sure = [isinstance(each, FREE) or re.fullmatch(SURE, self.called(each)) for each in used]
                return "" if sum(map(bool, sure)) == len(used) - 1 > 0 else "keeps"  # one is this assignment
            return "" if self.is_sorted(target) else how
        if self.strict and not isinstance(parent, ast.Subscript | ast.arguments):
            return "" if self.said(node) else how or "hands on"
        return "" if self.said(node) else how

    def loop_free(self, loop: ast.For) -> bool:
        """Whether a loop yields and returns nothing that it comes upon, and adds to nothing but what is sorted."""
        return not any(
            isinstance(each, ast.Yield | ast.YieldFrom)
            or (isinstance(each, ast.Return) and not is_plain(each.value))
            or (method_of(each) in ("append", "extend", "write") and not self.is_sorted(each, owner_of(each)))
            for each in ast.walk(ast.Module(loop.body, []))
        )

    def is_number(self, node: ast.AST) -> bool:
        """Whether an expression is surely a number, whose hash is the same in every process."""
        is_count = re.fullmatch(r"builtins\.(len|int|range)", self.called(node))
        return bool(is_count) or isinstance(getattr(node, "value", None), int | float)

    def is_set(self, node: ast.AST | str, depth: int = 0) -> bool:
        """Whether an expression, or what a name is bound to, is a set of something else than numbers."""
        if isinstance(node, str) or depth > 5:
            return False
        if isinstance(node, ast.Set | ast.SetComp) or self.called(node) in SETS:
            given = node.args[0] if isinstance(node, ast.Call) and node.args else node
            return not all(map(self.is_number, getattr(given, "elts", [getattr(given, "elt", given)])))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub):
            sides = [node.left] if isinstance(node.op, ast.Sub) else [node.left, node.right]
            return any(method_of(each) == "keys" or self.is_set(each, depth + 1) for each in sides)
        if method_of(node) in ("union", "difference", "intersection"):
            return self.is_set(node.func.value, depth + 1)  # type: ignore[attr-defined]
        if isinstance(node, ast.arg):
            return ast.unparse(node).partition(": ")[2].startswith(("set[str", "frozenset[str"))
        values = self.values(node)
        return bool(values) and all(self.is_set(each, depth + 1) for each in values)


def calls(call: ast.Call) -> str:
    """Say that something is called."""
    return f"calls {ast.unparse(call.func)}()"


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Return the value of a keyword of a call."""
    return next((each.value for each in call.keywords if each.arg == name), None)


def method_of(node: ast.AST | None) -> str:
    """Return the last name of an attribute that is called, or ""."""
    return node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""


def owner_of(call: ast.AST) -> str:
    """Return the text of that whose method is called."""
    return ast.unparse(call.func.value)  # type: ignore[attr-defined]


def text_of(node: ast.AST | None) -> str:
    """Return the text that an expression is, as it is written, or ""."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def is_plain(node: ast.AST | None, value: object = ...) -> bool:
    """Whether an expression is a constant, or a certain one; None is that of nothing."""
    return isinstance(node, ast.Constant | None) and value in (..., getattr(node, "value", None))
