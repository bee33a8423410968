"""A Python file, parsed: what its names stand for, where a variable is assigned and used, where a value goes.

Nothing is imported or run. What cannot be known by reading has the name "", and no values.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

Scope = ast.AST
Place = tuple[ast.AST, str]  # an expression that breaks a rule, and what it does
Variable = tuple[Scope, str]  # where it lives, and its name; `self.x` lives in its class
SCOPES = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
BUILTIN = "builtins."


class Source:
    """A parsed file.

    Args:
        content: its bytes.

    Raises:
        SyntaxError, ValueError: it is no Python.
    """

    def __init__(self, content: bytes) -> None:
        self.tree = ast.parse(content)
        self.parent: dict[ast.AST, ast.AST] = {}
        self.imported: dict[Variable, str] = {}  # to the dotted name
        self.assigned: dict[Variable, list[ast.AST | None]] = defaultdict(list)  # its values; None: not known
        self.loaded: dict[Variable, list[ast.AST]] = defaultdict(list)
        self.stored: dict[Variable, list[ast.AST]] = defaultdict(list)
        self.items_of: dict[Variable, list[ast.expr]] = defaultdict(list)  # what a loop's variable is an item of
        self.annotated: dict[Variable, str] = {}
        self._globals: set[Variable] = set()
        self._names: dict[ast.AST, str] = {}
        self.nodes = list(ast.walk(self.tree))
        for node in self.nodes:
            for child in ast.iter_child_nodes(node):
                self.parent[child] = node
        for node in self.nodes:
            if isinstance(node, ast.Global):
                self._globals |= {(self.scope(node), name) for name in node.names}
        for node in self.nodes:
            self._bind(node)
        for node in self.nodes:
            loads = isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
            if loads and (found := self.variable(node)):
                self.loaded[found].append(node)

    # --- scopes and variables

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """List what a node lies in, the innermost first."""
        while found := self.parent.get(node):
            yield found
            node = found

    def scope(self, node: ast.AST) -> Scope:
        """Return the function, class or module that a node lies in; defaults and decorators lie outside of theirs."""
        below = node
        for found in self.above(node):
            if isinstance(found, ast.Module | ast.ClassDef):
                return found
            if isinstance(found, FUNCTIONS):
                is_argument = isinstance(node, ast.arg) and isinstance(below, ast.arguments)
                if is_argument or below is found.body or below in as_list(found.body):
                    return found
            below = found
        return self.tree

    def function(self, node: ast.AST) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None:
        """Return the function in whose body a node lies, or None for what runs when the file is imported."""
        while not isinstance(node, ast.Module):
            node = self.scope(node)
            if isinstance(node, FUNCTIONS):
                return node
        return None

    def variable(self, node: ast.AST) -> Variable | None:
        """Return the variable that a name, or `self.name`, stands for; None where nothing in the file binds it."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            classes = (found for found in self.above(node) if isinstance(found, ast.ClassDef))
            found = next(classes, None)
            return None if found is None else (found, node.attr)
        if not isinstance(node, ast.Name):
            return None
        scope, inner = self.scope(node), True
        while True:
            key = (scope, node.id)
            if key in self._globals:
                return (self.tree, node.id)
            bound = key in self.assigned or key in self.imported
            if bound and (inner or not isinstance(scope, ast.ClassDef)):
                return key
            if isinstance(scope, ast.Module):
                return None
            scope, inner = self.scope(scope), False

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                self.imported[self._own(node, alias.asname or name)] = name
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                self.imported[self._own(node, alias.asname or alias.name)] = f"{base}.{alias.name}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.assigned[self._own(node, node.name)].append(None)
        elif isinstance(node, ast.arg):
            key = (self.scope(node), node.arg)
            self.assigned[key].append(None)
            self._annotate(key, node.annotation)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            self.assigned[self._own(node, node.name)].append(None)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            stored = self._own(node, node.id) if isinstance(node, ast.Name) else self.variable(node)
            if stored is None:
                return
            self.stored[stored].append(node)
            parent = self.parent[node]
            if isinstance(parent, ast.For | ast.AsyncFor | ast.comprehension):
                self.items_of[stored].append(parent.iter)
            if isinstance(parent, ast.AnnAssign) and parent.target is node:
                self._annotate(stored, parent.annotation)
            if isinstance(parent, ast.Assign | ast.AnnAssign | ast.NamedExpr):
                if parent.value is not None:
                    self.assigned[stored].append(parent.value)
            elif isinstance(parent, ast.AugAssign):
                self.assigned[stored]  # bound, its kind follows from the other assignments
            else:
                self.assigned[stored].append(None)

    def _own(self, node: ast.AST, name: str) -> Variable:
        scope = self.scope(node)
        return (self.tree, name) if (scope, name) in self._globals else (scope, name)

    def _annotate(self, key: Variable, annotation: ast.AST | None) -> None:
        if annotation is not None:
            self.annotated[key] = ast.unparse(annotation).strip("'\"")

    def values(self, node: ast.AST) -> list[ast.AST | None]:
        """List what a variable is assigned anywhere in the file; None stands for what is not known."""
        found = self.variable(node)
        return [None] if found is None or found in self.imported else self.assigned[found] or [None]

    # --- names

    def name(self, node: ast.AST) -> str:
        """Return the dotted name that an expression stands for, as `numpy.random.default_rng`; "" for any other."""
        if node not in self._names:
            self._names[node] = ""  # should it be assigned to itself
            self._names[node] = self._name(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        return self._names[node]

    def _name(self, node: ast.Name | ast.Attribute) -> str:
        if isinstance(node, ast.Attribute) and (base := self.name(node.value)):
            return f"{base}.{node.attr}"
        found = self.variable(node)
        if found is None:
            return BUILTIN + node.id if isinstance(node, ast.Name) else ""
        if found in self.imported and found not in self.assigned:
            return self.imported[found]
        values = self.assigned[found]  # another name for it, as in `now = time.time`
        return self.name(values[0]) if len(values) == 1 and values[0] else ""

    def called(self, node: ast.AST) -> str:
        """Return the dotted name of what a call calls, or ""."""
        return self.name(node.func) if isinstance(node, ast.Call) else ""

    @cached_property
    def calls(self) -> list[ast.Call]:
        """All calls of the file."""
        return [node for node in self.nodes if isinstance(node, ast.Call)]

    def in_annotation(self, node: ast.AST) -> bool:
        """Whether an expression is, or lies in, an annotation."""
        for above in self.above(node):
            if isinstance(above, ast.stmt | ast.arg):
                return node in (getattr(above, "annotation", None), getattr(above, "returns", None))
            node = above
        return False

    def mentions(self, names: frozenset[str]) -> Iterator[tuple[ast.AST, ast.Call | None, str]]:
        """List where the code uses one of the dotted names: the expression, its call where it is called, and a text."""
        for node in self.nodes:
            if (
                isinstance(node, ast.Name | ast.Attribute)
                and isinstance(node.ctx, ast.Load)
                and self.name(node) in names
            ):
                parent = self.parent[node]
                if isinstance(parent, ast.Call) and parent.func is node:
                    yield parent, parent, calls(parent)
                elif not (isinstance(parent, ast.Attribute | ast.Assign) or self.in_annotation(node)):
                    yield node, None, f"uses {ast.unparse(node)}"


def as_list(value: object) -> list[ast.AST]:
    """Return a list as it is, and anything else as a list of it."""
    return value if isinstance(value, list) else [value]  # type: ignore[list-item]


def words(*names: str) -> frozenset[str]:
    """Return dotted names of some modules, given as "module: name name"."""
    pairs = (each.split(": ") for each in names)
    return frozenset(f"{module}.{name}" for module, listed in pairs for name in listed.split())


def methods(*listed: str) -> frozenset[str]:
    """Return names that are written in some texts."""
    return frozenset(name for each in listed for name in each.split())


def calls(call: ast.Call) -> str:
    """Say that something is called."""
    return f"calls {ast.unparse(call.func)}()"


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Return the value of a keyword of a call."""
    return next((each.value for each in call.keywords if each.arg == name), None)


def method_of(node: ast.AST | None) -> str:
    """Return the last name of an attribute, as of a call's function, or ""."""
    return node.attr if isinstance(node, ast.Attribute) else ""


def text_of(node: ast.AST | None) -> str:
    """Return the text that an expression is, as it is written, or ""."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def is_constant(node: ast.AST | None, *values: object) -> bool:
    """Whether an expression is one of some constants, as it is written."""
    return isinstance(node, ast.Constant) and any(node.value is value or node.value == value for value in values)


def unseeded(call: ast.Call) -> bool:
    """Whether a call that takes a seed is given none; `*arguments` may hold one."""
    given = [*call.args, *(each.value for each in call.keywords if each.arg != "device")]
    return not given or all(isinstance(each, ast.Constant) and each.value is None for each in given)
