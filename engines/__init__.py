"""Engines: what a target is, how one is built for it, what a graph costs."""
