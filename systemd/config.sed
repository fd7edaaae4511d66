# Replace the paths in config.toml by those of an installation; all other defaults stay the same.
s|^inboxes = .*|inboxes = ["/srv/her2d/inbox"]|
s|^path = .*|path = "/var/lib/her2d/engines/her2net-demo"|
s|^database = .*|database = "/var/lib/her2d/her2d.sqlite"|
s|^heatmaps = .*|heatmaps = "/var/lib/her2d/heatmaps"|
s|^backups = .*|backups = "/var/lib/her2d/backups"|
