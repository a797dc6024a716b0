"""Folds over finished calls and the fleet's standing, exported. Nothing here runs before a call has ended."""
