"""Markup that cannot be broken by what it holds: every plain string is escaped on its way in."""

from collections.abc import Iterable, Mapping
from html import escape

VOID = frozenset({"img", "input", "meta", "br", "hr"})
"""Elements without content and end tag."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(
    name: str,
    attributes: Mapping[str, str | float | bool | None],
    *children: str | None,
) -> Markup:
    """Return ``<name ...>children</name>``.

    Args:
        name: Of the element.
        attributes: Values are escaped; True stands for a bare attribute, False and None for none.
        children: Plain strings are escaped, :class:`Markup` stays, None is left out.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is True:
            parts.append(key)
        elif value is not None and value is not False:
            parts.append(f'{key}="{escape(str(value))}"')
    start = f"<{' '.join(parts)}>"
    return Markup(start if name in VOID else f"{start}{joined(children)}</{name}>")


def joined(children: Iterable[str | None]) -> Markup:
    """Return the children one after the other, plain strings escaped."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(child, quote=False)
            for child in children
            if child is not None
        )
    )


def section(name: str, title: str, *children: str | None) -> Markup:
    """Return a titled section of the page that a link ``#name`` leads to."""
    heading = element("h2", {"id": f"{name}-title"}, title)
    return element("section", {"id": name, "aria-labelledby": f"{name}-title"}, heading, *children)
