"""What the interop tests are made of: addresses, processes, phones, wires and ears.  Standard library only."""
