"""The REST interface of a CPNS Server: its commands over HTTPS, for operators with a token."""
