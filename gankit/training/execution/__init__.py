"""How a step is run: eagerly, with compiled halves, or captured as a CUDA graph."""
