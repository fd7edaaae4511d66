"""The GPU runtime: tiles are uploaded once, and both networks read the same device memory."""
