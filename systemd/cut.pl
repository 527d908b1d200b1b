#!/usr/bin/perl
# The cutter: has the kernel end TCP connections of nginx (netlink sock_diag, SOCK_DESTROY) for the daemon, which has
# neither the right nor the network for it. Whoever took the daemon over can end visitors' connections, and no more.
# In Perl because perl-base is on every Debian, and Node cannot open AF_NETLINK: no module from outside perl-base.
#
# systemd hands over the listening unix socket. Lines, any number in flight, answered in any order:
#   (on accept)                                    postern-cut 1 BOOT    BOOT: another one for each process
#   look ID PEER PEERPORT LOCAL LOCALPORT          ID COOKIE UNSENT      16 digits; bytes that the peer has not taken
#   cut ID PEER PEERPORT LOCAL LOCALPORT COOKIE    ID cut
#   either                                         ID gone               there is no such connection (any more)
#   either                                         ID refused WHY
# WHY is malformed (without an id, or too long, it closes the connection), port (not in POSTERN_CUT_PORTS), owner (not
# nginx's), unlooked (not looked up by this process, or long ago), ambiguous (on two links), rate (too many cuts in this
# second) or denied (the kernel cuts nothing: see the log). For the variables see postern-cut.service.
use strict;
use warnings;
use Errno qw(ENOENT);
use POSIX ();
use Socket qw(AF_INET AF_INET6 SOCK_RAW SOL_SOCKET SO_RCVBUF SO_RCVTIMEO inet_pton);
use constant { NETLINK => 16, SOCK_DIAG => 4, LOOK => 20, CUT => 21, REQUEST => 1, ACK => 4, ERROR => 2, TCP => 6 };
use constant { SO_RCVBUFFORCE => 33, SO_MARK => 36, CGROUP_ID => 21, ANY_COOKIE => "\xff" x 8 };
use constant { CLIENTS => 32, LINE => 160, READ => 16_384, UNREAD => 262_144, STALL => 5 };
use constant { BATCH => 100, CUTS_A_SECOND => 20_000, REMEMBERED => 100_000, LOGGED_A_MINUTE => 10 };

# Established and half-closed: what can still be sent on. Never LISTEN: where a connection is gone the kernel finds
# the socket that listens, and to destroy that one leaves nginx deaf until it is restarted.
my %alive = map { $_ => 1 } 1, 4, 5, 8, 9, 11; # and SYN_RECV (3) that has an inode: accepted by TCP Fast Open, its first ACK held back
my $end = qr/([0-9a-fA-F.:]{2,45}) ([0-9]{1,5})/;
my %ports = map { $_ => 1 } split ' ', $ENV{POSTERN_CUT_PORTS} // '';
my $folder = $ENV{POSTERN_CUT_CGROUP} // '/sys/fs/cgroup/system.slice/nginx.service';
my $user = $ENV{POSTERN_CUT_USER} // 'www-data';
my $worker = ($user =~ /\A[0-9]+\z/ ? $user : getpwnam $user) // -1;
my ($recent, $older) = ({}, {});    # of what was looked up: the request for it => its cookie
my ($logged, $second, $cuts, %clients, @orders, %counts, %said, $ended) = (0, 0, 0);
my $hello = sprintf "postern-cut 1 %08x%08x\n", rand 2**32, rand 2**32;

