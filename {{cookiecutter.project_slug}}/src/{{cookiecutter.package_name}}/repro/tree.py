"""Sums in a fixed order. Adding floating-point numbers is not associative: the bits depend on what is added to what.

The shards of a batch are the leaves of a binary tree whose shape follows from their number alone. Which process holds
which leaves decides where a sum is computed, and never what is added to what; so it is the same for any number of
processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

Span = tuple[int, int]  # the leaves of a node: from the first one to before the second


def children(span: Span) -> tuple[Span, Span]:
    """Split a node: the left one has as many leaves as the largest power of two that leaves some for the right one."""
    low, high = span
    middle = low + 2 ** ((high - low - 1).bit_length() - 1)
    return (low, middle), (middle, high)


def block(leaves: int, world: int, rank: int) -> Span:
    """Say which leaves a process holds: consecutive ones, as many as the others do, or one more."""
    each, more = divmod(leaves, world)
    low = rank * each + min(rank, more)
    return low, low + each + (rank < more)


def nodes(root: Span, held: Span) -> list[Span]:
    """List the largest nodes of a tree all of whose leaves are held, in order; there are few."""
    if held[0] <= root[0] and root[1] <= held[1]:
        return [root]
    if held[1] <= root[0] or root[1] <= held[0]:
        return []
    left, right = children(root)
    return nodes(left, held) + nodes(right, held)


def total(span: Span, find: Callable[[Span], T | None], add: Callable[[T, T], T]) -> T:
    """Sum up a node, from the left.

    Args:
        span: of the node.
        find: gives a node's sum where it is known, as that of every single leaf must be; else None.
        add: puts two sums together.
    """
    known = find(span)
    if known is not None:
        return known
    left, right = children(span)
    return add(total(left, find, add), total(right, find, add))
