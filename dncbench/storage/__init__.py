"""What is kept: records of cells, and a cache of arrays.

Files are there whole or not at all, and are read with a check of what they hold.
"""
