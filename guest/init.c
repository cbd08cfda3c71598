/*
 * The whole of the initial RAM disk's user space: load a few modules, mount the root file system,
 * hand over to systemd.
 *
 * A shell and its helpers would do the same, but under emulation every exec costs tens of
 * milliseconds, and this runs before everything else. For the same reason it does some things
 * here, in system calls, for which systemd would start a process each:
 *
 *   - the host name, from the credential system.hostname (systemd 252 does not know that one yet);
 *   - root's SSH keys, from the credential ssh.authorized_keys.root;
 *   - the few kernel settings that decide how soon an IPv6 address is usable;
 *   - the reading of what systemd is about to execute, in a few large requests;
 *   - the device nodes that load their module when opened.
 *
 * Credentials come as SMBIOS type 11 strings (QEMU: -smbios type=11,value=...), in the form that
 * systemd defines; systemd reads them again and hands them to services. Those that are too large for
 * that come as files (QEMU: -fw_cfg), and systemd alone reads them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* How long to wait for the root disk before giving up, in tries of 10 ms. */
enum { ROOT_TRIES = 3000 };

static void say(const char *format, ...)
{
	va_list args;

	fputs("steading init: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* Ends process 1, at which the kernel panics: visible on the console and to QEMU's pvpanic. */
static _Noreturn void fail(const char *what)
{
	say("%s: %s", what, strerror(errno));
	exit(1);
}

/* Reads a small file whole; returns a NUL-terminated buffer, or NULL. */
static char *read_file(const char *path, size_t *length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = 0, room = 4096;
	char *data;
	ssize_t got;

	if (fd < 0)
		return NULL;
	data = malloc(room + 1);
	while (data && (got = read(fd, data + size, room - size)) > 0) {
		size += got;
		if (size == room)
			data = realloc(data, (room *= 2) + 1);
	}
	close(fd);
	if (data)
		data[size] = 0;
	if (length)
		*length = size;
	return data;
}

static bool write_file(const char *path, int flags, const char *data, size_t length)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0600);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, data, length) == (ssize_t)length;
	close(fd);
	return done;
}

static void set(const char *path, const char *value)
{
	write_file(path, 0, value, strlen(value));
}

/* Loads a module of the initial RAM disk, and frees its memory. */
static void load_module(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof path, "/modules/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	/* A device that this machine lacks (ENODEV) is no reason to worry anybody. */
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENODEV))
		say("module %s: %s", name, strerror(errno));
	close(fd);
	unlink(path);
}

/* Loads the modules named, in order, in the file at `list`. */
static void load_modules(const char *list)
{
	char *names = read_file(list, NULL), *rest = names, *name;

	while ((name = strsep(&rest, "\n")))
		if (*name)
			load_module(name);
	free(names);
}

/* The value of NAME= on the kernel's command line, or the fallback. */
static const char *argument(const char *name, const char *fallback)
{
	static char *line;
	size_t length = strlen(name);
	char *word, *rest, *copy;

	if (!line && !(line = read_file("/proc/cmdline", NULL)))
		return fallback;
	rest = copy = strdup(line);
	while ((word = strsep(&rest, " \n")))
		if (!strncmp(word, name, length) && word[length] == '=')
			return word + length + 1;
	free(copy);
	return fallback;
}

/* Finds the block device of the partition with this name (PARTLABEL), as /dev/NAME. */
static bool find_partition(const char *label, char *device, size_t room)
{
	DIR *dir = opendir("/sys/class/block");
	struct dirent *entry;
	char path[512], line[256];
	bool found = false;

	if (!dir)
		return false;
	snprintf(line, sizeof line, "\nPARTNAME=%s\n", label);
	while (!found && (entry = readdir(dir))) {
		char *event;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/sys/class/block/%s/uevent", entry->d_name);
		event = read_file(path, NULL);
		if (event && strstr(event, line)) {
			snprintf(device, room, "/dev/%s", entry->d_name);
			found = true;
		}
		free(event);
	}
	closedir(dir);
	return found;
}

/* Mounts the file system on `source`, /dev/... or PARTLABEL=..., as soon as it is there. */
static void mount_disk(const char *source, const char *target, const char *type, unsigned long flags)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	char device[512];

	for (int try = 0;; try++) {
		bool found = true;

		if (!strncmp(source, "PARTLABEL=", 10))
			found = find_partition(source + 10, device, sizeof device);
		else
			snprintf(device, sizeof device, "%s", source);
		if (found && !mount(device, target, type, flags, NULL))
			return;
		if (try == 0)
			say("waiting for the file system of %s, %s", target, source);
		if (try == ROOT_TRIES)
			fail(source);
		nanosleep(&pause, NULL);
	}
}

