"""From weights to ONNX, typed FP16 and explicit INT8: everything that makes a bundle."""
