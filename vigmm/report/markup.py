"""HTML that cannot be broken by what it says: text is escaped unless it is `Html` already."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["Html", "as_json", "tag", "true_minus"]

_HYPHEN = re.compile(r"(?:(?<![\w.)\]-])|(?<=\de))-(?=\d)")
_EMPTY = ("img", "br", "input", "meta", "link")


class Html(str):
    """A piece of markup. Any other string is text, and `tag` escapes it."""

    __slots__ = ()


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element.

    Args:
        name: such as ``p``.
        children: markup, text, or iterables of both; None is left out.
        attributes: by name; a trailing underscore is dropped, others become hyphens. None and False leave the
            attribute out, True gives it no value.

    Example:
        >>> tag("p", "a < b", tag("b", "c"), class_="note", aria_label='"x"')
        '<p class="note" aria-label="&quot;x&quot;">a &lt; b<b>c</b></p>'
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _EMPTY:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{''.join(_flat(children))}</{name}>")


def as_json(value: Any) -> str:
    r"""JSON that may stand inside a script element: no tag or comment can begin or end in it.

    Example:
        >>> as_json({"name": "</script><!--"})
        '{"name":"\\u003c/script\\u003e\\u003c!--"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def true_minus(text: str) -> str:
    """The hyphens before numbers as minus signs.

    Example:
        >>> true_minus("-1.5 to -0.5, log-normal, 1e-9")
        '−1.5 to −0.5, log-normal, 1e−9'
    """
    return _HYPHEN.sub("−", text)


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'


def _flat(children: Iterable[Any]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str):
            yield html.escape(child, quote=False)
        else:
            yield from _flat(child)
