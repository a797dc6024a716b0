"""The door: ASGI in, ASGI out. Decides nothing."""
