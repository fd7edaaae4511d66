# `make install` and what undoes it. As root: the daemon under systemd. `make -n install` prints what it
# would do; DESTDIR=/some/folder puts it there instead, as packagers do, and leaves this machine's
# accounts and services alone. What lies in DESTDIR runs once it lies at its place below /.
#   make install WHEELS=dist/wheels    without a network, from what `make wheels` collected
#   make install EXTRAS=tensorrt       with extras of pyproject.toml, comma-separated
DESTDIR ?=
WHEELS  ?=
EXTRAS  ?=
prefix  := /usr/local
unitdir := /etc/systemd/system
zshdir  := $(prefix)/share/zsh/site-functions

PROGRAM := $(DESTDIR)/opt/her2d
UNITS   := $(DESTDIR)$(unitdir)
SHARE   := $(DESTDIR)$(prefix)/share
COMMAND := $(DESTDIR)$(prefix)/bin/her2d
STATE   := $(DESTDIR)/var/lib/her2d
CONFIG  := $(DESTDIR)/etc/her2d/config.toml
SYSUSERS := $(DESTDIR)/usr/lib/sysusers.d/her2d.conf
TMPFILES := $(DESTDIR)/usr/lib/tmpfiles.d/her2d.conf
MANUAL  := $(SHARE)/man/man1/her2d.1
BASH    := $(SHARE)/bash-completion/completions/her2d
ZSH     := $(DESTDIR)$(zshdir)/_her2d
FISH    := $(SHARE)/fish/vendor_completions.d/her2d.fish
REQUIREMENT := her2d$(if $(EXTRAS),[$(EXTRAS)])
# The service's user owns $(STATE), and may have put a link anywhere in it. Root follows none: what goes
# there is written by that user.
AS_SERVICE = $(if $(DESTDIR),,runuser -u her2d --)
# pip reads this machine's settings, so that a mirror or proxy of the site counts.
PIP_INSTALL = $(PROGRAM)/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt \
    $(if $(DESTDIR),--no-compile)

FROM_WHEELS = --no-index --find-links $(WHEELS)

.PHONY: install install-program install-files uninstall stopped install-gpu install-openvino install-webhook install-cluster wheels
install: stopped install-program install-files
	test -e $(CONFIG) || (umask 027; sed -f systemd/config.sed config.toml > $(CONFIG))
	test -n "$(DESTDIR)" || systemd-sysusers her2d.conf
	test -n "$(DESTDIR)" || chgrp her2d $(CONFIG)
	test -n "$(DESTDIR)" || test -e $(STATE) || install -d -o her2d -g her2d -m 750 $(STATE)
	test -n "$(DESTDIR)" || systemd-tmpfiles --create her2d.conf
	tar -C engines -c her2net-demo | $(AS_SERVICE) sh -c 'mkdir -p $(STATE)/engines && tar -C $(STATE)/engines -x'
	test -n "$(DESTDIR)" || systemctl daemon-reload
	@echo "Look through /etc/her2d/config.toml, then:"
	@echo "  her2d doctor --config /etc/her2d/config.toml"
	@echo "  systemctl enable --now her2d her2d-care.timer"

# `--clear`: what an older Python of this machine left there is of no use.
install-program: | stopped
	test -x $(PROGRAM)/bin/python || $(PYTHON) -m venv --clear $(PROGRAM)
	$(if $(WHEELS),,rm -rf build)  # setuptools would install what older versions left there
	$(PIP_INSTALL) $(if $(WHEELS),$(FROM_WHEELS) '$(REQUIREMENT)','.$(REQUIREMENT:her2d%=%)')
	$(if $(WHEELS),$(PIP_INSTALL) $(FROM_WHEELS) --no-deps --force-reinstall her2d)
	test -z "$(DESTDIR)" || $(PROGRAM)/bin/python packaging/relocate.py "$(DESTDIR)" /opt/her2d

