"""The tables of the configuration reference, in Markdown, written from the JSON Schema."""

from __future__ import annotations

from typing import Any

from vigmm.config.load import inline

Schema = dict[str, Any]


def tables(schema: Schema) -> str:
    """The keys of a file, then those of every section and row in the order of their use."""
    parts = ["## The file", _table(schema, schema)]
    for name, places in _order(schema).items():
        definition = schema["$defs"][name]
        where = ", ".join(f"`{place}`" for place in places)
        kind = _kind(schema, name)
        row = "" if kind is None else f" (`kind: {kind}`)"
        parts += [f"## {name}", f"In {where}{row}. {definition['description']}", _table(definition, schema)]
    return "\n\n".join(parts) + "\n"


def _kind(schema: Schema, name: str) -> str | None:
    """The name of the row that a definition is, if it is one."""
    kind: str | None = schema["$defs"][name]["properties"].get("kind", {}).get("const")
    return kind


def _order(schema: Schema) -> dict[str, list[str]]:
    """Every definition in the order in which it is met, and the keys under which it stands."""
    found: dict[str, list[str]] = {}

    def walk(node: Schema, path: str) -> None:
        for key, value in node["properties"].items():
            at = f"{path}{key}"
            for name in _names(value):
                known = name in found
                if at not in found.setdefault(name, []):
                    found[name].append(at)
                if not known:
                    walk(schema["$defs"][name], f"{at}.")

    walk(schema, "")
    return found


def _names(value: Schema) -> list[str]:
    """The definitions that a value may be."""
    names = [value["$ref"].rpartition("/")[2]] if "$ref" in value else []
    for inner in [*value.get("anyOf", []), *([value["items"]] if "items" in value else [])]:
        names += [name for name in _names(inner) if name not in names]
    return names


def _table(node: Schema, schema: Schema) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, value in node["properties"].items():
        if "const" in value:
            continue
        default = f"`{inline(value['default'])}`" if "default" in value else ""
        if key in node.get("required", ()):
            default = "must be given"
        # That a section may be empty is said once, above.
        null = node is not schema or value.get("default", ...) is None or "null" in value["description"]
        cells = [f"`{key}`", _words(value, schema, null=null), default, value["description"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else "It has no keys of its own."


_WORDS = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "`null`",
}


def _words(value: Schema, schema: Schema, *, null: bool = True) -> str:
    """A type for people, with links to the sections that it may be."""
    if "anyOf" in value:
        choices = [one for one in value["anyOf"] if null or one != {"type": "null"}]
        rows = [one for one in choices if "$ref" in one and _kind(schema, _names(one)[0])]
        if rows:  # each is told by its section, and needs no second word
            choices = [one for one in choices if "enum" not in one]
        lists = [one for one in choices if rows and one.get("type") == "array"]
        words = [_words(one, schema) for one in choices if one not in lists]
        return " or ".join([*words, *(["a list of these"] if lists else [])])
    if "$ref" in value:
        (name,) = _names(value)
        kind = _kind(schema, name)
        return f"[{name if kind is None else f'`{kind}`'}](#{name.lower()})"
    if "enum" in value:
        return " or ".join(f"`{one}`" for one in value["enum"])
    if value.get("type") == "array":
        if "prefixItems" in value:
            return f"pair ({', '.join(_words(one, schema) for one in value['prefixItems'])})"
        return f"list of {_words(value['items'], schema)}"
    return _WORDS[value["type"]] if "type" in value else "given from Python"
