# On top of systemd/config.sed: what differs in a container.
# The bundle that ships is part of the image.
s|^path = .*|path = "/opt/her2d/engines/her2net-demo"|
# What may connect is decided where the port is published.
s|^host = .*|host = "0.0.0.0"|
