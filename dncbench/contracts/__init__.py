"""The laws that every registered problem, method and metric is held to.

They are tests (pytest), shipped with the suite: here they run over everything that is
registered, at a user's over one plugin file (``dncbench check FILE``).
"""
