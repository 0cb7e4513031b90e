"""The links, which carry datagrams between two ends: `link` is the contract, `by_scheme` the table of all links."""
