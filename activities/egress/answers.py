"""What the proxy itself answers."""

import contextlib

import h11

from activities.egress.policy import Refused
from activities.egress.tls import Sink


async def say_no(http: h11.Connection, sink: Sink, refusal: Refused) -> None:
    """Say no in every place where a client may look: status line, header and body."""
    text = str(refusal)
    # A status line and a header take no other characters.
    line = "".join(mark if " " <= mark <= "~" else "?" for mark in text)[:200]
    body = f"{text}\n".encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        ("X-Hibernaut-Egress", line),
    ]
    if http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return
    head = h11.Response(status_code=int(refusal.status), reason=line.encode("ascii"), headers=headers)
    sink.write(http.send(head) or b"")
    # The answer to a HEAD has no body.
    with contextlib.suppress(h11.LocalProtocolError):
        for event in (h11.Data(data=body), h11.EndOfMessage()):
            sink.write(http.send(event) or b"")
    await sink.drain()
