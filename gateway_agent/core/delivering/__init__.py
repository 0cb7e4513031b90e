"""How a Group Key reaches the member PNEs of a Service Group: the engine, what carries it out, confirmations, pulls."""
