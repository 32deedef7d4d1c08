"""Measuring, recording and reporting what an engine does on this machine."""
