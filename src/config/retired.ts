// Settings of earlier versions, by what holds instead. A file that still has one is read, so that no upgrade ends the
// daemon; check-config and the log name it, so that nobody goes on relying on it.

export const retired: Readonly<Record<string, string>> = {
  'http_users.max_in_flight': '32 questions under way at once',
  'issuers.*.leeway': '5 seconds',
  'listen.max_connections': '4096 connections',
  'listen.socket_mode': 'the mode is 0660, for the group of listen.socket_group',
  'passwords.queue': '64 logins may wait',
  'throttle.window': '900 seconds',
  'tickets.ttl':
    '30 seconds where the client asks for no other life, at most tickets.max_ttl; tickets.connect_ttl for SIP',
  'tokens.leeway': '5 seconds',
}

/** Sections that were called otherwise in the version before; the old name is read until the next one. */
export const formerSections: Readonly<Record<string, string>> = { streams: 'subscriptions' }
