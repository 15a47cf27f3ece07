"""Benchmarks: an asv project, and two programs, `benchmarks.table` and `benchmarks.products`.

No module here imports fastbp at its top. asv imports all of them and then forks a child for each
benchmark, and fastbp allows one thread only in a child forked after its import.
"""
