/*
 * Asks for a router advertisement as soon as a network card has its link-local address.
 *
 * systemd-networkd waits half a second to one and a half before it asks (it starts its first
 * solicitation on a coarse timer), which is longer than it takes the whole network to come up.
 * Whose question an advertisement answers does not matter to it. It may not be listening yet when
 * the first answer comes, hence the repetition.
 *
 * Ends when some card has a global address, or after a few seconds.
 */
#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <netinet/icmp6.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	INTERVAL_MS = 40,
	/* Without any network the boot must not wait for long. */
	LIMIT_MS = 3000,
	MAX_CARDS = 8,
};

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
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
	long end = now_ms() + LIMIT_MS;
	char buffer[16384];

	/* Answers are networkd's business. */
	ICMP6_FILTER_SETBLOCKALL(&none);
	setsockopt(icmp, IPPROTO_ICMPV6, ICMP6_FILTER, &none, sizeof none);
	setsockopt(icmp, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops);
	if (netlink < 0 || icmp < 0 || bind(netlink, (const struct sockaddr *)&address, sizeof address))
		return 1;
	/* The addresses that are there already, then those that come. */
	send(netlink, &dump, sizeof dump, 0);

	while (now_ms() < end) {
		if (poll(&ready, 1, count ? INTERVAL_MS : LIMIT_MS) > 0) {
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
				if (!known && count < MAX_CARDS)
					cards[count++] = body->ifa_index;
			}
		}
		for (unsigned i = 0; i < count; i++)
			solicit(icmp, cards[i]);
	}
	return 0;
}
