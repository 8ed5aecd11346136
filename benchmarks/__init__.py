"""Benchmarks of Hypern against other servers and against what the machine can do."""
