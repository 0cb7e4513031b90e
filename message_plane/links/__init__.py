"""What carries datagrams one to one: `link` is the contract, `by_scheme` the table of all links."""
