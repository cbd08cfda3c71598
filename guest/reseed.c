/*
 * Seeds the kernel's random numbers anew with the bytes that it is given in hexadecimal, and says so
 * in the kernel's log. Forks of one VM would otherwise draw the same numbers: this kernel has no
 * driver for the VM generation id (CONFIG_VMGENID), which does it by itself elsewhere. The driver has
 * the guest agent run it when a fork goes on. random(4).
 */
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SEED = 32 };

int main(int argc, char **argv)
{
	static const char said[] = "<5>steading: random numbers are seeded anew\n";
	struct {
		int entropy_bits;
		int size;
		unsigned char bytes[SEED];
	} seed = { .entropy_bits = SEED * 8, .size = SEED };
	int device = open("/dev/urandom", O_RDWR | O_CLOEXEC), log;

	if (argc != 2 || strlen(argv[1]) != 2 * SEED) {
		fprintf(stderr, "usage: reseed HEX, of %d bytes\n", SEED);
		return 2;
	}
	for (int at = 0; at < SEED; at++) {
		if (sscanf(argv[1] + 2 * at, "%2hhx", &seed.bytes[at]) != 1)
			return 2;
	}
	if (device < 0 || ioctl(device, RNDADDENTROPY, &seed) || ioctl(device, RNDRESEEDCRNG)) {
		perror("/dev/urandom");
		return 1;
	}
	log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	return log < 0 || write(log, said, sizeof said - 1) < 0;
}
