"""What can go wrong with the demo.

DemoError
└── CheckFailed   something that must hold does not: the demo found a fault, in itself or in what it shows
"""

from hibernaut.errors import HibernautError


class DemoError(HibernautError):
    """The demo cannot go on."""

    code = "demo"


class CheckFailed(DemoError):
    """Something that must hold does not."""

    code = "demo_check_failed"
