// A recording in an <audio> element, which can send no header: by cookie, or by a ticket for this one file. A
// ticket may end while somebody listens; the next seek is refused then, and playing goes on with a new one.
// What was loaded must never stay playable after the session.

const RECORDINGS = '/pbxcore/softphone/recordings/'
const address = (path) => path.split('/').map(encodeURIComponent).join('/')
// As a ticket names it: a star of a name is no wildcard there.
const pattern = (path) => address(path).replaceAll('*', '%2A')

/** `show(state, detail)`: empty, loading, ready, refused, missing, offline. */
export const createPlayer = ({ audio, session, proof, show, note }) => {
  let attempt = 0
  let path
  let renewals = 0

  const load = async (at, playing) => {
    const mine = ++attempt
    show('loading')
    let query = ''
    if (proof() === 'ticket') {
      // Many uses within its life (every seek is a request), for this file alone.
      const wanted = { action: 'read', resource: `recordings/${pattern(path)}` }
      const { status, body } = await session.ask('POST', '/auth/ticket', wanted)
      if (mine !== attempt) return
      if (status !== 200) return show(status === 403 ? 'refused' : 'offline')
      query = `?ticket=${body.ticket}`
      note(`ticket for ${path.split('/').at(-1)}, good for ${body.expires_in} s`)
    }
    audio.src = `${RECORDINGS}${address(path)}${query}`
    audio.currentTime = at
    if (playing) audio.play().catch(() => {})
  }

  audio.addEventListener('loadedmetadata', () => {
    renewals = 0
    show('ready')
  })
  audio.addEventListener('error', async () => {
    if (path === undefined) return
    const mine = attempt
    const { currentTime, paused } = audio
    // The element does not say what the server said. Asking is cheap.
    const response = await fetch(`${RECORDINGS}${address(path)}`, { method: 'HEAD' }).catch(
      () => undefined,
    )
    if (mine !== attempt) return
    const status = response?.status ?? 0
    if (status === 404) return show('missing')
    if (status === 403) return show('refused')
    if (status === 0 || status >= 500) return show('offline')
    // Fine by the cookie, so it was the ticket; or the token has ended, and asking renews it.
    const { status: known } = await session.ask('GET', '/profile')
    if (mine !== attempt || known === 401) return
    if (known !== 200 || renewals++ > 1) return show('offline')
    note('the recording was refused half-way: again, from the same place')
    void load(currentTime, !paused)
  })

  return {
    open(next) {
      path = next
      renewals = 0
      void load(0, false)
    },
    close() {
      attempt++
      path = undefined
      audio.pause()
      audio.removeAttribute('src')
      audio.load()
      show('empty')
    },
  }
}
