"""The far end of the uplink: the CPNS Server, and the servers of the SEAL and mission-critical way."""
