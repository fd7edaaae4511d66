# A Debian package, for the release of Debian or Ubuntu that builds it: dist/her2d_VERSION_ARCH.deb. The
# same commit gives the same bytes. Needs python3-venv.
DEB_ROOT := dist/deb
.PHONY: deb
deb: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
deb:
	rm -rf $(DEB_ROOT)
	$(MAKE) install-program install-files DESTDIR=$(abspath $(DEB_ROOT)) PYTHON=/usr/bin/python3 \
	    prefix=/usr unitdir=/usr/lib/systemd/system zshdir=/usr/share/zsh/vendor-completions
	(umask 027; sed -f systemd/config.sed config.toml > $(DEB_ROOT)/etc/her2d/config.toml)
	sh packaging/deb/build.sh $(DEB_ROOT) dist
