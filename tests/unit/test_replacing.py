"""Texts in a stream: replaced the same however it is cut, and a value found in every form it may take."""

from __future__ import annotations

import base64
import html
import json
import re
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings, strategies as st

from activities.egress.forms import forms, hidden, in_address, in_body
from activities.egress.replacing import Replacer, Texts

SOME = st.binary(min_size=1, max_size=6).map(lambda data: bytes(97 + byte % 2 for byte in data))
"""Of two letters alone, so that texts overlap, begin alike and lie within each other."""
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(SOME, st.binary(max_size=3), min_size=1, max_size=5), st.lists(SOME | st.just(b""), max_size=30))
def test_however_a_stream_is_cut_the_result_is_that_of_the_whole(
    replacements: dict[bytes, bytes], pieces: list[bytes]
) -> None:
    texts = Texts(replacements)
    stream = Replacer(texts)
    said = b"".join([*(stream.feed(piece) for piece in pieces), stream.feed(b"", last=True)])
    longest_first = b"|".join(re.escape(text) for text in sorted(replacements, key=len, reverse=True))
    assert said == re.sub(longest_first, lambda found: replacements[found[0]], b"".join(pieces))


@settings(max_examples=200, deadline=None)
@given(VALUE, st.binary(max_size=5), st.binary(max_size=5), st.lists(st.integers(0, 200), max_size=5), st.data())
def test_no_piece_of_a_stream_shows_a_value_in_any_form(
    value: str, before: bytes, after: bytes, cuts: list[int], data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from(sorted(forms(value))))
    whole = before + form + after
    places = sorted({0, *(cut % len(whole) for cut in cuts), len(whole)})
    stream = Replacer(hidden({value: "[it]"}))
    said = b"".join(stream.feed(whole[a:b]) for a, b in pairwise(places))
    assert form not in said + stream.feed(b"", last=True)
    assert len(stream.used) == 1


@given(VALUE, st.binary(max_size=7), st.binary(max_size=7))
def test_a_value_is_found_within_base64_of_more(value: str, before: bytes, after: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(before + value.encode() + after)
        for text in (encoded, encoded.rstrip(b"=")):
            said = hidden({value: "*"}).whole(text)
            assert b"*" in said
            # What is left of it at its ends is less than a byte each.
            assert len(said) <= len(encode(before + after)) + 6


@pytest.mark.parametrize("value", ['pass"word\\/&<1>', "plain-value", "a b+c=d/e%f&g"])
def test_the_encodings_of_programs_are_known(value: str) -> None:
    raw = value.encode()
    known = forms(value)
    seen = {
        value, json.dumps(value)[1:-1], quote(value), quote(value, safe=""), quote_plus(value), html.escape(value),
        raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
    }  # fmt: skip
    assert {text.encode() for text in seen} <= known


@pytest.mark.parametrize(
    "written",
    [
        # Go, Rails; .NET; Gson; PHP with every flag, in this order.
        r"a+b/c<d>&'e=\"f`", r"a+b/c\u003cd\u003e\u0026'e=\"f`", r"a\u002Bb/c\u003Cd\u003E\u0026\u0027e=\u0022f\u0060",
        r"a+b/c\u003cd\u003e\u0026\u0027e\u003d\"f`", r"a+b\/c\u003Cd\u003E\u0026\u0027e=\"f`",
        # Jinja; Go; PHP; .NET.
        "a+b/c&lt;d&gt;&amp;&#39;e=&#34;f`", "a&#43;b/c&lt;d&gt;&amp;&#39;e=&#34;f`",
        "a+b/c&lt;d&gt;&amp;&#039;e=&quot;f`", "a&#x2B;b/c&lt;d&gt;&amp;&#x27;e=&quot;f`",
    ],
)  # fmt: skip
def test_what_programs_escape_besides_what_must_be_is_known(written: str) -> None:
    assert written.encode() in forms("a+b/c<d>&'e=\"f`")


@pytest.mark.parametrize(
    "written",
    [
        # encodeURIComponent, encodeURI, URLSearchParams or Java; .NET, two ways; Go, two ways; a query, and a path.
        "a!b%26c~d(e)%5Bf%23g*h'%7B%22i", "a!b&c~d(e)%5Bf#g*h'%7B%22i", "a%21b%26c%7Ed%28e%29%5Bf%23g*h%27%7B%22i",
        "a!b%26c%7ed(e)%5bf%23g*h%27%7b%22i", "a!b%26c%7Ed(e)%5Bf%23g*h%27%7B%22i",
        "a%21b&c~d%28e%29%5Bf%23g%2Ah%27%7B%22i", "a%21b%26c~d%28e%29%5Bf%23g%2Ah%27%7B%22i",
        "a!b&c~d(e)[f%23g*h%27{%22i", "a!b&c~d(e)[f%23g*h'%7B%22i",
    ],
)  # fmt: skip
def test_what_programs_leave_as_it_is_in_an_address_is_known(written: str) -> None:
    assert written.encode() in forms("a!b&c~d(e)[f#g*h'{\"i")


def test_base64_in_a_text_of_json_is_known() -> None:
    value = "???>>>~~~value"
    encoded = base64.b64encode(value.encode()).decode()
    assert "+" in encoded or "/" in encoded
    for text in (encoded.replace("/", "\\/"), encoded.replace("+", "\\u002B")):
        assert hidden({value: "*"}).whole(text.encode()).startswith(b"*")


def test_what_is_not_the_beginning_of_a_text_is_not_held_back() -> None:
    stream = Replacer(Texts({b"abcdefgh": b"-"}))
    assert stream.feed(b"data: 1\n\n") == b"data: 1\n\n"
    assert stream.feed(b"data: abc") == b"data: "
    assert stream.feed(b"x") == b"abcx"


def test_a_value_is_written_as_where_it_goes_wants_it() -> None:
    assert in_address('a"b/c d') == b"a%22b%2Fc%20d"
    assert in_body('a"b', b"application/json; charset=utf-8") == b'a\\"b'
    assert in_body("a&b", b"application/x-www-form-urlencoded") == b"a%26b"
    assert in_body('a"b', b"text/plain") == b'a"b'
