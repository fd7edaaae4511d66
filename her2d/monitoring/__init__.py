"""What operators see: metrics, health probes, logs and notifications to systemd."""
