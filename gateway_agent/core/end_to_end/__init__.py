"""End-to-end groups, whose keys the PN GW carries and cannot read: tunnel, wrapped keys, trust (SEC-25, SEC-26)."""
