#include "devices/lines/claim.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 256 };

/* Opens a directory that nobody but its owner can write to, who is this user or
 * root; makes it when it is not there. Else -1 with errno: another one is the place then,
 * but not for want of what may be had again in a moment: whoever came before is in this one. */
static int open_private(const char *path)
{
    struct stat status;
    (void)mkdir(path, S_IRWXU | S_IRGRP | S_IXGRP | S_IROTH | S_IXOTH);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0)
        return -1;
    bool good = fstat(directory, &status) == 0 &&
                (status.st_uid == geteuid() || status.st_uid == 0 || geteuid() == 0) &&
                (status.st_mode & (S_IWGRP | S_IWOTH)) == 0 &&
                faccessat(directory, ".", W_OK | X_OK, AT_EACCESS) == 0;
    if (good)
        return directory;
    close(directory);
    errno = EACCES;
    return -1;
}

static bool is_short(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM;
}

static int open_directory(void)
{
    char path[PATH_SIZE];
    const char *own = getenv("XDG_RUNTIME_DIR");
    int directory = open_private("/run/fluxbridge");
    if (directory < 0 && !is_short(errno) && own != NULL && own[0] == '/' &&
        snprintf(path, sizeof(path), "%s/fluxbridge", own) < (int)sizeof(path))
        directory = open_private(path);
    (void)snprintf(path, sizeof(path), "/tmp/fluxbridge-%u", (unsigned)geteuid());
    return directory >= 0 || is_short(errno) ? directory : open_private(path);
}

/* As root the file goes to the owner of its directory, who may come later. */
static int open_file(int directory, const char *name)
{
    struct stat status;
    int file = openat(directory, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK,
                      S_IRUSR | S_IWUSR); /* who could open it could lock it */
    if (file >= 0 && geteuid() == 0 && fstat(directory, &status) == 0 && status.st_uid != 0 &&
        fchown(file, status.st_uid, status.st_gid) != 0) {
        /* Then its directory's owner cannot take it, and is told so. */
    }
    return file;
}

static void read_holder(int file, char holder[CLAIM_TEXT_MAX])
{
    ssize_t size = pread(file, holder, CLAIM_TEXT_MAX - 1, 0);
    holder[size > 0 ? size : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
    if (holder[0] == '\0')
        (void)snprintf(holder, CLAIM_TEXT_MAX, "another fluxbridge");
}

static bool write_holder(int file, const char *who)
{
    return ftruncate(file, 0) == 0 && pwrite(file, who, strlen(who), 0) == (ssize_t)strlen(who);
}

/* A full disk is no reason against it: the lock is what counts. */
static void tell_holder(struct claim *claim, const char *who)
{
    (void)write_holder(claim->file, who);
    (void)snprintf(claim->who, sizeof(claim->who), "%s", who);
}

/* A file that was removed holds nobody off: whoever comes then makes another one. */
static bool is_removed(int file)
{
    struct stat status;
    return fstat(file, &status) == 0 && status.st_nlink == 0;
}

/* A locked file, or -1. */
static int take(const char *peer, unsigned unit, char holder[CLAIM_TEXT_MAX])
{
    char name[PATH_SIZE];
    (void)snprintf(name, sizeof(name), "%s-unit-%u.claim", peer, unit);
    for (char *at = name; *at != '\0'; at++)
        *at = isalnum((unsigned char)*at) || strchr(".:-", *at) != NULL ? *at : '_';

    int directory = open_directory();
    int file = directory >= 0 ? open_file(directory, name) : -1;
    if (file >= 0 && (flock(file, LOCK_EX | LOCK_NB) != 0 || is_removed(file))) {
        read_holder(file, holder);
        close(file);
        file = -1;
    } else if (file < 0) {
        (void)snprintf(holder, CLAIM_TEXT_MAX, "nobody: no claim can be taken: %s: %s",
                       directory < 0 ? "no directory for it" : name, strerror(errno));
    }
    if (directory >= 0)
        close(directory);
    return file;
}

void claim_init(struct claim *claim)
{
    *claim = (struct claim){.file = -1};
}

void claim_release(struct claim *claim)
{
    if (claim->file >= 0)
        close(claim->file);
    claim->file = -1;
}

bool claim_hold(struct claim *claim, const char *peer, unsigned unit, const char *who,
                char holder[CLAIM_TEXT_MAX])
{
    if (claim->file >= 0 && strcmp(claim->peer, peer) == 0 && !is_removed(claim->file)) {
        if (strcmp(claim->who, who) != 0)
            tell_holder(claim, who);
        return true;
    }
    int file = take(peer, unit, holder);
    claim->denied = file < 0;
    if (file < 0)
        return false;
    claim_release(claim); /* its name leads elsewhere now, or its file is gone */
    claim->file = file;
    tell_holder(claim, who);
    (void)snprintf(claim->peer, sizeof(claim->peer), "%s", peer);
    return true;
}
