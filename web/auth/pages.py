"""The few pages that a link in a message opens: made here, without script, image, font or any other request. Nothing of
them may be framed, kept, or told to another site by a referrer, since their addresses hold tokens."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from starlette.responses import HTMLResponse

from core.errors import CloudMetricsError

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #f6f7f9; --card: #ffffff; --line: #6b7480; --mark: #1d4ed8;
  --on-mark: #ffffff; --quiet: #4a5360; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --paper: #14171b; --card: #1d2126; --line: #8b95a1;
  --mark: #9dbdff; --on-mark: #0d1b3a; --quiet: #aeb7c2; --bad: #ffb4a8; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 3rem 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 26rem; margin: 0 auto; padding: 1.75rem; background: var(--card); border-radius: 0.75rem;
  box-shadow: 0 1px 3px rgb(0 0 0 / 20%); overflow-wrap: anywhere; }
.brand { margin: 0 0 1rem; font-weight: 600; color: var(--quiet); }
h1 { margin: 0 0 0.75rem; font-size: 1.4rem; line-height: 1.25; }
p { margin: 0 0 1rem; }
label { display: block; margin: 1rem 0 0.25rem; font-weight: 600; }
input { width: 100%; min-height: 2.75rem; padding: 0.5rem 0.75rem; font: inherit; color: inherit;
  background: transparent; border: 1px solid var(--line); border-radius: 0.5rem; }
input[aria-invalid="true"] { border-color: var(--bad); border-width: 2px; }
.hint { margin: 0.25rem 0 0; font-size: 0.9rem; color: var(--quiet); }
.alert { padding: 0.75rem; border: 1px solid var(--bad); border-radius: 0.5rem; color: var(--bad); }
button { width: 100%; min-height: 2.75rem; margin-top: 1.5rem; font: inherit; font-weight: 600; cursor: pointer;
  color: var(--on-mark); background: var(--mark); border: 0; border-radius: 0.5rem; }
a { color: var(--mark); }
.beside { margin: 1.25rem 0 0; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One input. `purpose` is HTML's autocomplete: by it browsers and password managers know what to fill in."""

    name: str
    label: str
    kind: str
    purpose: str
    hint: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """What a page asks, where it sends it, and what it sends along unseen. `beside`: another page, and its words."""

    action: str
    submit: str
    fields: Sequence[Field]
    hidden: Sequence[tuple[str, str]] = ()
    beside: tuple[str, str] | None = None


def told(title: str, *paragraphs: str, beside: tuple[str, str] | None = None, status: int = 200) -> HTMLResponse:
    """A page that tells something."""
    return _page(title, "".join(f"<p>{escape(text)}</p>" for text in paragraphs) + _link(beside), status)


def asked_for(
    title: str, form: Form, *paragraphs: str, refusal: CloudMetricsError | None = None, status: int = 200
) -> HTMLResponse:
    """A page with a form; `refusal`: why what was sent before was not taken."""
    parts = [f"<p>{escape(text)}</p>" for text in paragraphs]
    if refusal is not None:
        parts.append(f'<p class="alert" role="alert" id="alert">{escape(refusal.message)}</p>')
    inputs = "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in form.hidden)
    inputs += "".join(_input(field, refusal) for field in form.fields)
    parts.append(f'<form method="post" action="{form.action}">{inputs}<button>{escape(form.submit)}</button></form>')
    return _page(title, "".join(parts) + _link(form.beside), status)


def _link(beside: tuple[str, str] | None) -> str:
    return f'<p class="beside"><a href="{escape(beside[0])}">{escape(beside[1])}</a></p>' if beside else ""


def _input(field: Field, refusal: CloudMetricsError | None) -> str:
    is_wrong = refusal is not None and refusal.field == field.name
    described = [f"{field.name}-hint"] * bool(field.hint) + ["alert"] * is_wrong
    attributes = f'type="{field.kind}" id="{field.name}" name="{field.name}" autocomplete="{field.purpose}"'
    attributes += f' value="{escape(field.value)}"' if field.value else ""
    attributes += f' aria-describedby="{" ".join(described)}"' if described else ""
    attributes += ' aria-invalid="true" autofocus' if is_wrong else ""
    hint = f'<p class="hint" id="{field.name}-hint">{escape(field.hint)}</p>' if field.hint else ""
    return f'<label for="{field.name}">{escape(field.label)}</label><input {attributes}>{hint}'


def _page(title: str, body: str, status: int) -> HTMLResponse:
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · CloudMetrics</title><style>{_STYLE}</style></head>"
        f'<body><main><p class="brand">CloudMetrics</p><h1>{escape(title)}</h1>{body}</main></body></html>'
    )
    return HTMLResponse(html, status, HEADERS)
