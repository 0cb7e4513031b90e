"""The machine's networks: interfaces with their broadcast addresses, and the announcement by mDNS."""
