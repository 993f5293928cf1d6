"""The simulator's functions for one site: what is known for good is worked out once, loops of known length written out.

Interpreted, half of `request_features` and `advance` goes into asking again and again what never changes: how many
links there are, which placements are remote, which record stands at which number. So their source is read, not
written a second time, and evaluated as far as it can be (partial evaluation): names, fields and branches that follow
from known values disappear, what is left are the same operations on the same numbers in the same order.
"""

from __future__ import annotations

import ast
import copy
import inspect
import operator
import textwrap
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.BitAnd: operator.and_, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_PLAIN = (bool, int, float)


class VariableError(Exception):
    """An expression whose value is not known beforehand."""


def specialised(
    function: Callable[..., Any], constants: Mapping[str, Any], objects: Mapping[str, Any]
) -> Callable[..., None]:
    """A function with some of its parameters fixed, which takes the others by position.

    Its source may hold assignments, ``if``, ``while`` and ``for`` over ranges, and returns nothing; what does not
    change is found by following it from top to bottom.

    Args:
        function: of a module, not compiled.
        constants: parameters of which nothing ever changes: numbers, records of numbers, or lists of such records.
        objects: parameters whose fields change, but not which object they are; nor which objects such a list holds.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    names: dict[str, Any] = dict(function.__globals__)
    parameters = [a.arg for a in tree.args.args]
    own = {*parameters, *_assigned(tree.body)}
    code = _Specialiser(names, own, constants, objects).block(tree.body)
    free = [ast.arg(name) for name in parameters if name not in constants and name not in objects]
    # Objects are defaults of parameters: a local name is read faster than a global one.
    objects_read = [name for name in names if name.startswith("object_")]
    free += [ast.arg(name) for name in objects_read]
    defaults: list[ast.expr] = [ast.Name(name, ast.Load()) for name in objects_read]
    tree.args = ast.arguments([], free, None, [], [], None, defaults)
    tree.body, tree.returns = code or [ast.Pass()], None
    module = ast.fix_missing_locations(ast.Module([tree], []))
    exec(compile(module, f"<{function.__name__} of a site>", "exec", dont_inherit=True), names)
    return names[function.__name__]


class _Specialiser(ast.NodeTransformer):
    """Follows the statements of a function; ``_known`` are the names whose values are known at this point."""

    def __init__(
        self, names: dict[str, Any], own: set[str], constants: Mapping[str, Any], objects: Mapping[str, Any]
    ) -> None:  # fmt: skip
        self._own = own  # its parameters and variables
        self._names = names  # of the finished function: its module's, and the objects that are read
        self._known: dict[str, Any] = {**constants, **objects}
        kept = [item for value in constants.values() for item in _with_items(value)]
        self._constant = {id(item) for item in kept}
        self._maybe = 0  # depth of branches and loops that may not be gone through

    # What is known.

    def _value(self, node: ast.expr) -> Any:
        """The value of an expression, if it is known."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.Attribute):
            return self._field(self._value(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            items = self._value(node.value)
            at = self._value(node.slice)
            if id(items) in self._constant or not isinstance(items[at], _PLAIN):
                return items[at]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._value(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return _BINARY[type(node.op)](self._value(node.left), self._value(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _BINARY:
            return _BINARY[type(node.ops[0])](self._value(node.left), self._value(node.comparators[0]))
        raise VariableError

    def _named(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        value = None if name in self._own else self._names.get(name)
        if isinstance(value, (*_PLAIN, ModuleType)):
            return value
        raise VariableError

    def _field(self, owner: Any, name: str) -> Any:
        if id(owner) in self._constant or isinstance(owner, ModuleType):
            return getattr(owner, name)
        raise VariableError

    def visit(self, node: ast.AST) -> Any:
        """An expression with everything that is known put in."""
        if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            try:
                return self._literal(self._value(node))
            except VariableError:
                pass
        if isinstance(node, ast.IfExp):
            try:
                return self.visit(node.body if self._value(node.test) else node.orelse)
            except VariableError:
                pass
        return self.generic_visit(node)

    def _literal(self, value: Any) -> ast.expr:
        if isinstance(value, _PLAIN):
            return ast.Constant(value)
        name = f"object_{id(value)}"
        self._names[name] = value  # which keeps it, so its number stays its own
        return ast.Name(name, ast.Load())

    # Statements.

    def block(self, statements: Iterable[ast.stmt]) -> list[ast.stmt]:
        """What is left of statements, one after the other."""
        return [left for statement in statements for left in self._statement(statement)]

    def _statement(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return []  # the docstring
        if isinstance(node, ast.Assign):
            return self._assign(node)
        if isinstance(node, ast.AugAssign):
            return self._change(node)
        if isinstance(node, ast.If):
            return self._branch(node)
        if isinstance(node, ast.For):
            return self._loop(node)
        if isinstance(node, ast.While):
            return self._perhaps(node)
        raise NotImplementedError(f"{type(node).__name__} in line {node.lineno} of a function for a site")

    def _assign(self, node: ast.Assign) -> list[ast.stmt]:
        pairs = _pairs(node)
        if pairs is not None and not self._maybe:
            try:
                values = [self._value(value) for _, value in pairs]
            except VariableError:
                pass
            else:
                self._known.update({name: value for (name, _), value in zip(pairs, values, strict=True)})
                return []
        return [self._written(node)]

    def _written(self, node: ast.Assign) -> ast.stmt:
        left: Any = self.generic_visit(node)
        for name in _assigned([node]):
            self._known.pop(name, None)
        return left

    def _change(self, node: ast.AugAssign) -> list[ast.stmt]:
        if not isinstance(node.target, ast.Name):
            left: Any = self.generic_visit(node)
            return [left]
        before = ast.Name(node.target.id, ast.Load())
        return self._assign(
            ast.Assign([node.target], ast.BinOp(before, node.op, node.value), lineno=node.lineno)
        )

    def _branch(self, node: ast.If) -> list[ast.stmt]:
        try:
            return self.block(node.body if self._value(node.test) else node.orelse)
        except VariableError:
            return self._perhaps(node)

    def _loop(self, node: ast.For) -> list[ast.stmt]:
        assert isinstance(node.target, ast.Name)
        assert isinstance(node.iter, ast.Call)
        try:
            numbers = range(*[self._value(a) for a in node.iter.args])
        except VariableError:
            return self._perhaps(node)
        left = []
        for number in numbers:
            self._known[node.target.id] = number
            left += self.block(copy.deepcopy(node.body))  # it is changed where it stands
        return left

    def _perhaps(self, node: ast.If | ast.While | ast.For) -> list[ast.stmt]:
        """Of what is assigned in a branch or loop that may not be gone through, nothing is known from there on."""
        left: list[ast.stmt] = []
        for name in _assigned([*node.body, *node.orelse]) & self._known.keys():
            left.append(ast.Assign([ast.Name(name, ast.Store())], self._literal(self._known.pop(name))))
        for part in ("test", "iter"):
            if hasattr(node, part):
                setattr(node, part, self.visit(getattr(node, part)))
        self._maybe += 1
        node.body, node.orelse = self.block(node.body), self.block(node.orelse)
        self._maybe -= 1
        return [*left, node]


def _with_items(value: Any) -> list[Any]:
    return [value, *value] if isinstance(value, list) else [value]


def _assigned(statements: list[ast.stmt]) -> set[str]:
    nodes = [node for statement in statements for node in ast.walk(statement)]
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _pairs(node: ast.Assign) -> list[tuple[str, ast.expr]] | None:
    """Names and expressions of an assignment to names alone."""
    target, value = node.targets[0], node.value
    both = (
        (target.elts, value.elts) if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) else None
    )
    targets, values = both or ([target], [value])
    if len(node.targets) > 1 or len(targets) != len(values):
        return None
    pairs = [(t.id, v) for t, v in zip(targets, values, strict=True) if isinstance(t, ast.Name)]
    return pairs if len(pairs) == len(targets) else None
