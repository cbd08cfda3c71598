/*
 * What this machine does when it goes on after it was frozen; the guest agent is asked to run it.
 *
 * usage: thaw SEED [NANOSECONDS]
 *
 * It sets the clock, which stood still, to so many nanoseconds after 1970-01-01 00:00 UTC. And it seeds the
 * kernel's random numbers anew with SEED, 32 bytes in hexadecimal, as forks of one machine would otherwise
 * draw the same numbers: this kernel has no driver for the VM generation id (CONFIG_VMGENID), which does it
 * by itself elsewhere. random(4).
 *
 * One program, and a static one: all that runs first after a fork has yet to be translated by the emulator.
 */
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { SEED = 32 };

static int hex_digit(char digit)
{
	static const char digits[] = "0123456789abcdef";
	const char *found = digit ? strchr(digits, digit) : NULL;

	return found ? (int)(found - digits) : -1;
}

static int set_clock(const char *nanoseconds)
{
	enum { SECOND = 1000 * 1000 * 1000 };
	char *end;
	long long time = strtoll(nanoseconds, &end, 10);
	struct timespec to = { .tv_sec = time / SECOND, .tv_nsec = time % SECOND };

	if (*end || end == nanoseconds || time < 0)
		return 2;
	if (clock_settime(CLOCK_REALTIME, &to)) {
		perror("the clock");
		return 1;
	}
	return 0;
}

static int reseed(const char *hex)
{
	static const char said[] = "<5>steading: random numbers are seeded anew\n";
	struct {
		int entropy_bits;
		int size;
		unsigned char bytes[SEED];
	} seed = { .entropy_bits = SEED * 8, .size = SEED };
	int device = open("/dev/urandom", O_RDWR | O_CLOEXEC), log;

	if (strlen(hex) != 2 * SEED)
		return 2;
	for (int at = 0; at < SEED; at++) {
		int high = hex_digit(hex[2 * at]), low = hex_digit(hex[2 * at + 1]);

		if (high < 0 || low < 0)
			return 2;
		seed.bytes[at] = high << 4 | low;
	}
	if (device < 0 || ioctl(device, RNDADDENTROPY, &seed) || ioctl(device, RNDRESEEDCRNG)) {
		perror("/dev/urandom");
		return 1;
	}
	log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	return log < 0 || write(log, said, sizeof said - 1) < 0;
}

int main(int argc, char **argv)
{
	int status = argc < 2 || argc > 3 ? 2 : reseed(argv[1]);

	if (!status && argc == 3)
		status = set_clock(argv[2]);
	if (status == 2)
		fprintf(stderr, "usage: thaw SEED [NANOSECONDS], SEED being %d bytes in hexadecimal\n", SEED);
	return status;
}
