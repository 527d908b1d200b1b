// The cutter as systemd would start it, on a unix socket of its own. Only root may have the kernel end connections.

import { join } from 'node:path'

const PROGRAM = join(import.meta.dirname, '..', 'systemd', 'cut.pl')

// Perl keeps descriptors up to $^F over an exec: the socket becomes number 3, and the process stays the same.
const LISTEN = `
use Socket; use POSIX ();
my ($path, $socket) = shift; unlink $path; umask 0177; $^F = 3;
socket($socket, AF_UNIX, SOCK_STREAM, 0) && bind($socket, pack_sockaddr_un($path)) && listen($socket, 128) or die $!;
POSIX::dup2(fileno $socket, 3);
@ENV{'LISTEN_PID', 'LISTEN_FDS'} = ($$, 1);
exec @ARGV or die $!;`

/** The program and its arguments; `before`: what it is started by. It says in its environment where it may cut. */
export const cutterCommand = (socket: string, before: readonly string[] = []): string[] => [
  '/usr/bin/perl',
  '-e',
  LISTEN,
  socket,
  ...before,
  '/usr/bin/perl',
  PROGRAM,
]
