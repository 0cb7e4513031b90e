"""The end-to-end groups of a PNE: their Group Keys come from the CPNS Server, and the PN GW cannot read them (SEC-25).

Only a board that is a member of such a group, or joins one, loads this package.
"""
