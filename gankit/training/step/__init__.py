"""What one training step computes, and the objects that it is computed from."""
