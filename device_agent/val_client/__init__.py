"""A board that is itself a VAL client (opt-in): receives Group Master Keys in MIKEY-SAKKE I_MESSAGEs.

Start it beside the node: `await service.ValService(node, "/val/", machine.reset).run()`. What stays in the heap is
`service`; the rest, with `mikey_sakke`, is loaded for each message and unloaded.
"""
