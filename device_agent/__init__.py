"""The PNE: an agent that keeps the Group Keys of one board, with the constrained protocol stack it speaks.

Applications use `api`. `agent` composes the parts, and `ports` states what they need from the machine.

Apart from the store the parts do no input or output. A function that takes long is a generator function, of one of two
kinds. Its value comes at the end; inside another one it runs by `value = yield from f(...)`, which raises its errors.

* *Steps* only compute. They yield None about every 3 ms of ESP32 time, so that other tasks run in between.
* A *flow* also waits, or asks the PN GW: it yields None, a pause, or a CoAP request, as `session` lists, and the agent
  sends it the answer. Steps can run as a flow.
"""
