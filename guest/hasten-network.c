/*
 * Two things that make the network come up sooner.
 *
 * Has the kernel announce again the network cards that were there before udev. (udevadm would do, but
 * takes longer to start than all of this to run.)
 *
 * Asks for a router advertisement as soon as a card has its link-local address. systemd-networkd
 * waits half a second to one and a half before it asks (its first solicitation is on a coarse timer),
 * longer than it takes the whole network to come up. Whose question an advertisement answers does not
 * matter to it. It may not be listening yet when the first answer comes, hence the repetition.
 *
 * Ends when some card has a global address, or when there is no card or no answer.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <netinet/icmp6.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	INTERVAL_MS = 40,
	/* How long networkd may take, many VMs starting on one machine, to bring a card up; */
	CARD_LIMIT_MS = 10000,
	/* and how long a router, if there is one, to answer. Late devices wait for this. */
	ROUTER_LIMIT_MS = 1500,
	MAX_CARDS = 8,
};

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Returns how many there are. */
static unsigned announce_cards(void)
{
	unsigned count = 0;
	DIR *cards = opendir("/sys/class/net");
	struct dirent *card;

	while (cards && (card = readdir(cards))) {
		char path[300];
		int fd;

		if (card->d_name[0] == '.' || !strcmp(card->d_name, "lo"))
			continue;
		snprintf(path, sizeof path, "/sys/class/net/%s/uevent", card->d_name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "add", 3) != 3)
			perror(path);
		close(fd);
		count++;
	}
	if (cards)
		closedir(cards);
	return count;
}

static void solicit(int icmp, unsigned card)
{
	/* RFC 4861, 4.1; the kernel fills in the checksum (RFC 3542, 3.1). */
	struct nd_router_solicit message = { .nd_rs_type = ND_ROUTER_SOLICIT };
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_scope_id = card };

	inet_pton(AF_INET6, "ff02::2", &to.sin6_addr);
	sendto(icmp, &message, sizeof message, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
}

int main(void)
{
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV6_IFADDR };
	struct { struct nlmsghdr header; struct ifaddrmsg body; } dump = {
		.header = { .nlmsg_len = sizeof dump, .nlmsg_type = RTM_GETADDR, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.body = { .ifa_family = AF_INET6 },
	};
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int icmp = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6), hops = 255;
	struct icmp6_filter none;
	struct pollfd ready = { .fd = netlink, .events = POLLIN };
	unsigned cards[MAX_CARDS], count = 0;
	long end = now_ms() + CARD_LIMIT_MS;
	char buffer[16384];

	if (announce_cards() == 0)
		return 0;

	/* Answers are networkd's business. */
	ICMP6_FILTER_SETBLOCKALL(&none);
	setsockopt(icmp, IPPROTO_ICMPV6, ICMP6_FILTER, &none, sizeof none);
	setsockopt(icmp, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops);
	if (netlink < 0 || icmp < 0 || bind(netlink, (const struct sockaddr *)&address, sizeof address))
		return 1;
	/* The addresses that are there already, then those that come. */
	send(netlink, &dump, sizeof dump, 0);

	while (now_ms() < end) {
		if (poll(&ready, 1, count ? INTERVAL_MS : CARD_LIMIT_MS) > 0) {
			int length = recv(netlink, buffer, sizeof buffer, MSG_DONTWAIT);
			struct nlmsghdr *message = (struct nlmsghdr *)buffer;

			for (; NLMSG_OK(message, (unsigned)(length < 0 ? 0 : length)); message = NLMSG_NEXT(message, length)) {
				const struct ifaddrmsg *body = NLMSG_DATA(message);
				bool known = false;

				if (message->nlmsg_type != RTM_NEWADDR || body->ifa_flags & IFA_F_TENTATIVE)
					continue;
				if (body->ifa_scope == RT_SCOPE_UNIVERSE)
					return 0;
				if (body->ifa_scope != RT_SCOPE_LINK)
					continue;
				for (unsigned i = 0; i < count; i++)
					known |= cards[i] == body->ifa_index;
				if (!known && count < MAX_CARDS) {
					cards[count++] = body->ifa_index;
					end = now_ms() + ROUTER_LIMIT_MS;
				}
			}
		}
		for (unsigned i = 0; i < count; i++)
			solicit(icmp, cards[i]);
	}
	return 0;
}
