"""The configuration document: read, checked and compiled to plain values. No network, no clock, no environment."""
