#!/usr/bin/env bash
# A Debian with less than any server has, cached as a folder: nothing passes by what happens to be there. Prints it.
#   make-root.sh CACHE RELEASE
# What it gets of this machine: apt's archive and the way there, npm's registry, the certificates of the place.
# Without those it could reach nothing; with more, a test would pass because of where it runs.
set -euo pipefail
cache=$1
release=$2
umask 022

# What is not in minbase and on every server: an init, and for whoever is not root a way to become it.
packages=systemd,systemd-sysv,sudo

# The machine's own archive, wherever it is: `apt-get indextargets` reads every form of sources.list.
targets=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' | sort -u)
find_archive() { awk -v pattern="^($1)\$" '$1 ~ pattern && $2 == "main" { print $3; exit }' <<<"$targets"; }
names='bullseye|bookworm|trixie|forky|sid|oldoldstable|oldstable|stable|testing|unstable'
archive=$(find_archive "$names")
security=$(find_archive "($names)-security")
[ -n "$archive" ] || { echo "fresh: apt's sources name no archive of Debian: run this on Debian" >&2; exit 1; }
[[ $archive != https:* ]] || packages+=,ca-certificates # apt itself needs them there

# Of apt's settings only how it reaches an archive: others change what it installs or keeps.
reach=$(apt-config dump --format '%F "%v";%n' | grep -E '^Acquire::(https?::|Check-|ForceIPv|Retries)' | grep -v ' "";$' || true)

recipe=$({
  cat "$0"
  echo "$archive $security $reach"
  cat /usr/local/share/ca-certificates/*.crt 2>/dev/null
} | sha256sum | cut -c1-12)
root=$cache/$release-$recipe
mkdir -p "$cache"
exec 9>"$cache/$release.lock"
flock 9
if [ -d "$root" ]; then
  touch "$root" # when it was used last
  echo "$root"
  exit
fi
# Not those in use: somebody else's checkout may have another recipe.
find "$cache" -maxdepth 1 -name "$release-*" -mtime +7 -exec rm -rf --one-file-system {} +

new=$cache/$release.new
rm -rf --one-file-system "$new" "$new.log"
trap 'rm -rf --one-file-system "$new" "$new.log"' EXIT
trap 'exit 130' INT TERM HUP
# debootstrap does not know apt's proxies.
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
export http_proxy https_proxy
# Whatever it mounts, and whatever it runs, is gone with it.
unshare --fork --pid --kill-child --mount --mount-proc \
  debootstrap --variant=minbase --include="$packages" "$release" "$new" "$archive" >"$new.log" 2>&1 </dev/null ||
  { tail -n 20 "$new.log" >&2; exit 1; }

{
  echo "deb $archive $release main"
  grep -q -- '-updates ' <<<"$targets" && echo "deb $archive $release-updates main"
  [ -z "$security" ] || echo "deb $security $release-security main"
} >"$new/etc/apt/sources.list"
# `apt` throws away what it downloaded; the next root takes it from here instead.
echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' >"$new/etc/apt/apt.conf.d/90-keep"
[ -z "$reach" ] || echo "$reach" >"$new/etc/apt/apt.conf.d/91-machine"
rm -rf "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/*

authorities=(/usr/local/share/ca-certificates/*.crt)
if [ -e "${authorities[0]}" ]; then
  mkdir -p "$new/usr/local/share/ca-certificates"
  cp "${authorities[@]}" "$new/usr/local/share/ca-certificates/" # ca-certificates finds them when it is installed
  [ ! -x "$new/usr/sbin/update-ca-certificates" ] || chroot "$new" update-ca-certificates >/dev/null
fi

# debootstrap copies these two from the machine.
echo "$release" >"$new/etc/hostname"
echo 'nameserver 10.0.2.3' >"$new/etc/resolv.conf" # slirp4netns' own
printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost ip6-localhost\n' "$release" >"$new/etc/hosts"

chroot "$new" useradd --create-home --shell /bin/bash --groups sudo admin
echo '%sudo ALL=(ALL) NOPASSWD: ALL' >"$new/etc/sudoers.d/sudo"
chmod 440 "$new/etc/sudoers.d/sudo"

mv -T "$new" "$root"
echo "$root"
