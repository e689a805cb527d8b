"""The owner's retention and the grace, as they are set."""

from datetime import timedelta

import pytest

from activities.ports.upkeep import Retention
from hibernaut import contracts
from hibernaut.errors import InvalidSettings
from workers.retention import parse_retention
from workers.settings import Settings

STORE = {"HIBERNAUT_STORE": "file:///tmp/store"}


def test_the_default_keeps_years_of_weeks_and_a_thousand_calls() -> None:
    settings = Settings.load(STORE)
    assert settings.snapshot_keep == Retention(last=1000, hourly=168, daily=60, weekly=52)
    assert settings.collection_hours == 24
    assert settings.timing.grace == timedelta(hours=24)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("all", None),
        ("last=1", Retention(last=1)),
        (" daily = 7 , weekly=4,last=0", Retention(daily=7, weekly=4)),
    ],
)
def test_rules_are_read(text: str, kept: Retention | None) -> None:
    assert Settings.load(STORE | {"HIBERNAUT_SNAPSHOT_KEEP": text}).snapshot_keep == kept


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("last", "'last' is none"),
        ("monthly=3", "'monthly=3' is none"),
        ("last=1,", "'' is none"),
        ("last=-1", "a number from 0 to 1000000 for last, not '-1'"),
        ("last=many", "not 'many'"),
        ("last=٣", "not '٣'"),
        ("last=1000001", "not '1000001'"),
        ("last=1,last=2", "says last twice"),
        ("last=0,daily=0", "must keep something"),
        ("none", "must be 'all' or rules such as last=1000,hourly=168,daily=60,weekly=52"),
    ],
)
def test_what_is_no_retention_is_told(text: str, told: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings.load(STORE | {"HIBERNAUT_SNAPSHOT_KEEP": text, "HIBERNAUT_COLLECTION_HOURS": "-1"})
    assert "HIBERNAUT_SNAPSHOT_KEEP: " in str(caught.value)
    assert told in str(caught.value)
    assert "HIBERNAUT_COLLECTION_HOURS: " in str(caught.value), "all that is wrong is told at once"


@pytest.mark.parametrize("hours", ["0", "6", "-1", "nan", "inf", "soon", "9000"])
def test_a_grace_that_a_snapshot_might_outlast_is_refused(hours: str) -> None:
    with pytest.raises(InvalidSettings, match="HIBERNAUT_COLLECTION_GRACE_HOURS: "):
        Settings.load(STORE | {"HIBERNAUT_COLLECTION_GRACE_HOURS": hours})
    assert Settings.load(STORE | {"HIBERNAUT_COLLECTION_GRACE_HOURS": "7.5"}).timing.grace == timedelta(hours=7.5)


def test_the_contracts_rules_are_those_of_the_port() -> None:
    assert contracts.Retention.model_fields.keys() == Retention.model_fields.keys()
    assert str(contracts.Retention(last=3, weekly=2)) == "last=3,weekly=2"
    assert str(contracts.Retention()) == "none"


def test_what_was_parsed_is_left_alone() -> None:
    assert parse_retention(Retention(last=1)) == Retention(last=1)
