// SPDX-License-Identifier: Apache-2.0
/* The folders and device nodes in the jail. */
#include "jailer/devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "jailer/mounts.h"
#include "jailer/sys.h"

static const char step_folders[] = "make the folders";
static const char step_owner[] = "make things as the jail's user";
static const char step_devices[] = "make the devices";

struct device_row {
	const char *path;
	unsigned major, minor;
};

static const struct device_row rows[] = {
	[DEVICE_TUN] = {"/dev/net/tun", 10, 200},
	[DEVICE_KVM] = {"/dev/kvm", 10, 232},
	[DEVICE_URANDOM] = {"/dev/urandom", 1, 9},
	[DEVICE_UFFD] = {"/dev/userfaultfd", 10, 0 /* the host's, in the plan */},
};
_Static_assert(sizeof(rows) / sizeof(rows[0]) == DEVICE_COUNT, "a row for each");

static const char *const folders[] = {"/dev", "/dev/net", "/run"};

const char *device_path(enum device device)
{
	return rows[device].path;
}

static int record(struct journal *journal, const char *path, struct jail_error *error)
{
	if (journal_add(journal, JOURNAL_INSIDE, path + 1))
		return jail_fail(error, PLACE(step_devices, "journal", path),
				 "Failed to remember %s", path);
	return 0;
}

/*
 * What is made from here on is the jail's user's from its first moment: as a process of that user makes it, but with root's
 * capabilities. Changing the owner of each thing afterwards takes a quarter of the time of making it.
 */
static int make_as_user(const struct jail_plan *plan, struct jail_error *error)
{
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
		return jail_fail(error, PLACE(step_owner, "prctl(PR_SET_SECUREBITS)", NULL),
				 "Failed to keep capabilities");
	/* they tell the former ids, never an error */
	setfsgid(plan->gid);
	setfsuid(plan->uid);
	if ((gid_t)setfsgid(plan->gid) != plan->gid || (uid_t)setfsuid(plan->uid) != plan->uid)
		return jail_refuse(error,
				   "Failed to make things as %u:%u: the kernel refused the ids",
				   plan->uid, plan->gid);
	return 0;
}

/* The process's root: it exists, and is no link. */
static int take_root(const struct jail_plan *plan, struct jail_error *error)
{
	if (chmod("/", 0700))
		return jail_fail(error, PLACE(step_folders, "chmod", "/"),
				 "Failed to change permissions on /");
	if (chown("/", plan->uid, plan->gid))
		return jail_fail(error, PLACE(step_folders, "chown", "/"),
				 "Failed to change owner for /");
	return 0;
}

/* What was there before. A former tenant may have put a link in a folder's place: it is not followed. */
static int take_folder(const struct jail_plan *plan, const char *path, struct jail_error *error)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return jail_fail(error, PLACE(step_folders, "open", path),
				 "Failed to create directory %s", path);
	if (fchmod(fd, 0700))
		return jail_fail(error, PLACE(step_folders, "fchmod", path),
				 "Failed to change permissions on %s", path);
	if (fchown(fd, plan->uid, plan->gid))
		return jail_fail(error, PLACE(step_folders, "fchown", path),
				 "Failed to change owner for %s", path);
	return 0;
}

static int make_folder(const struct jail_plan *plan, const char *path, struct journal *journal,
		       struct jail_error *error)
{
	if (mkdir(path, 0700)) {
		if (errno == EEXIST)
			return take_folder(plan, path, error);
		return jail_fail(error, PLACE(step_folders, "mkdir", path),
				 "Failed to create directory %s", path);
	}
	return record(journal, path, error);
}

static int make_node(const struct jail_plan *plan, enum device device, struct journal *journal,
		     struct jail_error *error)
{
	const char *path = rows[device].path;
	unsigned minor = device == DEVICE_UFFD ? plan->uffd_minor : rows[device].minor;
	if (mknod(path, S_IFCHR | 0600, makedev(rows[device].major, minor)))
		return jail_fail(error, PLACE(step_devices, "mknod", path),
				 "Failed to create %s via mknod inside the jail", path);
	return record(journal, path, error);
}

/* Without privileges there is no mknod(): mounts_seal() puts the host's node on an empty file. */
static int make_place(enum device device, struct journal *journal, struct jail_error *error)
{
	const char *path = rows[device].path;
	cleanup_fd int fd = sys_make_file(path, 0600);
	if (fd < 0)
		return jail_fail(error, PLACE(step_devices, "open", path),
				 "Failed to create %s inside the jail", path);
	return record(journal, path, error);
}

/* What the program can do without is missing with a warning. */
static int make_device(const struct jail_plan *plan, const struct mounts_held *held,
		       enum device device, struct journal *journal, struct jail_error *error)
{
	if (plan->rootless) {
		if (held->devices[device] >= 0)
			return make_place(device, journal, error);
		fprintf(stderr, "Warning! The host has no %s: the jail has none either.\n",
			rows[device].path);
		return 0;
	}
	if (device == DEVICE_UFFD && !plan->has_uffd)
		return 0;
	int rc = make_node(plan, device, journal, error);
	if (rc && device == DEVICE_URANDOM) {
		fprintf(stderr,
			"Warning! Could not create /dev/urandom device inside jailer: %s.\n"
			"MMDS version 2 will not be available to use.\n",
			strerror(-rc));
		return 0;
	}
	return rc;
}

int devices_make(const struct jail_plan *plan, const struct mounts_held *held,
		 struct journal *journal, struct jail_error *error)
{
	int rc = take_root(plan, error);
	if (!rc && !plan->rootless)
		rc = make_as_user(plan, error);
	for (size_t i = 0; !rc && i < sizeof(folders) / sizeof(folders[0]); i++)
		rc = make_folder(plan, folders[i], journal, error);
	for (int i = 0; !rc && i < DEVICE_COUNT; i++)
		rc = make_device(plan, held, (enum device)i, journal, error);
	return rc;
}

static bool is_node(unsigned char type)
{
	return type == DT_BLK || type == DT_CHR;
}

static bool folder_has_nodes(DIR *folder, bool deeper)
{
	bool found = false;
	struct dirent *entry;
	while (!found && (entry = readdir(folder))) {
		found = is_node(entry->d_type);
		if (found || !deeper || entry->d_type != DT_DIR ||
		    strcmp(entry->d_name, "dev") == 0 || strcmp(entry->d_name, ".") == 0 ||
		    strcmp(entry->d_name, "..") == 0)
			continue;
		int fd = openat(dirfd(folder), entry->d_name,
				O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		DIR *inner = fd < 0 ? NULL : fdopendir(fd);
		if (inner) {
			found = folder_has_nodes(inner, false);
			closedir(inner);
		} else {
			close_fd(fd);
		}
	}
	return found;
}

bool devices_were_put(void)
{
	DIR *root = opendir("/");
	if (!root)
		return false;
	bool found = folder_has_nodes(root, true);
	closedir(root);
	return found;
}
