"""The PN GW: it gets Group Keys over its uplink and delivers them to the PNEs of its PN, by broadcast and unicast."""
