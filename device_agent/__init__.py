"""The PNE: an agent that keeps the Group Keys of one board, with the constrained protocol stack it speaks.

`api` is what applications use, `agent` composes the parts, `ports` says what they need from the machine.
"""
