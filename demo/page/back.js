// Where somebody came from whom nginx sent here to log in: it stands behind the #, so that no log has it. It must never
// lead to another site, whoever wrote it.

/** The address to go back to; undefined where there is none, or one of another site. */
export const readBack = ({ hash, origin }) => {
  const path = hash.slice(1)
  // What `//host`, `/\host` or `/<tab>/host` is, the browser's own reading says.
  if (!path.startsWith('/') || !URL.canParse(path, origin)) return undefined
  const url = new URL(path, origin)
  return url.origin === origin ? url.href : undefined
}

/** Whether this page has just sent them there: who is logged in then would go to and fro for ever. */
export const wasInVain = ({ referrer }, { origin, pathname }) => referrer === origin + pathname
