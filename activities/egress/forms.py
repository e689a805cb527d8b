"""How a value looks in other clothes: what is looked for, and how it is written where it goes."""

import base64
import html
import json
from collections.abc import Mapping
from urllib.parse import quote

from activities.egress.replacing import Texts

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_IN_JSON = ("", "<>&", "<>&'", "<>&='", "<>&'+`", "<>&'+`\"")
"""What programs escape in a text of JSON besides what has to be: Go, Rails and PHP, Gson, .NET."""
_IN_ADDRESS = (
    *("", "/", ":", "/:", "*", "!*()", "!'()*", "$&+=:@", "$&+,/:;=@", "!$&'()*+,;=:@/?", "!#$&'()*+,/:;=?@"),
    *("!$%&()*+,-./:;=?@[\\]^_`{|}", "!$%&'()*+,-./:;=@[\\]|", "!$%&'()*+,-./:;=@[\\]^|"),
)
"""What programs leave as it is in an address: Python, Java, .NET, Go, JavaScript, browsers in a query and in a path."""
_IN_HTML: tuple[dict[str, str], ...] = (
    {},
    {'"': "&quot;"},
    {'"': "&quot;", "'": "&#x27;"},
    {'"': "&quot;", "'": "&#39;"},
    {'"': "&quot;", "'": "&#039;"},
    {'"': "&quot;", "'": "&apos;"},
    {'"': "&#34;", "'": "&#39;"},
    {'"': "&#34;", "'": "&#39;", "+": "&#43;"},
    {'"': "&quot;", "'": "&#x27;", "+": "&#x2B;"},
)
"""The same of quotes and `+` in HTML and XML: Python, PHP, Jinja, Go, .NET."""


def forms(value: str) -> set[bytes]:
    """A value as it is, and in the encodings that programs put it into."""
    raw = value.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(), *_escaped(value)}
    for text in _base64(raw):
        # In an address it is escaped once more.
        found |= {text, text.translate(_URL_SAFE), quote(text, safe="").encode()}
        found |= {text.replace(b"/", b"\\/"), text.replace(b"+", b"\\u002B")}
    return found


def _escaped(value: str) -> set[bytes]:
    quoted = json.dumps(value)[1:-1]
    every = "".join(f"%{byte:02X}" for byte in value.encode())
    texts = {
        quoted,
        quoted.replace("/", "\\/"),
        json.dumps(quoted)[1:-1],
        every,
        every.lower(),
    }
    for marks in _IN_JSON:
        for shape in ("\\u%04x", "\\u%04X"):
            escaped = quoted.translate({ord(mark): shape % ord(mark) for mark in marks if mark != '"'})
            if '"' in marks:
                escaped = escaped.replace('\\"', shape % ord('"'))
            texts |= {escaped, escaped.replace("/", "\\/")}
    for marks in _IN_HTML:
        texts.add(html.escape(value, quote=False).translate(str.maketrans(marks)))
    for safe in _IN_ADDRESS:
        percent = quote(value, safe=safe)
        for text in (percent, percent.replace("~", "%7E")):
            texts |= {text, text.replace("%20", "+"), "%".join(_lowered(text))}
    return {text.encode() for text in texts}


def _lowered(percent: str) -> list[str]:
    first, *rest = percent.split("%")
    return [first, *(part[:2].lower() + part[2:] for part in rest)]


def _base64(raw: bytes) -> set[bytes]:
    """Alone, and within something longer: what of its letters does not depend on what stands beside it."""
    alone = base64.b64encode(raw)
    found = {alone, alone.rstrip(b"=")}
    for before in range(3):
        bits = 8 * (before + len(raw))
        encoded = base64.b64encode(b"\0" * before + raw)
        found.add(encoded[-(-8 * before // 6) : bits // 6])
    return found


def hidden(values: Mapping[str, str]) -> Texts:
    """Every form of values, replaced by what each stands for.

    Args:
        values: A replacement for each value.
    """
    return Texts({form: text.encode() for value, text in values.items() for form in forms(value)})


def in_address(value: str) -> bytes:
    """As it stands in the path or the query of a request."""
    return quote(value, safe=":").encode()


def in_body(value: str, content_type: bytes) -> bytes:
    """As it stands within a body of this type."""
    kind = content_type.split(b";")[0].strip().lower()
    if kind == b"application/x-www-form-urlencoded":
        return quote(value, safe="").encode()
    if kind.endswith((b"/json", b"+json", b"/x-ndjson", b"/json-seq")):
        return json.dumps(value)[1:-1].encode()
    return value.encode()
