"""The HTTP door that KMS, GMS and CMS share: bearer tokens, bodies and refusals. `http_door` has its sockets."""