# zsh reads its file at the first TAB, which the last line answers.
install-files: | install-program
	install -d -m 755 $(dir $(COMMAND)) $(DESTDIR)/etc/her2d $(dir $(MANUAL) $(BASH) $(ZSH) $(FISH))
	ln -sfn /opt/her2d/bin/her2d $(COMMAND)
	install -D -m 644 systemd/her2d.sysusers $(SYSUSERS)
	install -D -m 644 systemd/her2d.tmpfiles $(TMPFILES)
	install -D -m 644 -t $(UNITS) systemd/her2d.service systemd/her2d-care.service systemd/her2d-care.timer
	$(PROGRAM)/bin/python -B -m tools.docs.manual > $(MANUAL)
	_HER2D_COMPLETE=source_bash $(PROGRAM)/bin/python $(PROGRAM)/bin/her2d > $(BASH)
	_HER2D_COMPLETE=source_fish $(PROGRAM)/bin/python $(PROGRAM)/bin/her2d > $(FISH)
	{ _HER2D_COMPLETE=source_zsh $(PROGRAM)/bin/python $(PROGRAM)/bin/her2d; echo '_her2d_completion "$$@"'; } > $(ZSH)
	chmod 644 $(MANUAL) $(BASH) $(FISH) $(ZSH)

# Settings and results stay.
uninstall: stopped
	test -n "$(DESTDIR)" || ! test -e $(UNITS)/her2d.service || systemctl disable her2d.service her2d-care.timer
	rm -rf $(PROGRAM)
	rm -f $(COMMAND) $(SYSUSERS) $(TMPFILES) $(MANUAL) $(BASH) $(ZSH) $(FISH)
	rm -f $(addprefix $(UNITS)/,her2d.service her2d-care.service her2d-care.timer her2d.service.d/gpu.conf her2d.service.d/openvino.conf her2d.service.d/webhook.conf her2d.service.d/cluster.conf)
	test ! -d $(UNITS)/her2d.service.d || rmdir --ignore-fail-on-non-empty $(UNITS)/her2d.service.d
	test -n "$(DESTDIR)" || systemctl daemon-reload
	@echo "her2d is uninstalled. Its settings (/etc/her2d), its results (/var/lib/her2d), its inbox (/srv/her2d)"
	@echo "and its account (her2d) are left; delete them by hand where nobody needs them."

# A running daemon would import half of the old program and half of the new one.
stopped:
	@test -n "$(DESTDIR)" || \
	    ! systemctl is-active her2d her2d-care.timer her2d-care | grep -qvxE 'inactive|failed|unknown' || \
	    { echo "her2d runs. First: systemctl stop her2d her2d-care.timer her2d-care" >&2; exit 1; }
	@test -n "$(DESTDIR)" || ! dpkg-query -W -f '$${db:Status-Status}' her2d 2>/dev/null | grep -qx installed || \
	    { echo "her2d is installed as a Debian package. Install the new package, or first: apt remove her2d" >&2; exit 1; }

install-gpu:
	install -D -m 644 systemd/gpu.conf $(UNITS)/her2d.service.d/gpu.conf
	test -n "$(DESTDIR)" || systemctl daemon-reload

# Lets the daemon run the code that OpenVINO compiles.
install-openvino:
	install -D -m 644 systemd/openvino.conf $(UNITS)/her2d.service.d/openvino.conf
	test -n "$(DESTDIR)" || systemctl daemon-reload

# Lets the daemon reach a webhook on a private network.
install-webhook:
	install -D -m 644 systemd/webhook.conf $(UNITS)/her2d.service.d/webhook.conf
	test -n "$(DESTDIR)" || systemctl daemon-reload

# Lets the daemon reach the head of a cluster on a private network.
install-cluster:
	install -D -m 644 systemd/cluster.conf $(UNITS)/her2d.service.d/cluster.conf
	test -n "$(DESTDIR)" || systemctl daemon-reload

# All that a machine without a network needs, for this Python and processor.
wheels:
	rm -rf build
	$(PYTHON) -m pip wheel --disable-pip-version-check -q -c constraints.txt -w $(or $(WHEELS),dist/wheels) '.$(REQUIREMENT:her2d%=%)'
