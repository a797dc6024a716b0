"""The other door: one method in front of everything that can answer a chat completion."""
