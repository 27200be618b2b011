# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Shell functions shared by the scripts of resources/ and tests/host/: the cache, messages, and packages fetched without
# installing them. To be sourced by bash with `set -euo pipefail` in force.

cache=${BANTAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bantam}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

need_tools() {
	local tool missing=()
	for tool in "$@"; do
		command -v "$tool" >/dev/null || missing+=("$tool")
	done
	[ ${#missing[@]} -eq 0 ] || die "missing tools: ${missing[*]} (resources/host/deps installs them)"
}

# Makes stdout of a script carry its result alone: everything else a called program prints goes to stderr.
results_on_fd3() { exec 3>&1 1>&2; }

# Runs one builder at a time per cache entry: two callers at once would otherwise build the same thing twice.
lock_cache() {
	mkdir -p "$cache"
	exec 9>"$cache/.lock-$1"
	flock -n 9 && return
	say "waiting for another builder of $1"
	flock 9
}

# apt with package lists of its own in the cache: works without root, whatever the age of the machine's lists, and changes
# nothing of the machine. The sources are the machine's own; the kind "source" stands for their source packages, "next"
# for Debian 13 with its backports, as if nothing were installed.
private_apt() {
	local kind=$1 state=$cache/apt/$1
	shift
	mkdir -p "$state/lists/partial" "$state/archives/partial" "$state/sources"
	[ "$kind" != next ] || : >"$state/status"
	if [ -z "$(find "$state/updated" -mtime -1 2>/dev/null)" ]; then
		copy_sources "$kind" "$state/sources"
		apt_with "$state" update -qq || say "some package lists could not be refreshed"
		touch "$state/updated"
	fi
	apt_with "$state" "$@"
}

# The same, and once more with new lists: what is listed may have been replaced since.
private_apt_twice() {
	private_apt "$@" && return
	rm -f "$cache/apt/$1/updated"
	private_apt "$@"
}

apt_with() {
	local state=$1 status=/var/lib/dpkg/status
	shift
	[ ! -e "$state/status" ] || status=$state/status
	apt-get -o Dir::State="$state" -o Dir::State::status="$status" -o Dir::Cache="$state" \
		-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$state/sources" \
		-o APT::Sandbox::User= -o APT::Get::List-Cleanup=false "$@"
}

copy_sources() {
	local kind=$1 to=$2 file
	rm -f "$to"/*
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ -f "$file" ] || continue
		cp "$file" "$to/"
		case $kind/$file in
		source/*.sources) sed -i -E 's/^Types:.*/Types: deb-src/' "$to/${file##*/}" ;;
		source/*) sed -i -nE 's/^deb(-src)?[[:space:]]/deb-src /p' "$to/${file##*/}" ;;
		next/*.sources) sed -i -E "s/^Suites:(.* )?(bookworm|trixie)( .*)?\$/Suites: trixie trixie-backports/
			s/^Suites:.*-security.*/&\nEnabled: no/" "$to/${file##*/}" ;;
		next/*) sed -i -nE "s/^(deb[[:space:]].*[[:space:]])(bookworm|trixie)([[:space:]].*)/\1trixie\3\n\1trixie-backports\3/p" "$to/${file##*/}" ;;
		esac
	done
}

# package_dependency KIND META: the kernel package that a Debian meta package stands for.
package_dependency() {
	local state=$cache/apt/$1
	private_apt "$1" indextargets >/dev/null
	apt-cache -o Dir::State="$state" -o Dir::Cache="$state" -o Dir::Etc::sourcelist=/dev/null \
		-o Dir::Etc::sourceparts="$state/sources" depends --no-recommends --no-suggests "$2" |
		sed -nE 's/^ +Depends: (linux-image-[0-9][^ ]*).*/\1/p' | head -n 1
}

# fetch_package KIND NAME DIR: downloads a binary package and unpacks it below DIR, without installing it. Prints its version.
fetch_package() {
	local kind=$1 name=$2 dir=$3 work
	need_tools apt-get dpkg-deb
	work=$(mktemp -d "$cache/.fetch-XXXXXX")
	(cd "$work" && private_apt_twice "$kind" download -qq "$name") || { rm -rf "$work"; die "cannot download the package $name"; }
	mkdir -p "$dir"
	dpkg-deb -x "$work"/*.deb "$dir"
	dpkg-deb -f "$work"/*.deb Version
	rm -rf "$work"
}

# fetch_next_release DIR NAME...: packages of Debian 13's backports and all that they need, down to the C library,
# unpacked below DIR. next_release_words() says how to run it.
fetch_next_release() {
	local dir=$1 state=$cache/apt/next package
	shift
	need_tools apt-get dpkg-deb
	private_apt_twice next install -y -qq --download-only --no-install-recommends -t trixie-backports "$@" >/dev/null || return 1
	mkdir -p "$dir"
	for package in "$state"/archives/*.deb; do
		dpkg-deb -x "$package" "$dir" || return 1
	done
	rm -f "$state"/archives/*.deb
}

# next_release_words DIR PROGRAM: the start of a command line, a word a line, that runs a program unpacked below DIR.
next_release_words() {
	local libraries=$1/usr/lib/x86_64-linux-gnu
	printf '%s\n' "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$1/usr/bin/$2"
}
