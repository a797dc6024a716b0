"""The mind: decides where a request may go. No I/O, no clock, no chance of its own; standard library only."""