/*
 * The root file system, ext4 unless rootfstype= says otherwise. One that cannot be written to, squashfs,
 * gets a layer in memory on top, so that each boot begins with it as it was made; what is to last
 * is in /var, on a partition of its own that is given by steading.var=.
 */
static void mount_root(void)
{
	const char *root = argument("root", "PARTLABEL=root");
	const char *type = argument("rootfstype", "ext4");
	const char *var = argument("steading.var", "");

	if (strcmp(type, "squashfs")) {
		mount_disk(root, "/root", type, MS_NOATIME);
	} else {
		mkdir("/below", 0755);
		mkdir("/above", 0755);
		mount_disk(root, "/below", type, MS_RDONLY);
		if (mount("above", "/above", "tmpfs", 0, "mode=0755") || mkdir("/above/files", 0755) ||
		    mkdir("/above/work", 0755) ||
		    mount("root", "/root", "overlay", MS_NOATIME,
			  "lowerdir=/below,upperdir=/above/files,workdir=/above/work"))
			fail("the layer above the root file system");
	}
	if (*var)
		mount_disk(var, "/root/var", "ext4", MS_NOATIME);
}

/*
 * Starts to read the files named, one a line, in `list`: programs and libraries of the boot. Left to
 * page faults they would come in small pieces, each of which stops the only CPU there is.
 */
