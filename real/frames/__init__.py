"""Frames: from a folder, a video file or a camera."""
