"""A VAL client on a board (opt-in), which receives Group Master Keys in MIKEY-SAKKE I_MESSAGEs.

Start it beside the node: `await service.ValService(node, "/val/", board.restart).run()`. Only `service` stays in the
heap; the rest, with `mikey_sakke`, is loaded for each message and then unloaded.
"""
