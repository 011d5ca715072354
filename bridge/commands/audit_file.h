/* audit_file: the file of the audit log: whole lines, on disk before it returns.
 *
 * A file that holds something else is refused and left alone. Everything here may
 * wait for the disk, however long that takes. Functions return 0 or an errno.
 */
#ifndef BRIDGE_COMMANDS_AUDIT_FILE_H
#define BRIDGE_COMMANDS_AUDIT_FILE_H

#include <stdbool.h>
#include <sys/uio.h>

/* Opens or makes it (mode 0640), ready for whole lines; `*file` is -1 after a
 * failure. EEXIST: it is no audit log. */
int audit_file_open(const char *path, int *file);

/* Whether it would be refused as no audit log. Changes nothing. */
bool audit_file_is_foreign(const char *path);

/* Whether it still has a name: lines in a deleted one are lost. */
bool audit_file_is_linked(int file);

/* Whether the file system has room for more. Some do not count blocks; those have. */
bool audit_file_has_room(int file);

/* Writes all of these lines and waits for the disk, or takes back what was written. */
int audit_file_write(int file, const struct iovec *lines, int n);

/* What to do about an errno. */
const char *audit_file_remedy(int error);

/* The lines of `path`.1 and `path`, oldest first, the last 16 MiB of each, are put behind `*size`
 * bytes of `*lines`, which is malloc'ed and may be NULL. A file that is not there, is no file or
 * cannot be read has none. */
int audit_file_read(const char *path, char **lines, size_t *size);

#endif
