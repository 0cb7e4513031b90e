"""The sockets of an HTTP server: which connections it takes, its TLS, its limits, and what is logged of strangers."""
