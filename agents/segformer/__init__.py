"""SegFormer as ONNX: export from weights, check against torch. Needs the extra `[models]`."""
