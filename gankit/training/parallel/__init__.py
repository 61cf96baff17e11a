"""Several processes that train one model, and several models that are trained in one process."""
