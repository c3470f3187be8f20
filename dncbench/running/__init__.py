"""The plan of a run and its cells: what is sampled, merged, scored and recorded.

What was recorded or cached before is found again instead of being made again.
"""
