"""The HTTP door that KMS, GMS and CMS share: sockets, limits, TLS, bearer tokens, and what is logged."""
