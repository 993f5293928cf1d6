"""Classification networks of CarbonEdge and Ng et al. as ONNX. Needs the extra `[zoo]`."""
