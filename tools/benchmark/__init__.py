"""How fast a bundle runs on this machine: engines, pipeline, and the peak rate of the hardware."""
