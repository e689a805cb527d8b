"""Security in figures: attacks tried and stopped, what isolation costs beside plain Docker, what the proxy costs.

`make bench-security`; ARGS="--part proxy" measures one part and leaves the results of the others as they are;
ARGS=--quick does little of everything and writes nothing. Needs root beside a Docker daemon.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks import security_attacks, security_overhead, security_proxy
from benchmarks.report import RESULTS, machine

PARTS = ("attacks", "overhead", "proxy")
MEGABYTE = 1_000_000
STARTS, EXECS = 15, 40
ROUNDS, REQUESTS, SIZE = 7, 40, 200 * MEGABYTE


def attacks(*, quick: bool) -> dict[str, Any]:
    """Every attack, under runc and gVisor, and the controls."""
    tried = security_attacks.run(security_attacks.planned(gvisor=not quick, all_modules=not quick))
    return {"attacks": [asdict(one) for one in tried], "controls": asyncio.run(security_attacks.controls())}


def overhead(*, quick: bool) -> dict[str, Any]:
    """Start and exec beside plain Docker."""
    starts, execs = (1, 2) if quick else (STARTS, EXECS)
    figures = asyncio.run(security_overhead.measure(starts, execs, gvisor=not quick))
    return {"overhead": {"by_runtime": figures, "n_start": starts, "n_exec": execs}}


def proxy(*, quick: bool) -> dict[str, Any]:
    """Latency and throughput beside a direct connection."""
    rounds, requests, size = (1, 3, MEGABYTE) if quick else (ROUNDS, REQUESTS, SIZE)
    figures = asyncio.run(security_proxy.measure(rounds, requests, size))
    return {"proxy": {**figures, "n_latency": rounds * requests, "n_throughput": rounds, "bytes": size}}


WORDS = (
    "As root in the sandbox, as it is by default; made by `tests/security`. `-`: not tried; of those on the kernel, "
    "what would be an attack on gVisor's own alone."
)
WORK = {"attacks": attacks, "overhead": overhead, "proxy": proxy}


def text_of(found: Mapping[str, Any]) -> str:
    """The tables of what was measured."""
    blocks: list[str] = []
    if "attacks" in found:
        blocks += _attacks(found["attacks"], found.get("controls", []))
    if "overhead" in found:
        blocks += _overhead(found["overhead"])
    if "proxy" in found:
        blocks += _proxy(found["proxy"])
    return "\n\n".join(blocks) + "\n"


def _attacks(tried: Sequence[Mapping[str, Any]], loose: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(one["attack"] for one in tried))
    runtimes = list(dict.fromkeys(one["runtime"] for one in tried))
    verdicts = {(one["attack"], one["runtime"]): "stopped" if one["stopped"] else "**NOT stopped**" for one in tried}
    counted = [
        (runtime, str(sum(one["stopped"] for one in of_it)), str(len(of_it)))
        for runtime in runtimes
        if (of_it := [one for one in tried if one["runtime"] == runtime])
    ]
    blocks = [
        "## Attacks",
        WORDS,
        _table([("runtime", "stopped", "tried"), *counted]),
        _table(
            [("attack", *runtimes), *((name, *(verdicts.get((name, one), "-") for one in runtimes)) for name in names)]
        ),
    ]
    if loose:
        rows = [(one["attack"], one["runtime"], one["loosened"], "no") for one in loose]
        words = "Controls: what succeeds when a sandbox is loosened, so that the attacks are known to tell."
        blocks += [words, _table([("attack", "runtime", "loosened", "stopped"), *rows])]
    return blocks


def _overhead(figures: Mapping[str, Any]) -> list[str]:
    rows: list[Sequence[str]] = [
        ("runtime", "network", "plain start, ms", "ours, ms", "ratio", "plain exec, ms", "ours, ms", "ratio")
    ]
    for runtime, modes in figures["by_runtime"].items():
        for mode, one in modes.items():
            cells = [
                str(one[name])
                for what in ("start", "exec")
                for name in (f"plain_{what}_ms", f"{what}_ms", f"{what}_ratio")
            ]
            rows.append((runtime, mode, *cells))
    words = (
        f"Medians of {figures['n_start']} starts and {figures['n_exec']} commands (`true`), taking turns with plain "
        "Docker (the same image, runtime and bridge or no network, its own defaults) on the same daemon. Ours is "
        "hardened, has the journal of commands and, with an allowlist, its way out."
    )
    return ["## Start and exec beside plain Docker", words, _table(rows)]


def _proxy(figures: Mapping[str, Any]) -> list[str]:
    rows: list[Sequence[str]] = [
        ("", "direct, ms", "by the proxy, ms", "added, ms", "direct, MB/s", "by the proxy, MB/s", "ratio")
    ]
    fields = ("direct_ms", "proxy_ms", "added_ms", "direct_mb_s", "proxy_mb_s", "throughput_ratio")
    rows += [(scheme, *(str(figures[scheme][field]) for field in fields)) for scheme in ("http", "tls")]
    words = (
        f"A new connection with a request (median of {figures['n_latency']}), and a download of "
        f"{figures['bytes'] // MEGABYTE} MB (median of {figures['n_throughput']}), from a sandbox with an allowlist "
        "and from one on Docker's bridge, of the same server on this machine."
    )
    return ["## The egress proxy beside a direct connection", words, _table(rows)]


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point.

    Raises:
        SystemExit: An attack was not stopped; the results are written all the same.
    """
    parser = argparse.ArgumentParser(prog="bench_security", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="this part alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="little of everything, and nothing is written")
    asked = parser.parse_args(arguments)
    # Containers and servers are not left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    file = RESULTS / "security.json"
    found: dict[str, Any] = {}
    for part in asked.part or PARTS:
        figures = WORK[part](quick=asked.quick)
        found |= figures
        if not asked.quick:
            known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
            on = {**known.get("measured", {}), part: {"machine": machine(), "load": round(os.getloadavg()[1], 1)}}
            known |= {**figures, "measured": on}
            RESULTS.mkdir(exist_ok=True)
            file.write_text(json.dumps(known, indent=2) + "\n")
            file.with_suffix(".md").write_text(text_of(known))
    print(text_of(found))
    if not all(one["stopped"] for one in found.get("attacks", [])):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
