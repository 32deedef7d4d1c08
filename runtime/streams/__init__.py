"""Live inputs: cameras, streams of the network, pipelines of GStreamer, microphones.

Each is a FrameSource (jetlift.runtime.pipeline.form); `jetlift.runtime.sources` opens them by name.
"""
