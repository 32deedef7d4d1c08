"""Precision lives in the graph: typed FP16, explicit symmetric INT8 Q/DQ, and their emulation."""
