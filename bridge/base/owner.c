#include "bridge/base/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_directory(const char *path)
{
    char *copy = strdup(path);
    int directory = copy != NULL ? open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    free(copy);
    return directory;
}

/* A file just made in that directory. */
static void give(int file, int directory)
{
    struct stat status;
    if (geteuid() == 0 && fstat(directory, &status) == 0 && status.st_uid != 0)
        (void)!fchown(file, status.st_uid, status.st_gid);
}

int owner_open(const char *path, int flags, mode_t mode)
{
    flags |= O_CLOEXEC;
    if (geteuid() != 0)
        return open(path, flags | O_CREAT, mode);
    flags |= O_NOFOLLOW;
    int file = open(path, flags | O_CREAT | O_EXCL, mode);
    if (file < 0)
        return errno == EEXIST ? open(path, flags) : -1;
    int directory = open_directory(path);
    if (directory >= 0) {
        give(file, directory);
        close(directory);
    }
    return file;
}

void owner_make(const char *path, mode_t mode)
{
    int file = geteuid() == 0 ? owner_open(path, O_RDWR | O_NONBLOCK | O_NOCTTY, mode) : -1;
    if (file >= 0)
        close(file);
}

bool owner_is_other(const char *path, char name[OWNER_NAME_MAX + 1])
{
    struct stat status;
    int directory = geteuid() == 0 && *path != '\0' ? open_directory(path) : -1;
    if (directory < 0)
        return false;
    bool other = fstat(directory, &status) == 0 && status.st_uid != 0;
    close(directory);
    if (!other)
        return false;
    const struct passwd *user = getpwuid(status.st_uid);
    if (user != NULL)
        snprintf(name, OWNER_NAME_MAX + 1, "%s", user->pw_name);
    else
        snprintf(name, OWNER_NAME_MAX + 1, "%lu", (unsigned long)status.st_uid);
    return true;
}
