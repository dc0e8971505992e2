"""`/docs`: the OpenAPI document as a page for people. Self-contained: nothing is fetched, no script runs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

HTML = b"text/html; charset=utf-8"
POLICY = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
)

_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_SHOWN_CATEGORIES = 12
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--faint:#5b6570;--line:#d9dee3;--ground:#fff;--box:#f4f6f8;--mark:#0b5c8a}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--faint:#9aa4ae;--line:#343b42;--ground:#14181c;--box:#1d2329;--mark:#7cc4f0}}
*{box-sizing:border-box}body{margin:0 auto;max-width:62rem;padding:2rem 1.25rem 4rem;background:var(--ground);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif}h1{margin:0;font-size:1.6rem}h2{margin:2.5rem 0 .5rem;font-size:1.2rem}
p{margin:.4rem 0;max-width:46rem}.faint{color:var(--faint)}a{color:var(--mark)}code,pre{font:.875rem/1.45 ui-monospace,monospace}
.wide{overflow-x:auto}table{width:100%;border-collapse:collapse}th,td{padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line);
text-align:left;vertical-align:top}th{font-weight:600;color:var(--faint)}nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem}
details{border-bottom:1px solid var(--line)}summary{padding:.5rem 0;cursor:pointer}summary code{margin-right:.75rem;color:var(--mark);overflow-wrap:anywhere}
pre{margin:.25rem 0 1rem;padding:.75rem;background:var(--box);border-radius:.3rem;white-space:pre-wrap;overflow-wrap:anywhere}
"""


def page(document: Mapping[str, Any], host: str | None) -> bytes:
    """The document in HTML; `host` is whom the reader asked, for the examples."""
    origin = f"http://{host}" if host is not None and _HOST.fullmatch(host) else "http://localhost:8080"
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])}</h1><p>{escape(info['summary'])}.</p><p class=faint>{escape(info['description'])}</p>",
        "<nav><a href='/openapi.json'>OpenAPI document</a>",
        *(f"<a href='#{_anchor(tag)}'>{escape(tag)}</a>" for tag in _tags(document)),
        "</nav>",
        *_columns(document["components"]["schemas"]["Row"]),
    ]
    for tag in _tags(document):
        parts.append(f"<h2 id='{_anchor(tag)}'>{escape(tag)}</h2>")
        for path, method, operation in _operations(document, tag):
            parts.extend(_operation(document, origin, path, method, operation))
    return "".join(parts).encode()


def curls(document: Mapping[str, Any], origin: str, path: str, method: str, operation: Mapping[str, Any]) -> list[str]:
    """One command for each example of an operation."""
    for parameter in operation.get("parameters", ()):
        path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    command = f"curl {shlex.quote(origin + path)}"
    if "security" in document or "security" in operation:
        command += ' -H "Authorization: Bearer $TRUELINE_TOKEN"'
    if method == "get":
        return [command]
    found = []
    for media, content in operation["requestBody"]["content"].items():
        shown = [one["value"] for one in content.get("examples", {}).values()] or [content["example"]]
        for value in shown:
            body = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            found.append(f"{command} -H 'Content-Type: {media}' --data-binary {shlex.quote(body)}")
    return found


def _tags(document: Mapping[str, Any]) -> list[str]:
    return [tag["name"] for tag in document["tags"]]


def _operations(document: Mapping[str, Any], tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield path, method, operation


def _operation(
    document: Mapping[str, Any], origin: str, path: str, method: str, operation: Mapping[str, Any]
) -> Iterator[str]:
    opened = " open" if method == "post" else ""
    yield f"<details{opened}><summary><code>{method.upper()} {escape(path)}</code>{escape(operation['summary'])}</summary>"
    for command in curls(document, origin, path, method, operation):
        yield f"<pre>{escape(command)}</pre>"
    yield "</details>"


def _columns(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>Columns</h2><p class=faint>{escape(row['description'])}</p><div class=wide><table>"
    yield "<tr><th>name<th>type<th>null<th>values<th>example</tr>"
    shown = row["examples"][0]
    for name in row["required"]:
        schema = row["properties"][name]
        kind, nullable, values = _facts(schema)
        marked = " <span class=faint>personal</span>" if schema.get("x-personal") else ""
        yield (
            f"<tr><td><code>{escape(name)}</code>{marked}<td>{escape(kind)}<td>{'yes' if nullable else 'no'}"
            f"<td>{escape(values)}<td><code>{escape(json.dumps(shown[name], ensure_ascii=False))}</code></tr>"
        )
    yield "</table></div>"


def _facts(schema: Mapping[str, Any]) -> tuple[str, bool, str]:
    """Type, nullability and values of a column in words."""
    open_set = schema.get("anyOf")
    typed = open_set[1] if open_set else schema
    kind = typed["type"]
    nullable = isinstance(kind, list)
    word = kind[0] if nullable else kind
    known = open_set[0]["enum"] if open_set else schema.get("enum")
    if known:
        names = [one for one in known if one is not None]
        more = f" and {len(names) - _SHOWN_CATEGORIES} more" if len(names) > _SHOWN_CATEGORIES else ""
        values = ", ".join(names[:_SHOWN_CATEGORIES]) + more + ("; others are counted" if open_set else "")
    else:
        limits = schema.get("x-seen") or {key: schema[key] for key in ("minimum", "maximum") if key in schema}
        values = (
            " to ".join(f"{limits[key]:g}" if key in limits else "…" for key in ("minimum", "maximum"))
            if limits
            else ""
        )
        values += "; others are counted" if "x-seen" in schema else ""
    form = typed.get("format")
    return f"{word} ({form})" if form else str(word), nullable, values


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())
