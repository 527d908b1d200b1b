# Node 24, as package-lock.json has it, for every script here. Sourced, by sh and by bash; it only defines functions.

# npm's name for this machine's processor.
node_cpu() {
  case $(uname -m) in
  x86_64) echo x64 ;;
  aarch64) echo arm64 ;;
  *)
    echo "${0##*/}: there is no Node for $(uname -m) in package-lock.json: take an x86_64 or an aarch64" >&2
    return 1
    ;;
  esac
}

# use_node SOURCE: Node first in PATH, then the tools. From its own folder: npm 9 and 10 leave node_modules/.bin/node out.
use_node() {
  node_bin=$1/node_modules/node-linux-$(node_cpu)/bin || return 1
  if [ ! -x "$node_bin/node" ]; then
    echo "${0##*/}: Node is not in $1/node_modules: run $1/script/setup" >&2
    return 1
  fi
  PATH=$node_bin:$1/node_modules/.bin:$PATH
  export PATH
}

# npm where it fetches. By itself it would wait for 78 s where there is no network; and behind a company's own
# authority Node, which has a list of its own, would trust nobody, and npm leave out without a word what is optional.
from_registry() {
  authorities=/etc/ssl/certs/ca-certificates.crt
  if [ -z "${NODE_EXTRA_CA_CERTS:-}" ] && [ -e $authorities ]; then
    export NODE_EXTRA_CA_CERTS=$authorities
  fi
  npm --ignore-scripts --prefer-offline --loglevel=error \
    --fetch-retries=2 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=4000 "$@"
}

# fetch_node CPU FOLDER: fills FOLDER with that one package of the lock: npm 9 ignores --cpu, and what npm installs
# fits the Node that it runs on.
fetch_node() {
  locked=$(node -p "
    const { version, integrity } = require('./package-lock.json').packages['node_modules/node-linux-$1']
    version + ' ' + Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex')") || return 1
  echo "${0##*/}: fetching Node ${locked% *} for $1 by npm" >&2
  # A short answer first, for which nobody waits long: npm's time limit holds for a whole download.
  from_registry view "node-linux-$1@${locked% *}" version --fetch-timeout=15000 --fetch-retries=1 >/dev/null || return 1
  tarball=$(from_registry pack "node-linux-$1@${locked% *}" --pack-destination "$2") || return 1
  if ! echo "${locked#* }  $2/$tarball" | sha512sum --check --status; then
    echo "${0##*/}: node-linux-$1 is not what package-lock.json has the hash of: look at npm's registry ('npm config get registry')" >&2
    return 1
  fi
  # Without its headers and manuals: nobody asks for these 2,700 files.
  tar -xzf "$2/$tarball" -C "$2" --strip-components=1 --no-same-owner \
    package/bin/node package/package.json package/LICENSE && rm "$2/$tarball"
}
