"""Camera to result without growing delay: stages, bounded queues, honest ages."""
