"""Running one merge: what is given is checked, the shards are asked, and the answers merged.

Nothing here knows where draws come from or how they are scored.
"""