($ENV{LISTEN_PID} // 0) == $$ && ($ENV{LISTEN_FDS} // 0) == 1 or die "<3>systemd starts this: postern-cut.socket\n";
open my $listener, '+<&=', 3 or die "<3>no socket to listen on: $!\n";
$listener->blocking(0);
socket my $netlink, NETLINK, SOCK_RAW, SOCK_DIAG or die "<3>no netlink socket (RestrictAddressFamilies=): $!\n";
setsockopt $netlink, SOL_SOCKET, $_, pack 'i', 4 << 20 for SO_RCVBUF, SO_RCVBUFFORCE;
setsockopt $netlink, SOL_SOCKET, SO_RCVTIMEO, pack 'l! l!', 5, 0;
@SIG{ 'PIPE', 'TERM', 'INT' } = ('IGNORE', (sub { $ended = 1 }) x 2);
# Seen now, so that looks are refused too. ENOENT: it can, and nobody has this connection. A mark needs a cut's right.
my ($able) = ask(CUT, request(AF_INET, 1, 1, '', '', 0) . "\xfe" x 8);
my $cannot = setsockopt($netlink, SOL_SOCKET, SO_MARK, pack 'i', 0) ? $able->[0] : $! + 0;
my $incapable = $cannot == ENOENT ? undef : denial($cannot);
my ($alone_since, $minute) = (now(), now());
while (!$ended && now() - $alone_since < ($ENV{POSTERN_CUT_IDLE} // 10)) {
    my ($readable, $writable) = ('', '');
    vec($readable, 3, 1) = 1;
    for (values %clients) {
        vec($readable, $_->{fd}, 1) = 1 if length $_->{out} < UNREAD && !$_->{closing};
        vec($writable, $_->{fd}, 1) = 1 if length $_->{out};
    }
    $readable = '' if select($readable, $writable, undef, 1) <= 0;
    receive($_) for grep { vec $readable, $_->{fd}, 1 } values %clients;
    accept_all();
    while (my @batch = splice @orders, 0, BATCH) { carry_out(@batch) }
    deliver($_) for values %clients;
    $alone_since = now() if %clients;
    report() if now() - $minute >= 60;
}
report();

sub now { return (POSIX::times())[0] / 100 }    # seconds of a clock that nobody sets
sub note { my ($level, $text) = @_; $text =~ s/[^\x20-\x7e]/?/g; syswrite STDERR, "<$level>$text\n" }
sub refuse { my ($order, $why, $cure) = @_; complain($why, $order->{line}, $cure); answer($order, "refused $why") }
sub may_cut { ($second, $cuts) = (int now(), 0) if $second != int now(); return $cuts++ < CUTS_A_SECOND }
sub request { return pack 'C3 x L n2 a16 a16 L', shift, TCP, 0, ~0, @_ }    # but for the cookie
sub links { open my $list, '<', '/proc/self/net/if_inet6' or return; return map { hex((split)[1]) } <$list> }
sub settle { my ($o, $e) = @_; $e && $e != ENOENT ? refuse($o, 'denied', denial($e)) : answer($o, $e ? 'gone' : 'cut') }
sub summary { return join ', ', map { "$counts{$_} $_" } sort keys %counts }
sub report { note(6, summary()) if %counts; ($logged, $minute, %counts) = (0, now()) }
sub denial { local $! = $_[0]; return "nothing can be cut ($!): CAP_NET_ADMIN, no PrivateUsers=, INET_DIAG_DESTROY" }

sub answer {
    my ($order, $text, $counted) = @_;
    $counts{ $counted // $text }++;
    return !($order->{client}{out} .= "$order->{id} $text\n");    # false, as all that answers
}

# The first refusals of each minute have a line of their own; a cure is said once.
sub complain {
    my ($why, $what, $cure) = @_;
    note(4, sprintf 'refused (%s): %.160s', $why, $what) if $logged++ < LOGGED_A_MINUTE;
    return defined $cure && !$said{$cure}++ && note(4, "$cure: systemctl edit postern-cut") || 1;
}

sub accept_all {
    while (accept my $handle, $listener) {
        next if keys %clients >= CLIENTS && complain('clients', 'there are ' . CLIENTS);
        $handle->blocking(0);
        $clients{ fileno $handle } = { fd => fileno $handle, io => $handle, out => $hello, in => '', moved => now() };
    }
}

sub receive {
    my ($client) = @_;
    my $got = sysread $client->{io}, $client->{in}, READ, length $client->{in};
    $client->{closing} = 1 if defined $got ? !$got : !$!{EAGAIN} && !$!{EINTR};
    while (!$client->{closing} && $client->{in} =~ s/\A([^\n]*)\n//) { take($client, $1) }
    $client->{closing} ||= complain('malformed', $client->{in}) if length $client->{in} > LINE;
}

# A client that leaves its answers unread is not waited for.
sub deliver {
    my ($client) = @_;
    my $sent = $client->{out} eq '' ? 0 : syswrite $client->{io}, $client->{out};
    my $lost = !defined $sent && !$!{EAGAIN} && !$!{EINTR};
    if (defined $sent) { substr $client->{out}, 0, $sent, ''; $client->{moved} = now() }
    elsif (now() - $client->{moved} >= STALL) { $lost ||= complain('unread', 'answers to a client') }
    delete $clients{ $client->{fd} } if $lost || $client->{closing} && $client->{out} eq '';
}

sub take {
    my ($client, $line) = @_;
    my ($verb, $id, $peer, $peer_port, $local, $local_port, $cookie) =
        $line =~ /\A(look|cut) ([0-9]{1,10}) $end $end(?: ([0-9a-f]{16}))?\z/;
    my $order = { client => $client, id => $id, line => $line, cookie => $cookie };
    my ($peer_family, $peer_bytes) = address($peer // '');
    my ($family, $bytes) = address($local // '');
    if (!$family || $family != ($peer_family // 0) || $peer_port > 65_535 || ($verb eq 'cut') != defined $cookie) {
        ($order->{id}) = $line =~ /\A[a-z]+ ([0-9]{1,10})(?![0-9])/;
        return defined $order->{id} ? refuse($order, 'malformed') : ($client->{closing} = complain('malformed', $line));
    }
    return refuse($order, 'port', "POSTERN_CUT_PORTS=" . join ' ', sort keys %ports) if !$ports{$local_port};
    return refuse($order, 'denied', $incapable) if defined $incapable;
    return refuse($order, 'rate') if defined $cookie && !may_cut();
    # A socket of a link's own peer is found with its interface alone, which nginx does not say.
    my @links = $family == AF_INET6 && $peer_bytes =~ /\A\xfe[\x80-\xbf]/ ? links() : 0;
    $order->{requests} = [map { request($family, $local_port, $peer_port, $bytes, $peer_bytes, $_) } @links];
    push @orders, $order;
}

# A mapped address is asked for as the IPv4 one that it is: the kernel finds the same socket.
sub address {
    my $four = inet_pton(AF_INET, $_[0]);
    return (AF_INET, $four) if defined $four;
    my $six = inet_pton(AF_INET6, $_[0]) // return;
    return $six =~ s/\A\0{10}\xff\xff//s ? (AF_INET, $six) : (AF_INET6, $six);
}

# Both verbs look first: since it was last asked about, an address may have become another's.
sub carry_out {
    my $group = $folder eq 'none' ? undef : (stat $folder)[1];
    my $by_user = $folder eq 'none' || !defined $group && !-e '/sys/fs/cgroup/cgroup.controllers';
    my @found = ask(LOOK, map { map { $_ . ANY_COOKIE } @{ $_->{requests} } } @_);
    my @cut = grep { judge($_, $by_user, $group, splice @found, 0, @{ $_->{requests} }) } @_;
    my @cuts = ask(CUT, map { $_->{request} . pack 'H16', $_->{cookie} } @cut);
    settle($_, shift(@cuts)->[0]) for @cut;
}

# True for what is to be cut; everything else is answered.
sub judge {
    my ($order, $by_user, $group, @found, %sockets) = @_;
    for my $request (@{ $order->{requests} }) {
        my ($errno, $socket) = @{ shift @found };
        next if $errno == ENOENT;
        return settle($order, $errno) if $errno;
        my ($state, $ports, $cookie, $unsent, $uid, $inode) = unpack 'x C x2 a4 x36 H16 x8 L3', $socket;
        next if !($alive{$state} || $state == 3 && $inode) || ($order->{cookie} // $cookie) ne $cookie || $ports ne substr $request, 8, 4;
        my $known = grep { ($_->{$request} // '') eq $cookie } $recent, $older;
        # Half-closed ones have no inode, and with some kernels no user: whose they are was seen before.
        my $ours = $by_user ? $uid == $worker || !$inode && $known : ($group || -1) == group_of($socket);
        my $cure = $by_user ? "POSTERN_CUT_USER=$user" : "POSTERN_CUT_CGROUP=$folder" . ($group ? '' : ', not there');
        return refuse($order, 'owner', $cure) if !$ours;
        $order->{request} = $request;
        return $known || refuse($order, 'unlooked') if defined $order->{cookie};
        ($recent->{$request}, $sockets{$cookie}) = ($cookie, $unsent);
        ($older, $recent) = ($recent, {}) if keys %$recent >= REMEMBERED;
    }
    my ($cookie, @others) = %sockets;
    return settle($order, ENOENT) if !defined $cookie;
    return @others > 1 ? refuse($order, 'ambiguous') : answer($order, "$cookie @others", 'looked up');
}

sub group_of {    # its number, which is the inode of its folder
    for (my $rest = substr $_[0], 72; length $rest >= 12;) {
        my ($length, $type, $number) = unpack 'S S Q', $rest;
        return $number if $type == CGROUP_ID;
        substr $rest, 0, $length + 3 & ~3 || 4, '';
    }
    return 0;
}

# One datagram of a hundred requests, which the kernel has answered when send returns: by [0, what it is] or [errno].
sub ask {
    my ($verb, @requests) = @_;
    return map { ask($verb, splice @requests, 0, BATCH) } 0 .. $#requests / BATCH if @requests > BATCH;
    my ($flags, $number, @answers) = ($verb == CUT ? REQUEST | ACK : REQUEST, 0);
    my $datagram = join '', map { pack('L S S L L', 16 + length, $verb, $flags, $number++, 0) . $_ } @requests;
    !@requests or send $netlink, $datagram, 0, pack 'S S L L', NETLINK, 0, 0, 0 or die "<3>netlink: $!\n";
    for (@requests) {
        defined recv $netlink, my $message, 65_536, 0 or die "<3>netlink: $!\n";
        my ($type, $of) = unpack 'x4 S x2 L', $message;
        $answers[$of] = $type == ERROR ? [-unpack 'x16 l', $message] : [0, substr $message, 16];
    }
    return @answers;
}
