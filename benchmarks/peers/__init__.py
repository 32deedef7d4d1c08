"""jetlift side by side with what one would use instead: `jetlift.benchmarks.peers_bench`."""
