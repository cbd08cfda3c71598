# Takes connections at port 9000, greets each with a byte, and keeps it until its peer closes it.
use strict;
use warnings;
use Socket;
use Fcntl;

socket(my $listener, AF_INET6, SOCK_STREAM, 0) or die "socket: $!";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1) or die "setsockopt: $!";
bind($listener, pack_sockaddr_in6(9000, Socket::IN6ADDR_ANY)) or die "bind: $!";
listen($listener, 4096) or die "listen: $!";
fcntl($listener, F_SETFL, O_NONBLOCK) or die "fcntl: $!";

my %open;
my $wanted = '';
vec($wanted, fileno($listener), 1) = 1;
$| = 1;
print "ready\n";
while (1) {
    select(my $ready = $wanted, undef, undef, undef);
    while (accept(my $connection, $listener)) {
        syswrite($connection, '+');
        $open{fileno($connection)} = $connection;
        vec($wanted, fileno($connection), 1) = 1;
    }
    for my $number (keys %open) {
        next unless vec($ready, $number, 1);
        next if sysread($open{$number}, my $byte, 1);
        vec($wanted, $number, 1) = 0;
        delete $open{$number};
    }
}