static void read_ahead(const char *list)
{
	char *names = read_file(list, NULL), *rest = names, *name;
	char path[512];

	while ((name = strsep(&rest, "\n"))) {
		int fd;

		snprintf(path, sizeof path, "/root%s", name);
		if (!*name || (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
			continue;
		/* Asynchronous; length 0 is to the end. */
		posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
		close(fd);
	}
	free(names);
}

/* Decodes base64 in place; returns the length, or -1. */
static ssize_t decode_base64(char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0;
	int held = 0;
	char *to = text;

	for (const char *from = text; *from && *from != '='; from++) {
		const char *digit = strchr(digits, *from);

		if (!digit)
			return -1;
		bits = bits << 6 | (digit - digits);
		held += 6;
		if (held >= 8)
			*to++ = bits >> (held -= 8);
	}
	*to = 0;
	return to - text;
}

/* Makes a credential take effect, if it is one of the two that are known here. */
static void use_credential(const char *name, const char *value, size_t length)
{
	if (!strcmp(name, "system.hostname")) {
		while (length && value[length - 1] == '\n')
			length--;
		if (sethostname(value, length))
			say("credential system.hostname: %s", strerror(errno));
	} else if (!strcmp(name, "ssh.authorized_keys.root")) {
		const char *path = "/root/root/.ssh/authorized_keys";
		char *present;
		bool done;

		mkdir("/root/root/.ssh", 0700);
		/* Like systemd's tmpfiles: what is already there stays (a test may have edited it). */
		if ((present = read_file(path, NULL))) {
			bool filled = *present;

			free(present);
			if (filled)
				return;
		}
		done = write_file(path, O_CREAT | O_TRUNC, value, length);
		if (done && length && value[length - 1] != '\n')
			done = write_file(path, O_APPEND, "\n", 1);
		if (!done)
			say("credential ssh.authorized_keys.root: %s", strerror(errno));
	}
}

/* One OEM string: io.systemd.credential:NAME=VALUE, or io.systemd.credential.binary:NAME=BASE64. */
static void use_oem_string(char *text)
{
	static const char plain[] = "io.systemd.credential:", binary[] = "io.systemd.credential.binary:";
	/* There are more credentials, which systemd finds in /sys/firmware/qemu_fw_cfg. */
	static const char more[] = "steading.credentials=fw_cfg";
	bool encoded = !strncmp(text, binary, sizeof binary - 1);
	char *name, *value;
	ssize_t length;

	if (encoded)
		name = text + sizeof binary - 1;
	else if (!strncmp(text, plain, sizeof plain - 1))
		name = text + sizeof plain - 1;
	else {
		if (!strcmp(text, more))
			load_module("qemu_fw_cfg.ko");
		return;
	}
	value = strchr(name, '=');
	if (!value)
		return;
	*value++ = 0;
	length = encoded ? decode_base64(value) : (ssize_t)strlen(value);
	if (length < 0)
		say("credential %s: not base64", name);
	else
		use_credential(name, value, length);
}

/*
 * SMBIOS 3.x, 7.12 "OEM Strings": a header whose second byte is its own length, then
 * NUL-terminated strings up to an empty one. The kernel shows each such entry as 11-N.
 */
static void read_smbios(void)
{
	for (unsigned entry = 0;; entry++) {
		char path[80], *raw, *text;
		size_t length;

		snprintf(path, sizeof path, "/sys/firmware/dmi/entries/11-%u/raw", entry);
		raw = read_file(path, &length);
		if (!raw)
			return;
		text = raw + (length > 1 ? (unsigned char)raw[1] : length);
		while (text < raw + length && *text) {
			char *next = text + strlen(text) + 1;

			use_oem_string(text);
			text = next;
		}
		free(raw);
	}
}

/*
 * Before the network driver is loaded, so that every card gets these: addresses are known and
 * unique by construction, so duplicate address detection (a second) would only delay; routers are
 * asked at once; the host learns a new address from the guest instead of asking in vain.
 */
static void set_network_defaults(void)
{
	set("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
	set("/proc/sys/net/ipv6/conf/default/dad_transmits", "0");
	set("/proc/sys/net/ipv6/conf/default/router_solicitation_delay", "0");
	set("/proc/sys/net/ipv6/conf/default/ndisc_notify", "1");
	set("/proc/sys/net/ipv6/conf/default/use_tempaddr", "0");
}

/*
 * The disk is the host's, which orders requests itself: here they pass unsorted and are not held back for each other
 * (Documentation/block/switching-sched.rst, Documentation/ABI/stable/sysfs-block). A disk that has no such
 * file, or was added later, keeps the kernel's ways.
 */
static void pass_requests_on(void)
{
	struct dirent *disk;
	char path[320];
	DIR *disks = opendir("/sys/block");

	while (disks && (disk = readdir(disks))) {
		if (strncmp(disk->d_name, "vd", 2))
			continue;
		snprintf(path, sizeof path, "/sys/block/%s/queue/scheduler", disk->d_name);
		set(path, "none");
		snprintf(path, sizeof path, "/sys/block/%s/queue/wbt_lat_usec", disk->d_name);
		set(path, "0");
	}
	if (disks)
		closedir(disks);
}

static void make_nodes(void)
{
	static const struct { const char *path; mode_t mode; unsigned minor; } nodes[] = {
		/* Numbers: Linux, Documentation/admin-guide/devices.txt, major 10. */
		{ "/dev/net/tun", 0666, 200 }, { "/dev/fuse", 0666, 229 }, { "/dev/kvm", 0660, 232 },
		{ "/dev/loop-control", 0660, 237 }, { "/dev/vhost-net", 0660, 238 },
	};

	mkdir("/dev/net", 0755);
	umask(0);
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
		mknod(nodes[i].path, S_IFCHR | nodes[i].mode, makedev(10, nodes[i].minor));
	umask(022);
}

/*
 * systemd's search path for units (systemd.unit(5)) without the second name of /usr/lib, in which it
 * would look for every unit and its drop-ins again. There are no generators in the image, but a package that
 * a test installs may bring one.
 */
static char unit_path[] = "SYSTEMD_UNIT_PATH=/etc/systemd/system.control:/run/systemd/system.control:"
			  "/run/systemd/transient:/run/systemd/generator.early:/etc/systemd/system:"
			  "/run/systemd/system:/run/systemd/generator:/usr/local/lib/systemd/system:"
			  "/usr/lib/systemd/system:/run/systemd/generator.late";

int main(void)
{
	static const char *const kept[] = { "/dev", "/proc", "/sys", "/run" };
	int fd;

	umask(022);
	mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
	/* The kernel opened no console for us if the archive held no /dev/console. */
	if ((fd = open("/dev/console", O_RDWR)) >= 0)
		for (int i = 0; i < 3; i++)
			dup2(fd, i);
	if (fd > 2)
		close(fd);
	mount("proc", "/proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
	mount("sys", "/sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
	mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");

	set_network_defaults();
	load_modules("/modules/order");
	mount_root();
	pass_requests_on();
	read_ahead("/root/usr/lib/steading/readahead");
	read_smbios();
	make_nodes();

	/* The journal goes to the disk from its first line: /var is there already. */
	mkdir("/run/systemd", 0755);
	mkdir("/run/systemd/journal", 0755);
	write_file("/run/systemd/journal/flushed", O_CREAT, "", 0);
	mkdir("/run/lock", 0755);

	unlink("/modules/order");
	unlink("/init");
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		char to[16];

		snprintf(to, sizeof to, "/root%s", kept[i]);
		if (mount(kept[i], to, NULL, MS_MOVE, NULL))
			fail(kept[i]);
	}
	if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		fail("root file system");
	putenv(unit_path);
	execl("/lib/systemd/systemd", "/sbin/init", (char *)NULL);
	fail("/lib/systemd/systemd");
}
