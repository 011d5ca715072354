/* owner: whose the files are that a process makes as root.
 *
 * The service has a user of its own, and that user must be able to open what a
 * run of `fluxbridge` as root has left behind. So what root makes is given to the
 * owner of its directory, and the log says so. And root follows no symbolic link
 * there, for that user may have put it there. Nothing is different for any other
 * user. Any thread.
 */
#ifndef BRIDGE_BASE_OWNER_H
#define BRIDGE_BASE_OWNER_H

#include <stdbool.h>
#include <sys/types.h>

/* False: it is a symbolic link, and this is root. */
bool owner_follows(const char *path);

/* open(2) with O_CREAT and O_CLOEXEC. */
int owner_open(const char *path, int flags, mode_t mode);

/* For a library that opens files itself: an empty one, unless there is one. What
 * goes wrong here goes wrong there, too. */
void owner_make(const char *path, mode_t mode);

#endif
