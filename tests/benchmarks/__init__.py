"""Benchmarks: ratios against raw sqlite3 doing the same work in the same run. Run by `compose/bench`."""
