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

#include "bridge/base/log.h"

static int open_directory(const char *path)
{
    char *copy = strdup(path);
    int directory = copy != NULL ? open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    free(copy);
    return directory;
}

static void say(const char *path, uid_t owner)
{
    char text[1024];
    struct passwd entry, *user = NULL;
    char name[12];
    (void)getpwuid_r(owner, &entry, text, sizeof text, &user);
    (void)snprintf(name, sizeof name, "%lu", (unsigned long)owner);
    log_warning("this is root: %s is given to %s, whose directory it is; better run as that user",
                path, user != NULL ? user->pw_name : name);
}

/* Gives a file just made to the owner of its directory. */
static void give(int file, const char *path)
{
    struct stat status;
    int directory = open_directory(path);
    if (directory < 0)
        return;
    if (fstat(directory, &status) == 0 && status.st_uid != 0 &&
        fchown(file, status.st_uid, status.st_gid) == 0)
        say(path, status.st_uid);
    close(directory);
}

bool owner_follows(const char *path)
{
    struct stat status;
    return geteuid() != 0 || lstat(path, &status) != 0 || !S_ISLNK(status.st_mode);
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
    give(file, path);
    return file;
}

void owner_make(const char *path, mode_t mode)
{
    int file = geteuid() == 0 ? owner_open(path, O_RDWR | O_NONBLOCK | O_NOCTTY, mode) : -1;
    if (file >= 0)
        close(file);
}
