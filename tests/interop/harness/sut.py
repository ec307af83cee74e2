"""Which switch the tests run against."""

import os

from .switch import Tandem
from .world import Skip

if os.environ.get("INTEROP_SWITCH") == "kamailio":
    from .stand_in import Kamailio as Switch
else:
    Switch = Tandem

STAND_IN = Switch is not Tandem


def needs_tandem():
    """For tests of what a registrar and proxy cannot do; INTEROP_FORCE=1 runs them all the same, to try the test's own code."""
    if STAND_IN and not os.environ.get("INTEROP_FORCE"):
        raise Skip("not what a proxy does")
