"""The messages of a delivery report, which only PN GW and CPNS Server exchange.

Importing this module adds them to the tables of `cpns.messages`. No board imports it, as each row costs a board heap.

The three lists of a report have its outcomes. An element of DELIVERY says more about a PNE of one of the lists; it is
the tuple (PNE ID, link, tries, Unix seconds), with None for link and seconds if the PNE did not confirm the version.
"""

from cpns import messages as m
from cpns import numbers as n
from cpns import tuning

# Links on which a key came to a PNE. A report may have another word, of a link that a later release has.
UNICAST = "unicast"  # over the session of the PNE
WIFI = "wifi"  # by broadcast on the network of the PN GW
BLE = "ble"  # by adverts
END_TO_END = "end-to-end"  # wrapped by the CPNS Server, carried over the session

_NUMBER = (int, 0, 0xFFFFFFFF)

m.ELEMENTS[m.DELIVERY] = (
    (1, True, (str, 1, tuning.ENTITY_ID_MAX)),
    (2, False, (str, 1, 16)),
    (3, True, _NUMBER),
    (4, False, _NUMBER),
)
for _label in (m.CONFIRMED, m.UNREACHABLE, m.EXCLUDED, m.DELIVERY):
    m.REPEATED[_label] = tuning.LISTED_MAX

m.TABLE += bytes(
    (n.DELIVERY_REPORT_REQUEST, m.ONE, m.SG_ID, m.VERSION, m.ANY, m.CONFIRMED, m.UNREACHABLE, m.EXCLUDED, m.DELIVERY)
    + (0, n.DELIVERY_REPORT_RESPONSE, m.ONE, m.RESULT, m.SG_ID, 0)
)
