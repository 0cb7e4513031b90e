"""The PN GW: takes Group Keys from its uplink and delivers them to the PNEs of its PN, by broadcast and by unicast."""
