"""Rehearsal: the same demand, limits and laws in virtual time.

`demand` draws what clients want. `clairvoyant` says what a queue that knows the future makes of it, `bound` what
nobody can exceed, and `rehearse` what our own dispatcher makes of it, each as the `score.Record`s of one run.
"""
