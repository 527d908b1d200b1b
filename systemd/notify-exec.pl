#!/usr/bin/perl
# Runs a program with systemd's notification socket open as NOTIFY_FD, in the same process: Node cannot open a
# datagram socket in the file system. It must never keep the program from running: without the socket it runs too.
use strict;
use warnings;
use Fcntl qw(F_SETFD);
use Socket qw(AF_UNIX SOCK_DGRAM pack_sockaddr_un);

delete $ENV{NOTIFY_FD};
if (my $path = $ENV{NOTIFY_SOCKET}) {
    $path =~ s/^@/\0/;    # an abstract socket
    my $socket;
    if (socket($socket, AF_UNIX, SOCK_DGRAM, 0) && connect($socket, pack_sockaddr_un($path))) {
        fcntl($socket, F_SETFD, 0);
        $ENV{NOTIFY_FD} = fileno $socket;
        run();
    }
    warn "notify-exec.pl: $ENV{NOTIFY_SOCKET}: $!\n";
}
run();

sub run {
    no warnings 'exec';    # said below
    exec { $ARGV[0] } @ARGV or die "notify-exec.pl: cannot run $ARGV[0]: $!\n";
}
