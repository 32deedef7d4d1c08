"""The live page of a running pipeline: pictures, figures and prompts in a browser."""
