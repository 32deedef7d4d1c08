"""Ways to the same result: each file is loaded by path in the Python that has its packages.

A file's WAYS maps names to functions of the inputs (one mapping of arrays each), the number of
threads and the way's own arguments; each gives a function of an input's number that computes once
and returns the outputs by name.
"""
