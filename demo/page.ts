// How nginx serves the demo's page, at `/` of the example site. Open to everyone, since it holds nothing: who
// opens it has still to log in. Its policy must never allow anything of another origin, nor inline scripts.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const PAGE = join(import.meta.dirname, 'page')

// form-action: forms are the script's; where it does not load, a password goes nowhere. blob:, data: not even for
// images. connect-src 'self' means ws: of this origin too.
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "media-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

/** The page's files in a folder that nginx's workers can read, and the change to the site that serves them. */
export const layOutPage = (folder: string): [from: RegExp, to: string] => {
  // Written, not copied: a clone made under umask 077 has files that only their owner reads.
  mkdirSync(folder)
  for (const name of readdirSync(PAGE)) {
    writeFileSync(join(folder, name), readFileSync(join(PAGE, name)))
  }
  return [
    /^ {4}location \/ \{\n {8}return 404;\n {4}\}$/m,
    `    location / {
        root ${folder};
        index index.html;
        limit_except GET {
            deny all;
        }
        include postern/postern-headers.conf;
        add_header Content-Security-Policy "${POLICY}" always;
        add_header Referrer-Policy same-origin always;
        add_header Cross-Origin-Opener-Policy same-origin always;
        add_header Cache-Control no-cache always;
    }`,
  ]
}
