"""Pretend clouds, for the demo, for tests and for rehearsal.

`model.Cloud` is one cloud's behaviour: pure, told the time, seeded. `server.serve` puts it behind real sockets;
rehearsal calls it directly. Read `profiles` for what can be asked of one, `model` for how it behaves.
"""
