#!/bin/sh
# Puts in place what the tests need beyond Go and make: a database server, a
# browser, other people's certificate tools, a token in software and the C compiler that
# its library needs, a Japanese font, a service manager, npm packages.
#
# It is quick when everything is there, so `make test` runs it every time. It
# installs Debian packages as root or through a sudo that asks nothing. Where it
# may not, it says exactly what is missing and how to get it, and fails: a test
# that cannot run is no pass.
#
#   scripts/setup-tests.sh           install what is missing
#   scripts/setup-tests.sh --check   say what is missing, install nothing
set -eu
cd "$(dirname "$0")/.."

only_check=false
case "${1:-}" in
'') ;;
--check) only_check=true ;;
*)
	echo "usage: $0 [--check]" >&2
	exit 2
	;;
esac

packages=''

# want PACKAGE PROBE...: asks for the Debian package unless every probe is there: a
# command on the path, or a file by its name (which may be a pattern).
want() {
	package=$1
	shift
	for probe in "$@"; do
		case $probe in
		/*)
			for file in $probe; do
				[ -e "$file" ] || packages="$packages $package"
				break
			done
			;;
		*) command -v "$probe" >/dev/null 2>&1 || packages="$packages $package" ;;
		esac
	done
}

want ca-certificates /etc/ssl/certs/ca-certificates.crt
want chromium chromium
want curl curl
want default-jdk-headless javac
want fonts-morisawa-bizud-gothic /usr/share/fonts/truetype/bizud-gothic/BIZUDGothic-Regular.ttf
want gcc gcc
want git git
want gnutls-bin certtool ocsptool
want iproute2 ip
want libc6-dev /usr/include/stdlib.h
want libnss3-tools certutil pk12util ocspclnt
want nftables nft
want nodejs node
want npm npm
want openssl openssl
want postgresql '/usr/lib/postgresql/*/bin/initdb'
want procps ps
want softhsm2 softhsm2-util
want squid /usr/sbin/squid
want systemd systemd-analyze /lib/systemd/systemd
want util-linux unshare runuser setpriv nsenter

packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
packages=${packages% }

explain() {
	echo "tests need Debian packages that are not here: $packages" >&2
	echo "hint: sudo apt-get install --no-install-recommends $packages" >&2
	exit 1
}

if [ -n "$packages" ]; then
	$only_check && explain
	command -v apt-get >/dev/null 2>&1 || explain
	sudo=''
	if [ "$(id -u)" -ne 0 ]; then
		sudo -n true 2>/dev/null || explain
		sudo='sudo -n'
	fi
	echo "installing Debian packages: $packages"
	export DEBIAN_FRONTEND=noninteractive
	install='apt-get -qq -y -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 install --no-install-recommends'
	$sudo apt-get -qq update
	case " $packages " in
	*' postgresql '*)
		# The tests start a server of their own in a directory of their own; the
		# machine is not to get a running one just because it was installed.
		# shellcheck disable=SC2086
		$sudo env DEBIAN_FRONTEND=noninteractive $install postgresql-common >/dev/null
		$sudo sed -i 's/^#*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
		;;
	esac
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive $install $packages >/dev/null
	case " $packages " in
	*' squid '*) # as above: the tests start one of their own
		[ ! -d /run/systemd/system ] || $sudo systemctl --quiet disable --now squid
		;;
	esac
fi

node_major=$(node -p 'process.versions.node.split(".")[0]')
if [ "$node_major" -lt 18 ]; then
	echo "tests need Node.js 18 or newer; this one is $(node --version)" >&2
	exit 1
fi

# npm ci empties node_modules first, so it runs only when the lock file is newer
# than what was installed from it.
if [ ! e2e/node_modules/.package-lock.json -nt e2e/package-lock.json ]; then
	if $only_check; then
		echo "tests need the npm packages of e2e/" >&2
		echo "hint: (cd e2e && npm ci --ignore-scripts)" >&2
		exit 1
	fi
	echo "installing npm packages of e2e/"
	(cd e2e && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
	touch e2e/node_modules/.package-lock.json
fi
