#!/bin/sh
# Pack the tree at $1, which `make install` staged, as a Debian package in the folder $2.
set -eu
root=$1 output=$2
here=$(dirname "$0")
umask 022

program=$root/opt/her2d
field() { sed -n "s/^$1: //p" "$program"/lib/python3*/site-packages/her2d-*.dist-info/METADATA | head -1; }
# 1.0rc1 comes before 1.0, for Debian too.
version=$(field Version | sed -E 's/(a|b|rc|\.dev)([0-9]+)$/~\1\2/')
architecture=$(dpkg --print-architecture)
python=$(cd "$program/lib" && echo python3*)
python=${python#python}
maintainer=${MAINTAINER:-her2d maintainers <maintainers@her2d.example>}

documents=$root/usr/share/doc/her2d
install -D -m 644 "$here/copyright" "$documents/copyright"
install -D -m 644 "$here/lintian-overrides" "$root/usr/share/lintian/overrides/her2d"
gzip -9 -n < CHANGELOG.md > "$documents/NEWS.gz"
printf 'her2d (%s) unstable; urgency=medium\n\n  * What users notice is in NEWS.gz.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9 -n > "$documents/changelog.gz"
gzip -9 -n -f "$root/usr/share/man/man1/her2d.1"

install -d "$root/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@MAINTAINER@/$maintainer/" \
    -e "s/@PYTHON@/$python/" -e "s/@NEXT_PYTHON@/3.$((${python#3.} + 1))/" \
    -e "s/@SIZE@/$(du -k -s --apparent-size --exclude=DEBIAN "$root" | cut -f 1)/" \
    "$here/control.in" > "$root/DEBIAN/control"
echo /etc/her2d/config.toml > "$root/DEBIAN/conffiles"
install -m 755 -t "$root/DEBIAN" "$here/preinst" "$here/postinst" "$here/prerm" "$here/postrm"
(cd "$root" && find opt usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums)
chmod -R u=rwX,go=rX "$root/opt" "$root/usr" "$root/DEBIAN"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$output"
dpkg-deb -Zzstd -z"${DEB_LEVEL:-12}" --root-owner-group --build "$root" "$output"
