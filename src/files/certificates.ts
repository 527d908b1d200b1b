// Which authorities are trusted: the system's, as with curl, or those of one file. Decided here alone, so that no
// environment variable can switch the check off, and each refusal names the same cure.

import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls'

/** For the options of `https.request` and `tls.connect`, as it stands. */
export interface Trust {
  /** Shared: reading 145 authorities takes 7 ms and 1 MB, for every connection that is given a list of them. */
  readonly secureContext: SecureContext
  /** Explicit, or NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment would let any certificate pass. */
  readonly rejectUnauthorized: true
}

const trust = (ca: string | string[]): Trust => ({
  secureContext: createSecureContext({ ca }),
  rejectUnauthorized: true,
})

let system: Trust | undefined

/**
 * Node by itself knows only the list that it was built with. It reads the system's as OpenSSL does: SSL_CERT_FILE and
 * every file of SSL_CERT_DIR (one folder) or /etc/ssl/certs. That takes 60 to 140 ms on Debian, once a process.
 */
export const systemTrust = (): Trust => {
  if (system) return system
  const found = new Set(getCACertificates('system')) // each three times on Debian: bundle, file and hashed link
  if (found.size === 0) for (const one of getCACertificates('bundled')) found.add(one)
  for (const one of getCACertificates('extra')) found.add(one) // NODE_EXTRA_CA_CERTS
  system = trust([...found])
  return system
}

/**
 * The authorities of a PEM file, and no others. `name`: the setting or option that names it; messages leave the file's
 * own name out, since it may be a password by mistake.
 */
export const readTrust = (file: string, name: string): Trust | { problem: string } => {
  try {
    const ca = readFileSync(file, 'utf8')
    void new X509Certificate(ca) // Node silently takes a file without any certificate to mean "trust nobody"
    return trust(ca)
  } catch (error) {
    const { code = '', syscall } = error as NodeJS.ErrnoException
    const why = syscall === undefined ? 'holds no PEM certificate' : `cannot be read (${code})`
    return {
      problem: `${name}: ${why}: give the PEM file of the authority that signed the server's certificate`,
    }
  }
}

/** The list of authorities lacks the right one. */
const UNKNOWN: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: 'is self-signed',
  SELF_SIGNED_CERT_IN_CHAIN: 'comes from an authority that is not trusted here',
  UNABLE_TO_GET_ISSUER_CERT: 'comes from an authority that is not trusted here',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'comes from an authority that is not trusted here',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'comes from an authority that is not trusted here, or the server does not send its chain',
}

const OTHERS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'has expired: renew it',
  CERT_NOT_YET_VALID: 'is not valid yet: compare the clocks of both machines (date -u)',
  CERT_SIGNATURE_FAILURE: 'has a wrong signature: have it issued again',
  ERR_TLS_CERT_ALTNAME_INVALID: 'is made out to another name: use that name in the address',
}

/**
 * What is wrong with a server's certificate, and the cure, by Node's code; undefined if it is something else. `name`: the
 * setting or option that names authorities, if there is one. `restart`: for the daemon, which reads the system's list
 * only when it starts.
 */
export const findCertificateFault = (
  code: string,
  { name, restart = false }: { name?: string; restart?: boolean } = {},
): string | undefined => {
  const unknown = UNKNOWN[code]
  if (unknown === undefined) return OTHERS[code] && `its certificate ${OTHERS[code]}`
  const own = name === undefined ? '' : `name the file of its authority in ${name}; without that, `
  return `its certificate ${unknown}: ${own}put its authority as a .crt file into /usr/local/share/ca-certificates and run update-ca-certificates${restart ? '; then restart Postern' : ''}`
}
