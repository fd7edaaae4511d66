"""The GPU runtime: tiles uploaded once, both graphs on the same device buffers."""
