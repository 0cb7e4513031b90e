"""The web page of a gateway: one HTTP server, its log-in, what it sends, and the pages themselves.

Everything here sees the gateway through a `Sight` only: it reads a snapshot and a stream of events, and calls the
commands of the control socket. The module `onlooker` is imported if the configuration has `[web]`.
"""
