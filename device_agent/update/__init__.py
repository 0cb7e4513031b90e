"""Updates of a board while its agent runs (docs/protocol.md section 16): reports, and collecting what is offered.

`service` stays in the heap; it loads the other modules when there is work for them, and unloads them after it.
"""
