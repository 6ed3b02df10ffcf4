"""Benchmarks: speed against a peer, and static cost on a TPU."""
