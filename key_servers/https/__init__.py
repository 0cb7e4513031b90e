"""The one HTTP door of all servers of key material: sockets, limits, TLS, bearer tokens, and what is logged."""
