"""Which switch the tests run against."""

import os

from .switch import Tandem

if os.environ.get("INTEROP_SWITCH") == "kamailio":
    from .stand_in import Kamailio as Switch
else:
    Switch = Tandem

STAND_IN = Switch is not Tandem
