/*
 * What this machine does when it goes on after it was frozen.
 *
 * usage: thaw PORT
 *
 * From the port, a virtio serial port that the host writes to, it reads lines SEED [NANOSECONDS]. With SEED, 32
 * bytes in hexadecimal, it seeds the kernel's random numbers anew: forks of one machine would otherwise draw
 * the same, as this kernel has no driver for the VM generation id (CONFIG_VMGENID), which does that by itself
 * elsewhere; random(4). It sets the clock, which stood still, to so many nanoseconds after 1970-01-01 00:00
 * UTC. And it answers `ok`, or what went wrong.
 *
 * All that runs first after a fork has yet to be translated by the emulator: so it is static, has all it needs
 * open, and says only later to the kernel's log that it was here, for that wakes others.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { SEED = 32, LINE_MAX_BYTES = 128, SECOND = 1000 * 1000 * 1000, LATER_MS = 2000 };

static int urandom;

static int hex_digit(char digit)
{
	static const char digits[] = "0123456789abcdef";
	const char *found = digit ? strchr(digits, digit) : NULL;

	return found ? (int)(found - digits) : -1;
}

static const char *thaw(const char *line)
{
	struct {
		int entropy_bits;
		int size;
		unsigned char bytes[SEED];
	} seed = { .entropy_bits = SEED * 8, .size = SEED };

	for (int at = 0; at < SEED; at++) {
		int high = hex_digit(line[0]), low = high < 0 ? -1 : hex_digit(line[1]);

		if (low < 0)
			return "error: the seed is not 32 bytes in hexadecimal";
		seed.bytes[at] = high << 4 | low;
		line += 2;
	}
	if (ioctl(urandom, RNDADDENTROPY, &seed) || ioctl(urandom, RNDRESEEDCRNG))
		return "error: the random numbers cannot be seeded";
	if (*line == ' ') {
		char *end;
		long long time = strtoll(line + 1, &end, 10);
		struct timespec to = { .tv_sec = time / SECOND, .tv_nsec = time % SECOND };

		if (*end || end == line + 1 || time < 0 || clock_settime(CLOCK_REALTIME, &to))
			return "error: the clock cannot be set";
	} else if (*line) {
		return "error: the seed is not 32 bytes in hexadecimal";
	}
	return "ok";
}

/* Reads up to a line's end; what is too long is no request. */
static int read_line(int port, char *line)
{
	size_t size = 0;
	char byte;

	for (;;) {
		ssize_t got = read(port, &byte, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		if (byte == '\n')
			break;
		if (size < LINE_MAX_BYTES - 1)
			line[size++] = byte;
	}
	line[size] = 0;
	return 0;
}

int main(int argc, char **argv)
{
	static const char said[] = "<5>steading: random numbers are seeded anew\n";
	const struct timespec pause = { .tv_sec = 1 };
	char line[LINE_MAX_BYTES];
	int log, to_say = 0;
	struct pollfd port = { .events = POLLIN };

	if (argc != 2) {
		fprintf(stderr, "usage: thaw PORT\n");
		return 2;
	}
	port.fd = open(argv[1], O_RDWR | O_CLOEXEC);
	urandom = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (port.fd < 0 || urandom < 0) {
		perror(port.fd < 0 ? argv[1] : "/dev/urandom");
		return 1;
	}
	for (;;) {
		int ready = poll(&port, 1, to_say ? LATER_MS : -1);

		if (ready == 0) {
			to_say = 0;
			if (write(log, said, sizeof said - 1) < 0)
				perror("/dev/kmsg");
		} else if (ready > 0 && port.revents & POLLIN && read_line(port.fd, line) == 0) {
			const char *answer = thaw(line);

			dprintf(port.fd, "%s\n", answer);
			to_say = !strcmp(answer, "ok");
		} else {
			/* There is nobody at the other end. */
			nanosleep(&pause, NULL);
		}
	}
}
