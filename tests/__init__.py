"""The tests. A regular package, because torch-fidelity installs one of this name, which would hide a namespace."""
